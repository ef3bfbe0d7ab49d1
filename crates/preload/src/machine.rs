//! System calls without a libc, and the addresses of optional symbols.
//!
//! A failed call returns its error number; `errno` is not changed.

#![expect(unsafe_code, reason = "system calls are made by inline assembly")]

use core::arch::asm;
use core::ffi::c_void;

/// System call numbers, from `asm/unistd_64.h` and `asm-generic/unistd.h`.
#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const FSTAT: usize = 5;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const CONNECT: usize = 42;
    pub(crate) const SENDTO: usize = 44;
    pub(crate) const BIND: usize = 49;
    pub(crate) const LISTEN: usize = 50;
    pub(crate) const GETSOCKNAME: usize = 51;
    pub(crate) const SETSOCKOPT: usize = 54;
    pub(crate) const GETSOCKOPT: usize = 55;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const READLINKAT: usize = 267;
}
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
pub(crate) mod number {
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const READLINKAT: usize = 78;
    pub(crate) const FSTAT: usize = 80;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const SOCKET: usize = 198;
    pub(crate) const BIND: usize = 200;
    pub(crate) const LISTEN: usize = 201;
    pub(crate) const CONNECT: usize = 203;
    pub(crate) const GETSOCKNAME: usize = 204;
    pub(crate) const SENDTO: usize = 206;
    pub(crate) const SETSOCKOPT: usize = 208;
    pub(crate) const GETSOCKOPT: usize = 209;
    pub(crate) const MUNMAP: usize = 215;
    pub(crate) const MMAP: usize = 222;
}

/// An error number: errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawErrno(pub(crate) i32);

impl RawErrno {
    pub(crate) const NOT_PERMITTED: Self = Self(1);
    pub(crate) const NO_ACCESS: Self = Self(13);
    pub(crate) const INVALID: Self = Self(22);
    pub(crate) const AF_NOT_SUPPORTED: Self = Self(97);
    pub(crate) const ADDRESS_IN_USE: Self = Self(98);
}

/// Makes a system call.
///
/// # Safety
///
/// Each pointer among the arguments is valid for the call's accesses, or the call fails with EFAULT.
pub(crate) unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, RawErrno> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's convention for x86-64: `syscall` takes these registers and destroys rcx
    // and r11; the caller answers for memory accesses.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's convention for AArch64: `svc 0` takes these registers and keeps all but
    // x0; the caller answers for memory accesses.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number, inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack)
        );
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the kernel's convention for RISC-V: `ecall` takes these registers and keeps all but
    // a0; the caller answers for memory accesses.
    unsafe {
        asm!(
            "ecall",
            in("a7") number, inlateout("a0") a => result,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f,
            options(nostack)
        );
    }
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        // Errors are the values -4095 to -1.
        Err(_) => Err(RawErrno(i32::try_from(-result).unwrap_or(RawErrno::INVALID.0))),
    }
}

/// The address of a symbol of the program or its libraries, by a weak reference: null if it does not
/// exist.
macro_rules! symbol {
    ($name:literal) => {{
        let address: *mut core::ffi::c_void;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: reads one word of the global offset table, which the dynamic linker has filled.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(nostack, preserves_flags, readonly)
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads one word of the global offset table, which the dynamic linker has filled.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address,
                options(nostack, preserves_flags, readonly)
            );
        }
        #[cfg(target_arch = "riscv64")]
        // SAFETY: reads one word of the global offset table, which the dynamic linker has filled.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("lga {}, ", $name),
                out(reg) address,
                options(nostack, preserves_flags, readonly)
            );
        }
        address
    }};
}
pub(crate) use symbol;

/// Whether `length` bytes are readable at `pointer`. A program that passes a bad pointer to `bind`
/// must get EFAULT, not SIGSEGV.
///
/// rt_sigprocmask(2) copies eight bytes from the pointer before it rejects the operation -1, so it
/// fails with EFAULT or EINVAL and changes nothing.
pub(crate) fn is_readable(pointer: *const u8, length: usize) -> bool {
    let first = pointer.addr() & !7;
    let Some(last) = pointer.addr().checked_add(length.saturating_sub(1)).map(|last| last & !7)
    else {
        return false;
    };
    let readable = |word: usize| {
        // SAFETY: the call reads through the pointer or fails with EFAULT, and writes nothing.
        let result = unsafe { call(number::RT_SIGPROCMASK, [usize::MAX, word, 0, 8, 0, 0]) };
        result == Err(RawErrno::INVALID)
    };
    // A socket address is shorter than a page, so it lies in at most two pages.
    readable(first) && (first == last || readable(last))
}

/// The number of the calling process. A `vfork`ed process has its own.
pub(crate) fn own_pid() -> i32 {
    // SAFETY: takes no argument.
    unsafe { call(number::GETPID, [0; 6]) }
        .ok()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0)
}

/// Calls write(2) once and ignores its result.
pub(crate) fn write(fd: usize, bytes: &[u8]) {
    // SAFETY: the pointer and the length are those of a live slice, which is only read.
    let _ = unsafe { call(number::WRITE, [fd, bytes.as_ptr().addr(), bytes.len(), 0, 0, 0]) };
}

/// Ends the process at once with the exit code of SIGABRT.
#[cfg_attr(
    test,
    expect(dead_code, reason = "only the panic handler of the shared object calls it")
)]
pub(crate) fn abort() -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        let _ = unsafe { call(number::EXIT_GROUP, [134, 0, 0, 0, 0, 0]) };
    }
}

/// The address of the calling thread's `errno`, in glibc and in musl.
pub(crate) fn errno() -> Option<*mut i32> {
    let function: *mut c_void = symbol!("__errno_location");
    if function.is_null() {
        return None;
    }
    // SAFETY: this symbol is a function of this type in every libc that has it.
    let function: extern "C" fn() -> *mut i32 = unsafe { core::mem::transmute(function) };
    Some(function()).filter(|address| !address.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_memory_is_recognized() {
        let bytes = [0u8; 28];
        for length in 1..=28 {
            assert!(is_readable(bytes.as_ptr(), length), "{length}");
        }
        for bad in [0, 8, 4095, usize::MAX - 7, usize::MAX] {
            assert!(!is_readable(std::ptr::without_provenance(bad), 16), "{bad:#x}");
        }
    }

    #[test]
    fn calls_return_values_and_errors() {
        // SAFETY: the descriptor does not exist, so nothing is written.
        let bad = unsafe { call(number::WRITE, [usize::MAX, bad_pointer(), 1, 0, 0, 0]) };
        assert_eq!(bad, Err(RawErrno(9)));
        // SAFETY: takes three numbers.
        let socket = unsafe { call(number::SOCKET, [1, 1 | 0o2_000_000, 0, 0, 0, 0]) }.unwrap();
        // SAFETY: closes the socket of the previous line.
        assert_eq!(unsafe { call(number::CLOSE, [socket, 0, 0, 0, 0, 0]) }, Ok(0));
    }

    fn bad_pointer() -> usize {
        8
    }

    #[test]
    fn absent_symbols_are_null() {
        assert!(!symbol!("__errno_location").is_null());
        assert!(symbol!("sameport_no_such_symbol").is_null());
        assert!(errno().is_some());
    }
}
