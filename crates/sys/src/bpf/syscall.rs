//! The commands of bpf(2) that aya does not offer, as safe functions.
//!
//! Each structure is the leading part of `union bpf_attr` (`include/uapi/linux/bpf.h`) that its
//! command reads. The kernel takes a shorter structure than its own and treats the rest as zero.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper here")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sameport_policy::sandbox::SandboxedCall;

use crate::seccomp::permits;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ENABLE_STATS: libc::c_int = 32;
const BPF_ITER_CREATE: libc::c_int = 33;

pub(super) const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
pub(crate) const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
pub(super) const BPF_PROG_TYPE_CGROUP_SOCK: u32 = 9;
pub(super) const BPF_PROG_TYPE_SOCK_OPS: u32 = 13;
pub(crate) const BPF_PROG_TYPE_SK_REUSEPORT: u32 = 21;
pub(crate) const BPF_PROG_TYPE_TRACING: u32 = 26;
pub(super) const BPF_CGROUP_SOCK_OPS: u32 = 3;
pub(super) const BPF_CGROUP_INET_SOCK_RELEASE: u32 = 34;
pub(crate) const BPF_TRACE_ITER: u32 = 28;
pub(crate) const BPF_SK_LOOKUP: u32 = 36;
pub(crate) const BPF_SK_REUSEPORT_SELECT_OR_MIGRATE: u32 = 40;

/// Size of an eBPF instruction in bytes.
const INSTRUCTION: usize = 8;

/// A program for [`load_program`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProgramSpec<'a> {
    /// `BPF_PROG_TYPE_*`.
    pub(crate) kind: u32,
    /// Instructions, 8 bytes each.
    pub(crate) instructions: &'a [u8],
    /// `BPF_*` attach type, 0 for kinds without one.
    pub(crate) attach_type: u32,
    /// BTF number of the kernel function to attach to, 0 for kinds without one.
    pub(crate) attach_to: u32,
    /// Shown by bpftool(8), at most 15 bytes; empty: `sameport`.
    pub(crate) name: &'a str,
    /// Its functions, which the verifier follows once each if they are global.
    pub(crate) functions: FunctionInfo<'a>,
}

/// The types of the functions of a program.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FunctionInfo<'a> {
    /// The loaded types that `bytes` names; `None`: no information.
    pub(crate) types: Option<BorrowedFd<'a>>,
    /// `struct bpf_func_info`, one for each function.
    pub(crate) bytes: &'a [u8],
}

/// A name as the kernel has it, which a zero byte ends.
pub(super) fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// `BPF_PROG_LOAD` under a dual MIT/GPL license, without a verifier log: Linux 3.18, iterators 5.8.
///
/// # Errors
///
/// EPERM without CAP_BPF (and CAP_PERFMON for tracing programs), or CAP_SYS_ADMIN; EACCES or EINVAL
/// for a program that the verifier rejects.
pub(crate) fn load_program(program: &ProgramSpec<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct ProgLoadAttr {
        kind: u32,
        instruction_count: u32,
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
        btf: u32,
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
    /// Size of `struct bpf_func_info`.
    const FUNCTION: usize = 8;
    let FunctionInfo { types, bytes } = program.functions;
    let functions = if types.is_some() { bytes.len() / FUNCTION } else { 0 };
    let mut attributes = ProgLoadAttr {
        kind: program.kind,
        instruction_count: u32::try_from(program.instructions.len() / INSTRUCTION)
            .map_err(io::Error::other)?,
        instructions: program.instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        name: object_name(if program.name.is_empty() { "sameport" } else { program.name }),
        btf: types.map_or(0, |types| types.as_raw_fd().cast_unsigned()),
        function_info_size: if functions > 0 { 8 } else { 0 },
        function_info: if functions > 0 { bytes.as_ptr() as u64 } else { 0 },
        function_info_count: u32::try_from(functions).map_err(io::Error::other)?,
        attach_type: program.attach_type,
        attach_to: program.attach_to,
        ..ProgLoadAttr::default()
    };
    // SAFETY: the pointers are to the license, a static string, and to as many instructions and functions
    // as their counts say, which `program` borrows.
    unsafe { bpf_fd(BPF_PROG_LOAD, &mut attributes) }
}

/// `BPF_LINK_CREATE` of an iterator program to its kind of object: Linux 5.8.
pub(crate) fn link_iterator(program: impl AsFd) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct LinkCreateAttr {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        info: u64,
        info_length: u32,
        unused: u32,
    }
    let mut attributes = LinkCreateAttr {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: 0,
        info_length: 0,
        unused: 0,
    };
    // SAFETY: the attributes contain no pointer.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attributes) }
}

/// `BPF_ITER_CREATE`: a file that runs the iterator when it is read, in the pid namespace of the
/// caller. Linux 5.8.
pub(crate) fn create_iterator(link: impl AsFd) -> io::Result<File> {
    #[repr(C)]
    struct IterCreateAttr {
        link: u32,
        flags: u32,
    }
    let link = link.as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: the attributes contain no pointer.
    unsafe { bpf_fd(BPF_ITER_CREATE, &mut IterCreateAttr { link, flags: 0 }) }.map(File::from)
}

/// `BPF_OBJ_GET`: opens the link, map or program that is pinned at this path. Linux 4.4.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ObjGetAttr {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGetAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the pointer is to `path`, which ends with a zero byte and outlives the call.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attributes) }
}

/// `BPF_PROG_QUERY`: the ids of up to 64 programs of this attach type at `target`. Linux 4.15.
///
/// # Errors
///
/// EPERM without CAP_NET_ADMIN; EINVAL for an attach type that the kernel does not know.
pub(crate) fn query_programs(target: impl AsFd, attach_type: u32) -> io::Result<Vec<u32>> {
    /// The kernel's own limit (`netns_bpf_max_progs`).
    const CAPACITY: usize = 64;
    #[repr(C)]
    struct ProgQueryAttr {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        unused: [u32; 5],
    }
    let mut ids = [0_u32; CAPACITY];
    let mut attributes = ProgQueryAttr {
        target: target.as_fd().as_raw_fd().cast_unsigned(),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        unused: [0; 5],
    };
    // SAFETY: the pointer is to `ids`, which has space for `count` numbers and outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    let count = usize::try_from(attributes.count).unwrap_or(CAPACITY).min(CAPACITY);
    Ok(ids[..count].to_vec())
}

/// How often a program ran, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProgramTimes {
    pub(crate) id: u32,
    pub(crate) nanoseconds: u64,
    pub(crate) runs: u64,
}

/// `BPF_OBJ_GET_INFO_BY_FD` of a program: Linux 4.13, times 5.1.
pub(crate) fn program_times(program: impl AsFd) -> io::Result<ProgramTimes> {
    let mut info = [0_u32; 52];
    info_of(program, &mut info)?;
    let long = |at: usize| u64::from(info[at]) | u64::from(info[at + 1]) << 32;
    Ok(ProgramTimes { id: info[1], nanoseconds: long(48), runs: long(50) })
}

/// `BPF_PROG_GET_FD_BY_ID` and its information: the user that loaded a program, and its name. Linux 4.15.
///
/// # Errors
///
/// EPERM without CAP_SYS_ADMIN; ENOENT if the program has gone.
pub(crate) fn program_origin(id: u32) -> io::Result<(u32, [u8; 16])> {
    #[repr(C)]
    struct ProgGetAttr {
        id: u32,
        next: u32,
        flags: u32,
    }
    // SAFETY: the attributes contain no pointer.
    let program =
        unsafe { bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut ProgGetAttr { id, next: 0, flags: 0 }) }?;
    let mut info = [0_u32; 20];
    info_of(&program, &mut info)?;
    let mut name = [0; 16];
    for (at, word) in info[16..].iter().enumerate() {
        name[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Ok((info[12], name))
}

/// Writes the leading numbers of `struct bpf_map_info` or `struct bpf_prog_info`. The pointers in the
/// latter are 0, so the kernel follows none.
pub(super) fn info_of<const N: usize>(of: impl AsFd, info: &mut [u32; N]) -> io::Result<()> {
    #[repr(C)]
    struct InfoAttr {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attributes = InfoAttr {
        fd: of.as_fd().as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of_val(info)).map_err(io::Error::other)?,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the pointer is to `info`, of `length` bytes, which are zero.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

/// Has the kernel measure every program until the descriptor is closed (`BPF_ENABLE_STATS`, Linux 5.8).
/// EPERM without CAP_SYS_ADMIN.
pub(crate) fn enable_stats() -> io::Result<OwnedFd> {
    // BPF_STATS_RUN_TIME
    let mut kind = 0_u32;
    // SAFETY: the attributes contain no pointer.
    unsafe { bpf_fd(BPF_ENABLE_STATS, &mut kind) }
}

/// Runs a command that returns a new file descriptor, close-on-exec.
///
/// # Safety
///
/// As for [`bpf`].
pub(super) unsafe fn bpf_fd<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has created this descriptor for this call; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// `T` is a `repr(C)` prefix of `union bpf_attr` without padding, and each pointer in it is valid for
/// what the command reads and writes there.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    permits(SandboxedCall::Bpf)?;
    let attributes: *mut T = attributes;
    // SAFETY: the kernel accesses `size_of::<T>()` bytes at `attributes`; the pointers inside are
    // the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
