//! The system calls that neither socket2 nor rustix has, one function each, and the errors by name.
#![expect(unsafe_code, reason = "raw setsockopt, ioctl and unshare")]

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::UnshareFlags;

/// The name of an error as the manual pages write it, or what the system says of it.
pub(super) fn error_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EPERM) => "EPERM",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ENOSPC) => "ENOSPC",
        _ => return error.to_string(),
    };
    name.to_owned()
}

/// Whether the error of `socket` says for certain that this kernel lacks the protocol.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EAFNOSUPPORT)
    )
}

/// Moves the calling thread into a new network namespace whose loopback is up.
/// Needs CAP_SYS_ADMIN in the current user namespace. unshare(2).
pub(super) fn new_network() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors would split); it is not asked for.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    bring_up("lo")
}

/// Moves the process into a new user namespace with this map. The process must have one thread.
/// Allocates nothing. user_namespaces(7).
pub(super) fn new_user_namespace(map: &str) -> io::Result<()> {
    // SAFETY: as in `new_network`.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
    std::fs::write("/proc/self/uid_map", map)
}

/// The map of a user namespace in which its user `inside` is the user `outside`.
pub(super) fn user_map(inside: u32, outside: u32) -> String {
    format!("{inside} {outside} 1")
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data of the C library; all zeros is a value of each of its members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "an interface name is shorter than IFNAMSIZ");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request
}

fn bring_up(name: &str) -> io::Result<()> {
    const IFF_UP: libc::c_short = 1; // linux/if.h; libc has it as an int
    let any = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = IFF_UP;
    // SAFETY: SIOCSIFFLAGS reads one ifreq; `request` is one and outlives the call. netdevice(7).
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adds a second network device to the calling thread's network: a bridge without ports, up.
/// False: this kernel has no bridges.
pub(super) fn add_device(name: &str) -> io::Result<bool> {
    const SIOCBRADDBR: u16 = 0x89a0; // linux/sockios.h
    let any = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let request = interface_request(name);
    let name_of_it = request.ifr_name.as_ptr();
    // SAFETY: SIOCBRADDBR reads a name of IFNAMSIZ bytes; `ifr_name` is one and outlives the call.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), SIOCBRADDBR.into(), name_of_it) };
    if done == 0 {
        return bring_up(name).map(|()| true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPKG) => Ok(false),
        error => Err(error),
    }
}

fn set_option<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the kernel reads `length` bytes of `value`, a live T of exactly that size.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// TCP_REPAIR on. Needs CAP_NET_ADMIN in the user namespace of the network.
pub(super) fn repair(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, &on)
}

/// SO_ATTACH_REUSEPORT_CBPF with a program that always returns `index`. socket(7).
pub(super) fn steer(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = 0x06; // BPF_RET | BPF_K, linux/bpf_common.h
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: index }];
    let description = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &description)
}
