//! Descriptors that outlive an `exec` of this process.

#![expect(unsafe_code, reason = "a descriptor that we were started with is only a number")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags};

/// Leaves it open in the program that is executed next, under this number. Everything that is
/// started meanwhile gets it too.
///
/// # Errors
/// Those of `fcntl`.
pub fn keep_on_exec(descriptor: &impl AsFd) -> Result<RawFd, Errno> {
    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    Ok(descriptor.as_fd().as_raw_fd())
}

/// Closes it again in what is executed or started from now on.
///
/// # Errors
/// Those of `fcntl`.
pub fn close_on_exec(descriptor: &impl AsFd) -> Result<(), Errno> {
    rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)
}

/// A file in memory with these bytes, to be passed on. It is read from its beginning.
///
/// # Errors
/// Those of `memfd_create` (Linux 3.17) and of writing.
pub fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let letter = rustix::fs::memfd_create("sameport", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(letter);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// What is in a letter that was passed to us.
///
/// # Errors
/// Those of [`take`], and of reading.
pub fn read_memory_file(number: RawFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(take(number)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Executes a program in the place of this one: same process, same children, signals blocked and
/// pending as they are, descriptors as far as they were passed. Comes back only if it fails.
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
    let ended = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (ended(&arguments), ended(&environment));
    // SAFETY: both arrays end with a null pointer, and their strings live until the call is over.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Takes a descriptor that was passed to us. Each once, and before this process opens others:
/// whoever has the number owns it.
///
/// # Errors
/// `EBADF`: it is not open, one of the standard ones, or was not passed.
pub fn take(number: RawFd) -> Result<OwnedFd, Errno> {
    if number <= 2 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is borrowed only to ask, and asking about a closed one is an error.
    let asked = unsafe { BorrowedFd::borrow_raw(number) };
    // What we open ourselves has CLOEXEC, so this one belongs to nobody here.
    if rustix::io::fcntl_getfd(asked)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF);
    }
    rustix::io::fcntl_setfd(asked, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and had no owner in this process; from now on it has CLOEXEC, so that it
    // is not taken twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
