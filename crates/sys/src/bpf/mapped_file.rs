//! A file mapped into memory for reading.

#![expect(unsafe_code, reason = "mmap(2) has no safe wrapper")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::ptr::{self, NonNull};

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(crate) struct MappedFile {
    start: NonNull<u8>,
    length: usize,
}

impl MappedFile {
    /// Maps a file that is never written to and never shrinks, such as `/sys/kernel/btf/vmlinux`
    /// (ENODEV before Linux 6.16).
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice replaces no other mapping.
        let start = unsafe {
            let (fd, anywhere) = (file.as_raw_fd(), ptr::null_mut());
            libc::mmap(anywhere, length, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped readable at `start` until `self` is dropped, and do not
        // change.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, and every reference into it borrows from `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
