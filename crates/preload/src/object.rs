//! The root of the shared object: the exported functions and the constructor.
//!
//! This file is not a module of the crate `sameport-preload`, which contains only the object's bytes.
//! `build.rs` compiles it, together with the files of `sameport-policy` that use `core` only.

#![no_std]
#![expect(unsafe_code, reason = "functions with the names and types of libc, and a constructor")]

mod environment;
mod hooks;
mod machine;
mod map;
mod next;
mod overlap;
mod own_sockets;
mod protocol;
mod report;
mod reuse;
mod settings;
mod share;
mod sharing;
mod sockaddr;
mod sockets;
mod source;

use core::ffi::{c_char, c_int};
// For overlap.rs.
use core::net;

/// bind(2).
///
/// # Safety
///
/// The requirements of the manual page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller meets the same requirements.
    unsafe { hooks::bind(fd, address, length) }
}

/// listen(2).
#[unsafe(no_mangle)]
pub extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    hooks::listen(fd, backlog)
}

/// connect(2).
///
/// # Safety
///
/// The requirements of the manual page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller meets the same requirements.
    unsafe { hooks::connect(fd, address, length) }
}

/// sendto(2).
///
/// # Safety
///
/// The requirements of the manual page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    bytes: *const u8,
    size: usize,
    flags: c_int,
    address: *const u8,
    length: u32,
) -> isize {
    // SAFETY: the caller meets the same requirements.
    unsafe { hooks::sendto(fd, bytes, size, flags, address, length) }
}

// SAFETY: the dynamic linker calls each function of `.init_array` before `main`. glibc passes the
// arguments of `main`; musl passes none, so they are not read there.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) = at_load;

extern "C" fn at_load(_: c_int, _: *mut *mut c_char, environment: *mut *mut c_char) {
    // glibc can call constructors before it sets `environ`, and passes its later value here.
    let is_glibc = !machine::symbol!("gnu_get_libc_version").is_null();
    hooks::at_load(if is_glibc { environment } else { core::ptr::null_mut() });
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    machine::abort()
}
