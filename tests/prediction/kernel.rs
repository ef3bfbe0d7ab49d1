//! Users, networks and devices of the test's own: the calls that neither socket2 nor rustix has.
#![expect(unsafe_code, reason = "unshare and ioctl")]

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use rustix::process::Uid;
use rustix::thread::{UnshareFlags, set_thread_res_uid};

/// A second device, which nothing ever comes in by.
pub(crate) const OTHER_DEVICE: &str = "other";
/// An address of the loopback device that no socket of a case is bound to.
pub(crate) const SPARE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

/// What this process may do.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// Whether there are users beside the one who runs this.
    pub(crate) users: bool,
    /// Whether devices can be added.
    pub(crate) devices: bool,
}

impl Rights {
    /// Tries it. The process has one thread yet.
    pub(crate) fn probe() -> Result<Self, String> {
        let euid = rustix::process::geteuid().as_raw();
        if euid != 0 {
            unshare(UnshareFlags::NEWUSER)
                .and_then(|()| std::fs::write("/proc/self/uid_map", format!("{euid} {euid} 1")))
                .map_err(|error| format!("needs user namespaces: {error}"))?;
        }
        // In a thread: what it finds out is no part of what follows.
        let tried = std::thread::spawn(new_network).join().expect("no panic");
        let devices = tried.map_err(|error| format!("needs a network namespace: {error}"))?;
        let users = euid == 0 && acting_as(1, || Ok(())).is_ok();
        Ok(Self { users, devices })
    }
}

fn unshare(what: UnshareFlags) -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors would split); it is not asked for.
    Ok(unsafe { rustix::thread::unshare_unsafe(what) }?)
}

/// Moves the calling thread into a new network with a loopback that is up, and a second device if
/// this kernel has bridges: then true.
pub(crate) fn new_network() -> io::Result<bool> {
    unshare(UnshareFlags::NEWNET)?;
    bring_up("lo")?;
    add_spare_address()?;
    let settled = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        std::net::UdpSocket::bind((SPARE, 0))
            .and_then(|socket| socket.send_to(b"x", socket.local_addr()?))
            .is_ok()
    });
    assert!(settled, "the loopback device has {SPARE}");
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 60999")?;
    add_bridge(OTHER_DEVICE)
}

/// Does `act` with this effective user, which owns the sockets that it makes and has no rights.
pub(crate) fn acting_as<T>(uid: u32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = rustix::process::geteuid();
    if before.as_raw() == uid {
        return act();
    }
    set_thread_res_uid(None, Uid::from_raw(uid), None)?;
    let result = act();
    set_thread_res_uid(None, before, None).expect("the saved user is still that one");
    result
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data of the C library; all zeros is a value of each of its members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request
}

fn any_socket(domain: socket2::Domain) -> io::Result<socket2::Socket> {
    socket2::Socket::new(domain, socket2::Type::DGRAM, None)
}

fn bring_up(name: &str) -> io::Result<()> {
    const IFF_UP: libc::c_short = 1; // linux/if.h; libc has it as an int
    let any = any_socket(socket2::Domain::IPV4)?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = IFF_UP;
    // SAFETY: SIOCSIFFLAGS reads one ifreq; `request` is one and outlives the call. netdevice(7).
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn add_bridge(name: &str) -> io::Result<bool> {
    const SIOCBRADDBR: u16 = 0x89a0; // linux/sockios.h
    let any = any_socket(socket2::Domain::IPV4)?;
    let request = interface_request(name);
    let name_of_it = request.ifr_name.as_ptr();
    // SAFETY: SIOCBRADDBR reads a name of IFNAMSIZ bytes; `ifr_name` is one and outlives the call.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), SIOCBRADDBR.into(), name_of_it) };
    match io::Error::last_os_error() {
        _ if done == 0 => bring_up(name).map(|()| true),
        error if error.raw_os_error() == Some(libc::ENOPKG) => Ok(false),
        error => Err(error),
    }
}

fn add_spare_address() -> io::Result<()> {
    /// `struct in6_ifreq` of linux/ipv6.h.
    #[repr(C)]
    struct Request {
        address: [u8; 16],
        prefix: u32,
        interface: i32,
    }
    const LOOPBACK: i32 = 1; // the first device of every network
    let any = any_socket(socket2::Domain::IPV6)?;
    let request = Request { address: SPARE.octets(), prefix: 128, interface: LOOPBACK };
    // SAFETY: SIOCSIFADDR on an IPv6 socket reads one in6_ifreq; `request` is laid out as one.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFADDR as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
