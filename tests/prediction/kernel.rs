//! The network namespace of a batch of cases, and what this process can do.
#![expect(unsafe_code, reason = "ioctl")]

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::netns::{self, add_bridge, with_effective_uid};

/// A second device, which receives nothing.
pub(crate) const OTHER_DEVICE: &str = "other";
/// An address of the loopback device that no socket of a case binds.
pub(crate) const SPARE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

/// The rights of this process.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// Whether the process can open sockets of other users.
    pub(crate) users: bool,
    /// Whether the process can add devices.
    pub(crate) devices: bool,
}

impl Rights {
    /// Moves the process, which must have one thread, into a new user namespace unless it is root.
    pub(crate) fn probe() -> Result<Self, String> {
        let euid = rustix::process::geteuid().as_raw();
        if euid != 0 {
            netns::new_user_namespace(&netns::uid_map(euid, euid))
                .map_err(|error| format!("needs user namespaces: {error}"))?;
        }
        // A thread of its own: the process stays in its network namespace.
        let devices = std::thread::spawn(new_netns).join().expect("no panic");
        let devices = devices.map_err(|error| format!("needs a network namespace: {error}"))?;
        let users = euid == 0 && with_effective_uid(1, || Ok(())).is_ok();
        Ok(Self { users, devices })
    }
}

/// Moves the calling thread into a new network namespace with a loopback device that is up.
/// True: the namespace has a second device, because this kernel has bridges.
pub(crate) fn new_netns() -> io::Result<bool> {
    netns::new_netns()?;
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

fn add_spare_address() -> io::Result<()> {
    /// `struct in6_ifreq` of linux/ipv6.h.
    #[repr(C)]
    struct Request {
        address: [u8; 16],
        prefix: u32,
        interface: i32,
    }
    const LOOPBACK: i32 = 1; // the first device of every network namespace
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    let request = Request { address: SPARE.octets(), prefix: 128, interface: LOOPBACK };
    // SAFETY: SIOCSIFADDR on an IPv6 socket reads one in6_ifreq, whose layout `request` has.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
