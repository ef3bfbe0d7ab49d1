//! A socket of the program, looked at and changed through its descriptor; addresses as the kernel
//! reads them.

#![expect(unsafe_code, reason = "raw system calls")]

use core::net::SocketAddr;

use crate::machine::{RawErrno, call, is_readable, number};
use crate::protocol::Protocol;
use crate::sockaddr;

/// An option: its level and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionName(usize, usize);

pub(crate) const REUSE_ADDRESS: OptionName = OptionName(1, 2);
pub(crate) const REUSE_PORT: OptionName = OptionName(1, 15);
pub(crate) const ADDRESS_WITHOUT_PORT: OptionName = OptionName(0, 24);
const TYPE: OptionName = OptionName(1, 3);
const PROTOCOL: OptionName = OptionName(1, 38);
const DOMAIN: OptionName = OptionName(1, 39);
const V6ONLY: OptionName = OptionName(41, 26);
const TRANSPARENT: OptionName = OptionName(0, 19);
const TRANSPARENT_6: OptionName = OptionName(41, 75);

/// The two families with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A TCP or UDP socket. Only a number: the program may close it at any time, and then the calls
/// here fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookedSocket {
    fd: i32,
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
}

impl HookedSocket {
    /// What this descriptor is, if it is a TCP (MPTCP) or UDP (UDP-Lite) socket.
    pub(crate) fn of(fd: i32) -> Option<Self> {
        let family = match option(fd, DOMAIN).ok()? {
            2 => Family::V4,
            10 => Family::V6,
            _ => return None,
        };
        let protocol = match (option(fd, TYPE).ok()?, option(fd, PROTOCOL).ok()?) {
            (1, 6 | 262) => Protocol::Tcp,
            (2, 17 | 136) => Protocol::Udp,
            _ => return None,
        };
        Some(Self { fd, family, protocol })
    }

    /// Whether an option is on; no where it cannot be asked.
    pub(crate) fn has(&self, name: OptionName) -> bool {
        option(self.fd, name).is_ok_and(|value| value != 0)
    }

    /// Whether it is an IPv6 socket that refuses IPv4.
    pub(crate) fn is_v6only(&self) -> bool {
        self.family == Family::V6 && self.has(V6ONLY)
    }

    pub(crate) fn set(&self, name: OptionName, on: bool) -> Result<(), RawErrno> {
        let value = i32::from(on);
        let pointer = (&raw const value).expose_provenance();
        let fd = as_argument(self.fd);
        // SAFETY: the pointer is to four bytes of a live local, which are only read.
        unsafe { call(number::SETSOCKOPT, [fd, name.0, name.1, pointer, 4, 0]) }.map(drop)
    }

    /// Lets it have addresses that are not this machine's. EPERM without CAP_NET_ADMIN (or, since
    /// Linux 3.x, CAP_NET_RAW).
    pub(crate) fn be_transparent(&self) -> Result<(), RawErrno> {
        self.set(if self.family == Family::V4 { TRANSPARENT } else { TRANSPARENT_6 }, true)
    }

    /// Whether the program has left its address to the kernel: no port, and no IP.
    pub(crate) fn is_unbound(&self) -> bool {
        let mut bytes = [0u8; sockaddr::LONGEST];
        let mut length = 128u32;
        let arguments = [
            as_argument(self.fd),
            bytes.as_mut_ptr().expose_provenance(),
            (&raw mut length).expose_provenance(),
            0,
            0,
            0,
        ];
        // SAFETY: the kernel writes at most `length` bytes, the size of `bytes`, and the length.
        if unsafe { call(number::GETSOCKNAME, arguments) }.is_err() {
            return false;
        }
        sockaddr::read(&bytes)
            .is_some_and(|address| address.port() == 0 && address.ip().is_unspecified())
    }
}

fn option(fd: i32, name: OptionName) -> Result<i32, RawErrno> {
    let mut value = 0i32;
    let mut length = 4u32;
    let arguments = [
        as_argument(fd),
        name.0,
        name.1,
        (&raw mut value).expose_provenance(),
        (&raw mut length).expose_provenance(),
        0,
    ];
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, and the length.
    unsafe { call(number::GETSOCKOPT, arguments) }?;
    Ok(value)
}

/// A descriptor as a register holds it. A negative one stays what it is: EBADF.
#[expect(clippy::cast_sign_loss, reason = "the kernel takes the lower half as it is")]
pub(crate) fn as_argument(fd: i32) -> usize {
    fd as usize
}

/// An address of TCP or UDP, as a program hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddrPointer {
    pub(crate) address: SocketAddr,
    /// Not so for AF_UNSPEC, which is IPv4 in a `bind` of old programs, and ends the connection in
    /// a `connect`.
    pub(crate) names_its_family: bool,
}

/// What a program hands over, copied, if it is an address of TCP or UDP.
///
/// # Safety
/// `pointer` is what the program hands over as an address of `length` bytes. It may be bad.
pub(crate) unsafe fn handed_over(pointer: *const u8, length: u32) -> Option<AddrPointer> {
    let length = usize::try_from(length).ok().filter(|length| *length <= sockaddr::LONGEST)?;
    if length < 2 || !is_readable(pointer, length) {
        return None;
    }
    // SAFETY: these bytes can be read, as the kernel has just said; the program leaves them alone
    // while its own call lasts, as it must for the kernel.
    let bytes = unsafe { core::slice::from_raw_parts(pointer, length) };
    Some(AddrPointer {
        address: sockaddr::read(bytes)?,
        names_its_family: bytes.get(..2)? != [0, 0],
    })
}

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawSockAddr {
    bytes: [u8; 28],
    length: u32,
}

impl RawSockAddr {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut bytes = [0; 28];
        let (family, length) = match address {
            SocketAddr::V4(_) => (2u16, 16),
            SocketAddr::V6(_) => (10, 28),
        };
        put(&mut bytes, 0, family.to_ne_bytes());
        put(&mut bytes, 2, address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => put(&mut bytes, 4, address.ip().octets()),
            SocketAddr::V6(address) => {
                put(&mut bytes, 4, address.flowinfo().to_be_bytes());
                put(&mut bytes, 8, address.ip().octets());
                put(&mut bytes, 24, address.scope_id().to_ne_bytes());
            }
        }
        Self { bytes, length }
    }

    pub(crate) fn parts(&self) -> (*const u8, u32) {
        (self.bytes.as_ptr(), self.length)
    }
}

fn put<const N: usize>(bytes: &mut [u8; 28], at: usize, part: [u8; N]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(part) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn sockets_are_told_apart() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let socket = HookedSocket::of(tcp.as_raw_fd()).unwrap();
        assert_eq!((socket.family, socket.protocol), (Family::V4, Protocol::Tcp));
        assert!(socket.has(REUSE_ADDRESS) && !socket.has(REUSE_PORT));
        assert!(!socket.is_unbound() && !socket.is_v6only());
        let socket = HookedSocket::of(udp.as_raw_fd()).unwrap();
        assert_eq!((socket.family, socket.protocol), (Family::V6, Protocol::Udp));
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(HookedSocket::of(unix.as_raw_fd()).is_none());
        assert!(HookedSocket::of(-1).is_none() && HookedSocket::of(0).is_none());
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            let wire = RawSockAddr::new(address);
            let (pointer, length) = wire.parts();
            // SAFETY: the pointer and the length are those of a live local.
            let handed = unsafe { handed_over(pointer, length) }.unwrap();
            assert_eq!(handed, AddrPointer { address, names_its_family: true }, "{text}");
        }
        for (length, pointer) in
            [(16, std::ptr::null()), (0, [0u8; 4].as_ptr()), (129, b"x".as_ptr())]
        {
            // SAFETY: bad pointers and lengths are what is tried here; none of them is read.
            assert_eq!(unsafe { handed_over(pointer, length) }, None);
        }
    }
}
