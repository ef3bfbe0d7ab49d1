//! A socket of the program, looked at and changed through its descriptor; addresses as these
//! kernels read them (with a length, unlike Linux's); `errno`.

#![expect(unsafe_code, reason = "system calls, and addresses by pointer")]

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{AF_INET, AF_INET6, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use sameport_policy::addr::Protocol;

use super::system;

/// Level and name of a socket option.
pub(super) type Name = (c_int, c_int);

pub(super) const REUSE_ADDRESS: Name = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
pub(super) const REUSE_PORT: Name = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
const TYPE: Name = (libc::SOL_SOCKET, libc::SO_TYPE);
pub(super) const V6ONLY: Name = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);

const LENGTH_4: u8 = 16;
const LENGTH_6: u8 = 28;
const _: () = assert!(size_of::<sockaddr_in>() == LENGTH_4 as usize);
const _: () = assert!(size_of::<sockaddr_in6>() == LENGTH_6 as usize);

/// A TCP or UDP socket of the program.
pub(super) struct Socket {
    fd: c_int,
    /// Where it is bound; without a port and an IP if the program has left both to the kernel.
    pub(super) local: SocketAddr,
    pub(super) protocol: Protocol,
}

impl Socket {
    pub(super) fn of(fd: c_int) -> Option<Self> {
        let mut local = [0u64; 16];
        let mut length: socklen_t = 128;
        let room = local.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `length` bytes, the size of `local`, and the length.
        done(unsafe { libc::getsockname(fd, room, &raw mut length) }).ok()?;
        // SAFETY: these bytes are in `local`.
        let local = unsafe { address_at(room, length) }?;
        let protocol = match option(fd, TYPE)? {
            libc::SOCK_STREAM => Protocol::Tcp,
            libc::SOCK_DGRAM => Protocol::Udp,
            _ => return None,
        };
        let is_ours = system::PROTOCOL.is_none_or(|name| option(fd, name) != Some(SCTP));
        is_ours.then_some(Self { fd, local, protocol })
    }

    pub(super) fn is_v6(&self) -> bool {
        self.local.is_ipv6()
    }

    pub(super) fn has(&self, name: Name) -> bool {
        option(self.fd, name).is_some_and(|value| value != 0)
    }

    pub(super) fn set(&self, (level, name): Name, on: bool) -> io::Result<()> {
        let value = c_int::from(on);
        let value = (&raw const value).cast();
        // SAFETY: the pointer is to four bytes of a live local, which are only read.
        done(unsafe { libc::setsockopt(self.fd, level, name, value, 4) })
    }

    /// Lets it have addresses that are not this machine's.
    pub(super) fn take_any_address(&self) -> io::Result<()> {
        let [four, six] = system::ANY_ADDRESS.ok_or_else(|| errno(libc::ENOPROTOOPT))?;
        self.set(if self.is_v6() { six } else { four }, true)
    }
}

const SCTP: c_int = 132;

fn option(fd: c_int, (level, name): Name) -> Option<c_int> {
    let (mut value, mut length): (c_int, socklen_t) = (0, 4);
    let room = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, and the length.
    done(unsafe { libc::getsockopt(fd, level, name, room, &raw mut length) }).ok()?;
    Some(value)
}

/// # Safety
/// `address` points to `length` bytes, or is null.
pub(super) unsafe fn address_at(address: *const sockaddr, length: socklen_t) -> Option<SocketAddr> {
    if address.is_null() || length < LENGTH_4.into() {
        return None;
    }
    // SAFETY: 16 bytes are there, by the caller's promise.
    let four = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
    let port = u16::from_be(four.sin_port);
    match c_int::from(four.sin_family) {
        AF_INET => Some(SocketAddrV4::new(u32::from_be(four.sin_addr.s_addr).into(), port).into()),
        AF_INET6 if length >= LENGTH_6.into() => {
            // SAFETY: 28 bytes are there, by the caller's promise.
            let six = unsafe { address.cast::<sockaddr_in6>().read_unaligned() };
            let (ip, flow) = (six.sin6_addr.s6_addr.into(), u32::from_be(six.sin6_flowinfo));
            Some(SocketAddrV6::new(ip, port, flow, six.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The next `bind`, with an address of ours.
pub(super) fn bind_to(fd: c_int, address: SocketAddr) -> c_int {
    match address {
        SocketAddr::V4(address) => {
            let four = sockaddr_in {
                sin_len: LENGTH_4,
                sin_family: AF_INET as sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the address is a live local of this length.
            unsafe { system::bind(fd, (&raw const four).cast(), LENGTH_4.into()) }
        }
        SocketAddr::V6(address) => {
            let six = sockaddr_in6 {
                sin6_len: LENGTH_6,
                sin6_family: AF_INET6 as sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo().to_be(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: the address is a live local of this length.
            unsafe { system::bind(fd, (&raw const six).cast(), LENGTH_6.into()) }
        }
    }
}

pub(super) fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn errno(number: c_int) -> io::Error {
    io::Error::from_raw_os_error(number)
}

pub(super) fn keeping_errno<T>(look: impl FnOnce() -> T) -> T {
    let before = io::Error::last_os_error();
    let seen = look();
    fail(&before);
    seen
}

/// What a failed call returns, with its `errno`.
pub(super) fn fail(error: &io::Error) -> c_int {
    // SAFETY: takes nothing, and gives the thread's own variable.
    let place = unsafe { libc::__error() };
    // SAFETY: only this thread has it, and it lives as long as the thread.
    unsafe { place.write(error.raw_os_error().unwrap_or(libc::EINVAL)) };
    -1
}
