//! macOS: `DYLD_INSERT_LIBRARIES`, a section of pairs that dyld reads, and `SO_REUSEPORT`, which
//! does not balance.

#![expect(unsafe_code, reason = "a section that dyld reads, and a constructor")]

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::sockets::Name;

pub(super) const BALANCED: Option<Name> = None;
/// Nothing tells; and there is no SCTP to be told from TCP.
pub(super) const PROTOCOL: Option<Name> = None;
pub(super) const ANY_ADDRESS: Option<[Name; 2]> = None;

type Call = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;

/// One entry of the section: what to call instead of what.
#[repr(C)]
struct Pair {
    replacement: Call,
    original: Call,
}

// SAFETY: dyld takes this section for an array of pairs of function pointers, as it is one, and
// binds every image but this one to the replacements.
#[used]
#[unsafe(link_section = "__DATA,__interpose")]
static PAIRS: [Pair; 2] = [
    Pair { replacement: super::bind, original: libc::bind },
    Pair { replacement: super::connect, original: libc::connect },
];

// SAFETY: dyld calls every function whose address lies here, before `main` and after libSystem's
// own. It passes the arguments of `main`, which are not looked at.
#[used]
#[unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")]
static AT_LOAD: extern "C" fn() = super::at_load;

/// The originals are called by their names, so there is nothing to find.
pub(super) fn find() {}

/// # Safety
/// As `bind(2)`.
pub(super) unsafe fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { libc::bind(fd, address, length) }
}

/// # Safety
/// As `connect(2)`.
pub(super) unsafe fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { libc::connect(fd, address, length) }
}
