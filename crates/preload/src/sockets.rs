//! The program's sockets and socket addresses, read and written by system calls.

#![expect(unsafe_code, reason = "raw system calls")]

use core::fmt::Write as _;
use core::net::SocketAddr;

use crate::machine::{RawErrno, call, is_readable, number};
use crate::protocol::Protocol;
use crate::report::ReportLine;
use crate::sockaddr;

/// The level and the name of a socket option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionName(usize, usize);

pub(crate) const REUSE_ADDRESS: OptionName = OptionName(1, 2);
pub(crate) const REUSE_PORT: OptionName = OptionName(1, 15);
pub(crate) const ADDRESS_WITHOUT_PORT: OptionName = OptionName(0, 24);
const LISTENS: OptionName = OptionName(1, 30);
const DEVICE: OptionName = OptionName(1, 62);
const TYPE: OptionName = OptionName(1, 3);
const PROTOCOL: OptionName = OptionName(1, 38);
const DOMAIN: OptionName = OptionName(1, 39);
const V6ONLY: OptionName = OptionName(41, 26);
const TRANSPARENT: OptionName = OptionName(0, 19);
const TRANSPARENT_6: OptionName = OptionName(41, 75);
const FREEBIND: OptionName = OptionName(0, 15);
const FREEBIND_6: OptionName = OptionName(41, 78);

/// An address family with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A TCP or UDP socket, by its descriptor. The program can close it at any time; then the calls
/// fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgramSocket {
    pub(crate) fd: i32,
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
}

impl ProgramSocket {
    /// The socket of a descriptor, if it is TCP (or MPTCP) or UDP (or UDP-Lite).
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

    /// Whether an option is set; false if it cannot be read.
    pub(crate) fn has(&self, name: OptionName) -> bool {
        option(self.fd, name).is_ok_and(|value| value != 0)
    }

    /// Whether this is an IPv6 socket that excludes IPv4.
    pub(crate) fn is_v6only(&self) -> bool {
        self.family == Family::V6 && self.has(V6ONLY)
    }

    /// The index of the interface to which the socket is bound; 0 for none. Linux 5.1 (SO_BINDTOIFINDEX);
    /// 0 before.
    pub(crate) fn device(&self) -> i32 {
        option(self.fd, DEVICE).unwrap_or(0)
    }

    pub(crate) fn listens(&self) -> bool {
        self.has(LISTENS)
    }

    pub(crate) fn set(&self, name: OptionName, on: bool) -> Result<(), RawErrno> {
        let value = i32::from(on);
        let pointer = (&raw const value).expose_provenance();
        let fd = fd_argument(self.fd);
        // SAFETY: the pointer refers to four bytes of a live local, which the kernel only reads.
        unsafe { call(number::SETSOCKOPT, [fd, name.0, name.1, pointer, 4, 0]) }.map(drop)
    }

    /// Permits addresses of other machines: ip(7). EPERM without CAP_NET_ADMIN and CAP_NET_RAW.
    pub(crate) fn set_transparent(&self) -> Result<(), RawErrno> {
        self.set(if self.family == Family::V4 { TRANSPARENT } else { TRANSPARENT_6 }, true)
    }

    /// Permits addresses that no interface has yet: ip(7).
    pub(crate) fn set_freebind(&self) -> Result<(), RawErrno> {
        self.set(if self.family == Family::V4 { FREEBIND } else { FREEBIND_6 }, true)
    }

    /// Whether the socket has neither a port nor an IP address.
    pub(crate) fn is_unbound(&self) -> bool {
        let mut bytes = [0u8; sockaddr::LONGEST];
        let mut length = 128u32;
        let arguments = [
            fd_argument(self.fd),
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

/// Whether a descriptor is a socket that listens.
pub(crate) fn listens(fd: i32) -> bool {
    option(fd, LISTENS).is_ok_and(|value| value != 0)
}

/// The inode of a socket; `None` if the descriptor is closed or another kind of file.
pub(crate) fn socket_inode(fd: i32) -> Option<u64> {
    // `struct stat` of `asm/stat.h`: the inode is the second word, the mode is the lower half of the fourth
    // word on x86-64, of the third elsewhere.
    const MODE: usize = if cfg!(target_arch = "x86_64") { 3 } else { 2 };
    let mut stat = [0u64; 18];
    let arguments = [fd_argument(fd), stat.as_mut_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: the kernel writes at most 144 bytes, the size of `stat`.
    unsafe { call(number::FSTAT, arguments) }.ok()?;
    (stat[MODE] & 0o170_000 == 0o140_000).then_some(stat[1])
}

/// The inode of a socket of another process; `None` if the process or the descriptor does not exist, or it is
/// another kind of file.
///
/// # Errors
///
/// EACCES or EPERM if the caller may not read it: a process of another user, or that cannot be dumped.
pub(crate) fn socket_inode_of(pid: i32, fd: i32) -> Result<Option<u64>, RawErrno> {
    // AT_FDCWD; the path is absolute.
    const CURRENT_FOLDER: i32 = -100;
    let mut path = ReportLine::new();
    // Shorter than the line.
    let _ = write!(path, "/proc/{pid}/fd/{fd}\0");
    let mut target = [0u8; 64];
    let (from, to) = (path.bytes().as_ptr(), target.as_mut_ptr());
    let arguments = [
        fd_argument(CURRENT_FOLDER),
        from.expose_provenance(),
        to.expose_provenance(),
        target.len(),
        0,
        0,
    ];
    // SAFETY: the path ends with a zero byte; the kernel writes at most the size of `target`.
    match unsafe { call(number::READLINKAT, arguments) } {
        Ok(length) => Ok(target.get(..length).and_then(inode_of_link)),
        Err(errno @ (RawErrno::NOT_PERMITTED | RawErrno::NO_ACCESS)) => Err(errno),
        Err(_) => Ok(None),
    }
}

/// `socket:[INODE]`.
fn inode_of_link(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    core::str::from_utf8(number).ok()?.parse().ok()
}

fn option(fd: i32, name: OptionName) -> Result<i32, RawErrno> {
    let mut value = 0i32;
    let mut length = 4u32;
    let arguments = [
        fd_argument(fd),
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

/// A descriptor as a system call argument. A negative one stays invalid: EBADF.
#[expect(clippy::cast_sign_loss, reason = "the kernel reads the lower 32 bits")]
pub(crate) fn fd_argument(fd: i32) -> usize {
    fd as usize
}

/// A TCP or UDP address, copied from the program's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopiedAddress {
    pub(crate) address: SocketAddr,
    /// False for AF_UNSPEC, which means IPv4 in `bind` and ends the connection in `connect`.
    pub(crate) has_family: bool,
}

/// Copies the program's address argument, if it is a TCP or UDP address.
///
/// # Safety
///
/// Other threads do not write the `length` bytes at `pointer` during the call. The pointer can be
/// invalid.
pub(crate) unsafe fn copy_address(pointer: *const u8, length: u32) -> Option<CopiedAddress> {
    let length = usize::try_from(length).ok().filter(|length| *length <= sockaddr::LONGEST)?;
    if length < 2 || !is_readable(pointer, length) {
        return None;
    }
    // SAFETY: the kernel has just read these bytes; the program does not write them during its call,
    // as for the kernel.
    let bytes = unsafe { core::slice::from_raw_parts(pointer, length) };
    Some(CopiedAddress { address: sockaddr::read(bytes)?, has_family: bytes.get(..2)? != [0, 0] })
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
        write_at(&mut bytes, 0, family.to_ne_bytes());
        write_at(&mut bytes, 2, address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => write_at(&mut bytes, 4, address.ip().octets()),
            SocketAddr::V6(address) => {
                write_at(&mut bytes, 4, address.flowinfo().to_be_bytes());
                write_at(&mut bytes, 8, address.ip().octets());
                write_at(&mut bytes, 24, address.scope_id().to_ne_bytes());
            }
        }
        Self { bytes, length }
    }

    pub(crate) fn parts(&self) -> (*const u8, u32) {
        (self.bytes.as_ptr(), self.length)
    }
}

fn write_at<const N: usize>(bytes: &mut [u8; 28], at: usize, part: [u8; N]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(part) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn sockets_are_recognized() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let socket = ProgramSocket::of(tcp.as_raw_fd()).unwrap();
        assert_eq!((socket.family, socket.protocol), (Family::V4, Protocol::Tcp));
        assert!(socket.has(REUSE_ADDRESS) && !socket.has(REUSE_PORT));
        assert!(!socket.is_unbound() && !socket.is_v6only());
        let socket = ProgramSocket::of(udp.as_raw_fd()).unwrap();
        assert_eq!((socket.family, socket.protocol), (Family::V6, Protocol::Udp));
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(ProgramSocket::of(unix.as_raw_fd()).is_none());
        assert!(ProgramSocket::of(-1).is_none() && ProgramSocket::of(0).is_none());
    }

    #[test]
    fn addresses_are_read_as_written() {
        for text in ["127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            let raw = RawSockAddr::new(address);
            let (pointer, length) = raw.parts();
            // SAFETY: the pointer and the length describe a live local.
            let copied = unsafe { copy_address(pointer, length) }.unwrap();
            assert_eq!(copied, CopiedAddress { address, has_family: true }, "{text}");
        }
        for (length, pointer) in
            [(16, std::ptr::null()), (0, [0u8; 4].as_ptr()), (129, b"x".as_ptr())]
        {
            // SAFETY: invalid pointers and lengths are not read.
            assert_eq!(unsafe { copy_address(pointer, length) }, None);
        }
    }
}
