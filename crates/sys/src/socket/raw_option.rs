//! Socket options as bytes (`getsockopt(2)`).

#![expect(unsafe_code, reason = "getsockopt(2) and setsockopt(2) of any option")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr;

use libc::{c_int, sock_filter, sock_fprog, socklen_t};
use rustix::io::Errno;
use sameport_policy::classic_bpf::Instruction;

use crate::errno::last_errno;

/// The level and the number of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SockOpt {
    pub(super) level: c_int,
    pub(super) number: c_int,
}

/// Reads the option into `value`; returns its length in bytes.
pub(super) fn read(
    socket: BorrowedFd<'_>,
    name: SockOpt,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let mut length = socklen_t::try_from(value.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel writes at most `length` bytes, all within the borrowed `value`.
    let done = unsafe {
        let (to, length) = (value.as_mut_ptr().cast(), &raw mut length);
        libc::getsockopt(socket.as_raw_fd(), name.level, name.number, to, length)
    };
    if done == 0 { usize::try_from(length).map_err(|_| Errno::INVAL) } else { Err(last_errno()) }
}

/// `struct tcp_info` of a TCP socket (tcp(7)); `None` for another socket.
pub(crate) fn tcp_info(socket: impl AsFd) -> Option<Vec<u8>> {
    let mut info = vec![0; 256];
    let name = SockOpt { level: libc::IPPROTO_TCP, number: libc::TCP_INFO };
    let length = read(socket.as_fd(), name, &mut info).ok()?;
    info.truncate(length);
    Some(info)
}

/// The number of instructions of the socket's filter, 0 without a filter (`SO_GET_FILTER`, Linux
/// 3.8). EACCES: the filter is not a classic BPF program.
pub(super) fn filter_length(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let name = SockOpt { level: libc::SOL_SOCKET, number: libc::SO_GET_FILTER };
    // Without a buffer the kernel returns the length, which this option counts in instructions.
    read(socket, name, &mut [])
}

/// Sets the option to these bytes. The option must not take an address of memory.
pub(super) fn set(socket: BorrowedFd<'_>, name: SockOpt, value: &[u8]) -> Result<(), Errno> {
    let length = socklen_t::try_from(value.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads at most `length` bytes, all within the borrowed `value`.
    let done = unsafe {
        let from = value.as_ptr().cast();
        libc::setsockopt(socket.as_raw_fd(), name.level, name.number, from, length)
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Attaches a classic BPF program by this option of SOL_SOCKET.
pub(super) fn attach(
    socket: BorrowedFd<'_>,
    number: c_int,
    program: &[Instruction],
) -> Result<(), Errno> {
    let mut program: Vec<_> = program
        .iter()
        .map(|i| sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
        .collect();
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let described = sock_fprog { len, filter: program.as_mut_ptr() };
    let length = socklen_t::try_from(size_of::<sock_fprog>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads one `sock_fprog` and copies the `len` instructions of the live
    // `program` before it returns.
    let done = unsafe {
        let from = ptr::from_ref(&described).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, number, from, length)
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}
