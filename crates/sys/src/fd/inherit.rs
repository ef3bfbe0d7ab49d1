//! Descriptors that stay open across an `exec` of this process.

#![expect(unsafe_code, reason = "an inherited descriptor is a bare number")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags};

/// Clears FD_CLOEXEC, so that the next program inherits the descriptor under the returned number.
/// Every process that is started meanwhile inherits it too.
///
/// # Errors
///
/// Errors of `fcntl(2)`.
pub fn keep_on_exec(descriptor: &impl AsFd) -> Result<RawFd, Errno> {
    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    Ok(descriptor.as_fd().as_raw_fd())
}

/// Sets FD_CLOEXEC, so that programs executed later do not inherit the descriptor.
///
/// # Errors
///
/// Errors of `fcntl(2)`.
pub fn close_on_exec(descriptor: &impl AsFd) -> Result<(), Errno> {
    rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)
}

/// Creates a file in memory with these bytes, positioned at its start, for [`keep_on_exec`]
/// (`memfd_create(2)`, Linux 3.17).
///
/// # Errors
///
/// Errors of `memfd_create(2)` and `write(2)`.
pub fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("sameport", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Takes an inherited [`memory_file`] and reads it.
///
/// # Errors
///
/// Errors of [`take`] and `read(2)`.
pub fn read_memory_file(number: RawFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(take(number)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the program of this process (`execve(2)`). Children, blocked and pending signals, and
/// descriptors without FD_CLOEXEC stay. Returns only on failure; `InvalidInput` for a string with a
/// NUL byte.
pub fn exec(
    program: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Error {
    let string = |bytes: Vec<u8>| CString::new(bytes);
    let program = string(program.as_os_str().as_bytes().to_vec());
    let arguments: Result<Vec<_>, _> =
        arguments.iter().map(|argument| string(argument.as_bytes().to_vec())).collect();
    let environment: Result<Vec<_>, _> = environment
        .iter()
        .map(|(name, value)| string([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect();
    let (Ok(program), Ok(arguments), Ok(environment)) = (program, arguments, environment) else {
        return io::ErrorKind::InvalidInput.into();
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(&arguments), pointers(&environment));
    // SAFETY: both arrays end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// The standard output of this process, without a buffer.
///
/// # Errors
///
/// Errors of `fcntl(2)`: EBADF if it is closed.
pub fn own_stdout() -> Result<File, Errno> {
    // SAFETY: the borrow is used for fcntl(2) only, which fails with EBADF if the number is not open.
    let stdout = unsafe { BorrowedFd::borrow_raw(1) };
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(stdout, 3)?))
}

/// Takes ownership of an inherited descriptor and sets FD_CLOEXEC.
///
/// Call it once for each number, before this process opens descriptors without FD_CLOEXEC.
///
/// # Errors
///
/// EBADF: the descriptor is not open, is 0, 1 or 2, or has FD_CLOEXEC and was therefore not
/// inherited.
pub fn take(number: RawFd) -> Result<OwnedFd, Errno> {
    if number <= 2 {
        return Err(Errno::BADF);
    }
    // SAFETY: the borrow is used for fcntl(2) only, which fails with EBADF if the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // This process opens descriptors with FD_CLOEXEC, so one that has it has an owner here.
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF);
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open and has no owner in this process; FD_CLOEXEC, now set, makes a
    // second call fail.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
