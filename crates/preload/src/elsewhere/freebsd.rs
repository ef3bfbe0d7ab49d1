//! FreeBSD: `LD_PRELOAD`, functions of libc's names, and `SO_REUSEPORT_LB`, which balances.

#![expect(unsafe_code, reason = "functions of libc's names, and a constructor")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{sockaddr, socklen_t};

use super::sockets::{Name, errno, fail};

/// Together with `SO_REUSEPORT`: see `crates/sameport/src/system/freebsd.rs` for why both.
pub(super) const BALANCED: Option<Name> = Some((libc::SOL_SOCKET, libc::SO_REUSEPORT_LB));
pub(super) const PROTOCOL: Option<Name> = Some((libc::SOL_SOCKET, libc::SO_PROTOCOL));
/// Needs the privilege PRIV_NETINET_BINDANY.
pub(super) const ANY_ADDRESS: Option<[Name; 2]> =
    Some([(libc::IPPROTO_IP, libc::IP_BINDANY), (libc::IPPROTO_IPV6, libc::IPV6_BINDANY)]);

// SAFETY: the dynamic linker calls every function whose address lies here, before `main` and when
// `environ` is set. It passes the arguments of `main`, which are not looked at.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = super::at_load;

/// `bind(2)`.
///
/// # Safety
/// As the manual page says.
#[unsafe(export_name = "bind")]
unsafe extern "C" fn hooked_bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's promise, handed on.
    unsafe { super::bind(fd, address, length) }
}

/// `connect(2)`.
///
/// # Safety
/// As the manual page says.
#[unsafe(export_name = "connect")]
unsafe extern "C" fn hooked_connect(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: the program's promise, handed on.
    unsafe { super::connect(fd, address, length) }
}

type Call = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;

/// The function of this name that comes after ours: another preloaded library's, or libc's.
struct Next(&'static CStr, AtomicPtr<c_void>);

static BIND: Next = Next(c"bind", AtomicPtr::new(null_mut()));
static CONNECT: Next = Next(c"connect", AtomicPtr::new(null_mut()));

impl Next {
    /// Null if there is none.
    fn find(&self) -> *mut c_void {
        let mut found = self.1.load(Relaxed);
        if found.is_null() {
            // SAFETY: a terminated string, and a handle that asks for what comes after us.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.0.as_ptr()) };
            self.1.store(found, Relaxed);
        }
        found
    }

    fn function(&self) -> Option<Call> {
        // SAFETY: both of these names are functions of this type, and null is `None`.
        unsafe { transmute::<*mut c_void, Option<Call>>(self.find()) }
    }
}

pub(super) fn find() {
    BIND.find();
    CONNECT.find();
}

/// # Safety
/// As `bind(2)`.
pub(super) unsafe fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    match BIND.function() {
        // SAFETY: the caller's promise, handed on.
        Some(next) => unsafe { next(fd, address, length) },
        None => fail(&errno(libc::ENOSYS)),
    }
}

/// # Safety
/// As `connect(2)`.
pub(super) unsafe fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    match CONNECT.function() {
        // SAFETY: the caller's promise, handed on.
        Some(next) => unsafe { next(fd, address, length) },
        None => fail(&errno(libc::ENOSYS)),
    }
}
