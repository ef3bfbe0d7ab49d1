//! Maps that are shared with the programs by mmap(2) (`BPF_F_MMAPABLE`, Linux 5.5).

#![expect(unsafe_code, reason = "mmap(2) has no safe wrapper, and the memory is shared")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A mapped array map. Programs and other processes change it at any time, so it is read and written as
/// atomic numbers.
#[derive(Debug)]
pub(super) struct SharedMap {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is accessed through atomics only, and unmapped by `Drop` alone.
unsafe impl Send for SharedMap {}
// SAFETY: as above.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Maps the value of an array map with one entry of `length` bytes.
    pub(super) fn new(map: impl AsFd, length: usize) -> io::Result<Self> {
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.as_fd().as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice replaces no other mapping. The kernel
        // refuses a length beyond the map with EINVAL, and the map's memory never shrinks.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length })
    }

    /// The number at this byte.
    pub(super) fn u32(&self, at: usize) -> &AtomicU32 {
        let at = self.checked(at, size_of::<u32>());
        // SAFETY: `checked` has asserted that four mapped bytes are there, aligned: a mapping begins at a
        // page. They live until `self` is dropped, and nothing in this process accesses them otherwise.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().wrapping_add(at).cast()) }
    }

    /// The number at this byte.
    pub(super) fn u64(&self, at: usize) -> &AtomicU64 {
        let at = self.checked(at, size_of::<u64>());
        // SAFETY: as for `u32`, with eight bytes.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().wrapping_add(at).cast()) }
    }

    fn checked(&self, at: usize, size: usize) -> usize {
        assert!(
            at.is_multiple_of(size) && at + size <= self.length,
            "no number at {at} of {}",
            self.length
        );
        at
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, and every reference into it borrows from `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
