//! The functions that ours stand in front of: those of the next library that has them, be it libc or
//! another preloaded one, or the system calls themselves.

#![expect(unsafe_code, reason = "calls functions that the dynamic linker finds")]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::machine::{self, RawErrno, call, number, symbol};
use crate::sockets::as_argument;

type WithAddress = unsafe extern "C" fn(c_int, *const u8, u32) -> c_int;
type SendTo = unsafe extern "C" fn(c_int, *const u8, usize, c_int, *const u8, u32) -> isize;

/// A function that is looked up once. Whoever looks it up meanwhile finds the same one.
struct NextFunction {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

static BIND: NextFunction = NextFunction::new(c"bind");
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
        // SAFETY: this symbol is a function of this type in every libc that has it.
        let dlsym: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            unsafe { core::mem::transmute(dlsym) };
        let before = errno();
        // RTLD_NEXT. It looks at its return address to know after whom, so it must not be the last
        // thing that this function does.
        let found = dlsym(core::ptr::without_provenance_mut(usize::MAX), self.name.as_ptr());
        set_errno(before);
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Finds all three, so that a call in a signal handler need not.
pub(crate) fn find() {
    for next in [&BIND, &CONNECT, &SENDTO] {
        next.get();
    }
}

/// # Safety
/// As `bind(2)`.
pub(crate) unsafe fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { with_address(&BIND, number::BIND, fd, address, length) }
}

/// # Safety
/// As `connect(2)`.
pub(crate) unsafe fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { with_address(&CONNECT, number::CONNECT, fd, address, length) }
}

/// # Safety
/// As the call.
unsafe fn with_address(
    next: &NextFunction,
    number: usize,
    fd: c_int,
    address: *const u8,
    length: u32,
) -> c_int {
    let function = next.get();
    if function.is_null() {
        let arguments = [as_argument(fd), address.expose_provenance(), length as usize, 0, 0, 0];
        // SAFETY: the kernel checks the address itself.
        return c_int::try_from(answer(unsafe { call(number, arguments) })).unwrap_or(-1);
    }
    // SAFETY: `bind` and `connect` are functions of this type in every library that has them.
    let function: WithAddress = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller's promise, handed on.
    unsafe { function(fd, address, length) }
}

/// # Safety
/// As `sendto(2)`.
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
            [as_argument(fd), bytes, size, as_argument(flags), address, length as usize];
        // SAFETY: the kernel checks both pointers itself.
        return answer(unsafe { call(number::SENDTO, arguments) });
    }
    // SAFETY: `sendto` is a function of this type in every library that has it.
    let function: SendTo = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller's promise, handed on.
    unsafe { function(fd, bytes, size, flags, address, length) }
}

/// What a libc makes of a system call's answer.
fn answer(answer: Result<usize, RawErrno>) -> isize {
    match answer {
        Ok(value) => isize::try_from(value).unwrap_or(isize::MAX),
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> RawErrno {
    // SAFETY: the address is the calling thread's own.
    RawErrno(machine::errno().map_or(0, |address| unsafe { address.read() }))
}

/// Sets it.
pub(crate) fn set_errno(errno: RawErrno) {
    if let Some(address) = machine::errno() {
        // SAFETY: the address is the calling thread's own.
        unsafe { address.write(errno.0) };
    }
}
