//! Network namespaces with devices of their own, and effective users: what tests of the kernel's rules
//! share.
#![expect(unsafe_code, reason = "unshare and ioctl")]

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::process::Uid;
use rustix::thread::{UnshareFlags, set_thread_res_uid};
use socket2::{Domain, Socket, Type};

/// The name of the error in the manual pages; the system's text for an error that no test expects.
pub(crate) fn error_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EPERM) => "EPERM",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ENODEV) => "ENODEV",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ENOSPC) => "ENOSPC",
        _ => return error.to_string(),
    };
    name.to_owned()
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unshare is unsafe for CLONE_FILES only, which no caller passes.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Moves the calling thread into a new network namespace whose loopback device is up.
/// Needs CAP_SYS_ADMIN in the current user namespace. unshare(2).
pub(crate) fn new_netns() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)?;
    bring_up("lo")
}

/// Moves the process, which must have one thread, into a new user namespace with this uid map.
/// Allocates nothing. user_namespaces(7).
pub(crate) fn new_user_namespace(uid_map: &str) -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER)?;
    std::fs::write("/proc/self/uid_map", uid_map)
}

/// The map of a user namespace in which the uid `inside` is the uid `outside`.
pub(crate) fn uid_map(inside: u32, outside: u32) -> String {
    format!("{inside} {outside} 1")
}

/// Calls `call` with this effective uid: new sockets belong to the uid, and other uids than 0 have
/// no capabilities.
pub(crate) fn with_effective_uid<T>(
    uid: u32,
    call: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let before = rustix::process::geteuid();
    if before.as_raw() == uid {
        return call();
    }
    set_thread_res_uid(None, Uid::from_raw(uid), None)?;
    let result = call();
    set_thread_res_uid(None, before, None).expect("the saved uid is the previous one");
    result
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data of the C library; zero is a value of each of its members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "an interface name is shorter than IFNAMSIZ");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request
}

fn bring_up(name: &str) -> io::Result<()> {
    const IFF_UP: libc::c_short = 1; // linux/if.h; an int in libc
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = IFF_UP;
    // SAFETY: SIOCSIFFLAGS reads one ifreq; `request` outlives the call. netdevice(7).
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adds a second device to the network namespace: a bridge without ports, up.
/// False: this kernel has no bridges.
pub(crate) fn add_bridge(name: &str) -> io::Result<bool> {
    const SIOCBRADDBR: u16 = 0x89a0; // linux/sockios.h
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let request = interface_request(name);
    let bridge = request.ifr_name.as_ptr();
    // SAFETY: SIOCBRADDBR reads a name of IFNAMSIZ bytes; `ifr_name` has them and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDBR.into(), bridge) };
    if result == 0 {
        return bring_up(name).map(|()| true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPKG) => Ok(false),
        error => Err(error),
    }
}
