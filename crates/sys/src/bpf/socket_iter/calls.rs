//! The system calls that have no safe wrapper: bpf(2), and mmap(2) of the kernel's types.

#![expect(unsafe_code, reason = "bpf(2) and mmap(2) have no safe wrapper here")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_ITER: u32 = 28;
const INSTRUCTION: usize = 8;

/// Loads an iterator's program: the instructions, for the function of this number in the kernel's
/// types, which names what is walked over.
pub(super) fn load(instructions: &[u8], function: u32, name: &CStr) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` that this command reads, as of Linux 5.8.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
        types: u32,
        function_info_size: u32,
        function_info: u64,
        function_info_count: u32,
        line_info_size: u32,
        line_info: u64,
        line_info_count: u32,
        attach_to: u32,
        attach_to_program: u32,
        unused: u32,
    }
    let mut attributes = Attributes {
        kind: BPF_PROG_TYPE_TRACING,
        count: u32::try_from(instructions.len() / INSTRUCTION).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        attach_type: BPF_TRACE_ITER,
        attach_to: function,
        ..Attributes::default()
    };
    // The last byte stays zero.
    for (to, from) in attributes.name.iter_mut().take(15).zip(name.to_bytes()) {
        *to = *from;
    }
    // SAFETY: the kernel reads the attributes, and as many instructions as they say; both outlive the
    // call. The license ends with a zero byte.
    unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }
}

/// Ties an iterator's program to what it walks over.
pub(super) fn link(program: impl AsFd) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        info: u64,
        info_length: u32,
        unused: u32,
    }
    let mut attributes = Attributes {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: 0,
        info_length: 0,
        unused: 0,
    };
    // SAFETY: the kernel reads the attributes, which have no pointer in them.
    unsafe { bpf(BPF_LINK_CREATE, &mut attributes) }
}

/// A file whose reading is the walk, in this process's pid namespace.
pub(super) fn open(link: impl AsFd) -> io::Result<File> {
    #[repr(C)]
    struct Attributes {
        link: u32,
        flags: u32,
    }
    let link = link.as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: the kernel reads the attributes, which have no pointer in them.
    unsafe { bpf(BPF_ITER_CREATE, &mut Attributes { link, flags: 0 }) }.map(File::from)
}

/// A command that makes a descriptor.
///
/// # Safety
///
/// The attributes are a `repr(C)` beginning of `union bpf_attr` without padding, and what they point to
/// is what the command may read.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let attributes: *mut T = attributes;
    // SAFETY: the kernel touches as many bytes as the attributes have; the rest is the caller's word.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A file in memory, without a copy.
#[derive(Debug)]
pub(super) struct MappedFile {
    start: NonNull<u8>,
    length: usize,
}

impl MappedFile {
    /// Maps a file that nobody writes to and that does not shrink, as `/sys/kernel/btf/vmlinux`
    /// (ENODEV before Linux 6.16).
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a new mapping, at an address of the kernel's choice, touches nothing that is there.
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
        // SAFETY: so many bytes are mapped there to read, until this is dropped, and do not change.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the mapping any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
