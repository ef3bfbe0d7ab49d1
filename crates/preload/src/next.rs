//! The replaced functions: those of the next library that defines them, libc or another preloaded
//! one, or else the system calls.

#![expect(unsafe_code, reason = "calls functions that the dynamic linker finds")]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::machine::{self, RawErrno, call, number, symbol};
use crate::sockets::fd_argument;

type WithAddress = unsafe extern "C" fn(c_int, *const u8, u32) -> c_int;
type Listen = extern "C" fn(c_int, c_int) -> c_int;
type SendTo = unsafe extern "C" fn(c_int, *const u8, usize, c_int, *const u8, u32) -> isize;

/// A function that is looked up once. A concurrent lookup finds the same address.
struct NextFunction {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

static BIND: NextFunction = NextFunction::new(c"bind");
static LISTEN: NextFunction = NextFunction::new(c"listen");
static CONNECT: NextFunction = NextFunction::new(c"connect");
static SENDTO: NextFunction = NextFunction::new(c"sendto");

impl NextFunction {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(null_mut()) }
    }

    fn get(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        let dlsym = symbol!("dlsym");
        if dlsym.is_null() {
            return null_mut();
        }
        // SAFETY: the symbol has this type in every libc that defines it.
        let dlsym: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            unsafe { core::mem::transmute(dlsym) };
        let before = errno();
        // RTLD_NEXT. `dlsym` finds the calling library by its return address, so a tail call would
        // give the wrong one.
        let found = dlsym(core::ptr::without_provenance_mut(usize::MAX), self.name.as_ptr());
        set_errno(before);
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Looks up all functions, so that a later call in a signal handler does not.
pub(crate) fn look_up_all() {
    for next in [&BIND, &LISTEN, &CONNECT, &SENDTO] {
        next.get();
    }
}

/// # Safety
///
/// The requirements of bind(2).
pub(crate) unsafe fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller meets the same requirements.
    unsafe { call_with_address(&BIND, number::BIND, fd, address, length) }
}

/// listen(2).
pub(crate) fn listen(fd: c_int, backlog: c_int) -> c_int {
    let function = LISTEN.get();
    if function.is_null() {
        let arguments = [fd_argument(fd), fd_argument(backlog), 0, 0, 0, 0];
        // SAFETY: takes two numbers.
        return c_int::try_from(libc_result(unsafe { call(number::LISTEN, arguments) }))
            .unwrap_or(-1);
    }
    // SAFETY: `listen` is a function of this type in every library that defines it.
    let function: Listen = unsafe { core::mem::transmute(function) };
    function(fd, backlog)
}

/// # Safety
///
/// The requirements of connect(2).
pub(crate) unsafe fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller meets the same requirements.
    unsafe { call_with_address(&CONNECT, number::CONNECT, fd, address, length) }
}

/// # Safety
///
/// The requirements of the called function.
unsafe fn call_with_address(
    next: &NextFunction,
    number: usize,
    fd: c_int,
    address: *const u8,
    length: u32,
) -> c_int {
    let function = next.get();
    if function.is_null() {
        let arguments = [fd_argument(fd), address.expose_provenance(), length as usize, 0, 0, 0];
        // SAFETY: the kernel checks the pointer.
        return c_int::try_from(libc_result(unsafe { call(number, arguments) })).unwrap_or(-1);
    }
    // SAFETY: `bind` and `connect` are functions of this type in every library that defines them.
    let function: WithAddress = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller meets the same requirements.
    unsafe { function(fd, address, length) }
}

/// # Safety
///
/// The requirements of sendto(2).
pub(crate) unsafe fn sendto(
    fd: c_int,
    bytes: *const u8,
    size: usize,
    flags: c_int,
    address: *const u8,
    length: u32,
) -> isize {
    let function = SENDTO.get();
    if function.is_null() {
        let (bytes, address) = (bytes.expose_provenance(), address.expose_provenance());
        let arguments =
            [fd_argument(fd), bytes, size, fd_argument(flags), address, length as usize];
        // SAFETY: the kernel checks both pointers.
        return libc_result(unsafe { call(number::SENDTO, arguments) });
    }
    // SAFETY: `sendto` is a function of this type in every library that defines it.
    let function: SendTo = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller meets the same requirements.
    unsafe { function(fd, bytes, size, flags, address, length) }
}

/// Converts a system call's result as a libc does: -1 and `errno` for an error.
fn libc_result(result: Result<usize, RawErrno>) -> isize {
    match result {
        Ok(value) => isize::try_from(value).unwrap_or(isize::MAX),
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> RawErrno {
    // SAFETY: the address belongs to the calling thread.
    RawErrno(machine::errno().map_or(0, |address| unsafe { address.read() }))
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(errno: RawErrno) {
    if let Some(address) = machine::errno() {
        // SAFETY: the address belongs to the calling thread.
        unsafe { address.write(errno.0) };
    }
}
