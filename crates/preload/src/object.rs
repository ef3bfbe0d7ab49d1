//! The root of the shared object: what it exports, what runs when it is loaded, and nothing else.
//!
//! Not a part of the `sameport-preload` crate, which only carries the object's bytes: `build.rs`
//! compiles this file by itself, with the files of `sameport-policy` that use nothing but `core`
//! beside it.

#![no_std]
#![expect(unsafe_code, reason = "functions of libc's names and types, and a constructor")]

mod environment;
mod hooks;
mod machine;
mod map;
mod next;
mod protocol;
mod report;
mod settings;
mod share;
mod sockaddr;
mod sockets;
mod source;

use core::ffi::{c_char, c_int};

/// `bind(2)`.
///
/// # Safety
/// As the manual page says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the program's promise, handed on.
    unsafe { hooks::bind(fd, address, length) }
}

/// `connect(2)`.
///
/// # Safety
/// As the manual page says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the program's promise, handed on.
    unsafe { hooks::connect(fd, address, length) }
}

/// `sendto(2)`.
///
/// # Safety
/// As the manual page says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    bytes: *const u8,
    size: usize,
    flags: c_int,
    address: *const u8,
    length: u32,
) -> isize {
    // SAFETY: the program's promise, handed on.
    unsafe { hooks::sendto(fd, bytes, size, flags, address, length) }
}

// SAFETY: the dynamic linker calls every function whose address lies in `.init_array`, before
// `main`. glibc passes the arguments of `main`; musl passes none, and they are not looked at there.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) = at_load;

extern "C" fn at_load(_: c_int, _: *mut *mut c_char, environment: *mut *mut c_char) {
    // glibc may call us before it has set `environ`, and only glibc tells us here what it will be.
    let is_glibc = !machine::symbol!("gnu_get_libc_version").is_null();
    hooks::at_load(if is_glibc { environment } else { core::ptr::null_mut() });
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    machine::end()
}
