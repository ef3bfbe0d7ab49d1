//! The commands of bpf(2) that make what an object describes, as safe functions.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper here")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::sized_map::{MapShape, SizedMap};
use super::syscall::{bpf, bpf_fd, object_name};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_MAP_FREEZE: libc::c_int = 22;
const BPF_LINK_CREATE: libc::c_int = 28;

/// A map for [`create_map`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MapSpec<'a> {
    pub(super) name: &'a str,
    pub(super) shape: MapShape,
    pub(super) entries: u32,
    pub(super) flags: u32,
    /// The loaded types, and the numbers of the key's and the value's.
    pub(super) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// `BPF_MAP_CREATE`: Linux 4.18 for the types.
///
/// # Errors
///
/// EPERM without CAP_BPF (for a map of sockets also CAP_NET_ADMIN), or CAP_SYS_ADMIN.
pub(super) fn create_map(map: &MapSpec<'_>) -> io::Result<SizedMap> {
    #[repr(C)]
    #[derive(Default)]
    struct MapCreateAttr {
        kind: u32,
        key: u32,
        value: u32,
        entries: u32,
        flags: u32,
        inner: u32,
        node: u32,
        name: [u8; 16],
        interface: u32,
        types: u32,
        key_type: u32,
        value_type: u32,
    }
    let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let mut attributes = MapCreateAttr {
        kind: map.shape.kind,
        key: size(map.shape.key)?,
        value: size(map.shape.value)?,
        entries: map.entries,
        flags: map.flags,
        name: object_name(map.name),
        ..MapCreateAttr::default()
    };
    if let Some((types, key, value)) = map.types {
        attributes.types = types.as_raw_fd().cast_unsigned();
        (attributes.key_type, attributes.value_type) = (key, value);
    }
    // SAFETY: the attributes contain no pointer.
    let fd = unsafe { bpf_fd(BPF_MAP_CREATE, &mut attributes) }?;
    Ok(SizedMap { fd, shape: map.shape })
}

/// `BPF_MAP_FREEZE`: nobody can change the map by a system call any more. Linux 5.2.
pub(super) fn freeze_map(map: impl AsFd) -> io::Result<()> {
    let mut fd = map.as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: the attributes contain no pointer.
    unsafe { bpf(BPF_MAP_FREEZE, &mut fd) }.map(drop)
}

/// `BPF_BTF_LOAD`: types of maps and functions. Linux 4.18.
pub(super) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct BtfLoadAttr {
        types: u64,
        log: u64,
        length: u32,
        log_length: u32,
        log_level: u32,
        unused: u32,
    }
    let mut attributes = BtfLoadAttr {
        types: types.as_ptr() as u64,
        log: 0,
        length: u32::try_from(types.len()).map_err(io::Error::other)?,
        log_length: 0,
        log_level: 0,
        unused: 0,
    };
    // SAFETY: the pointer is to `length` bytes, which `types` borrows.
    unsafe { bpf_fd(BPF_BTF_LOAD, &mut attributes) }
}

/// `BPF_OBJ_PIN`: Linux 4.4. EEXIST: the path is taken.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct ObjPinAttr {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = object.as_fd().as_raw_fd().cast_unsigned();
    let mut attributes = ObjPinAttr { path: path.as_ptr() as u64, fd, flags: 0 };
    // SAFETY: the pointer is to `path`, which ends with a zero byte and outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }.map(drop)
}

/// `BPF_LINK_CREATE` of a program to a cgroup, beside those that are attached there: Linux 5.7.
///
/// # Errors
///
/// EPERM: a program was attached without BPF_F_ALLOW_MULTI.
pub(super) fn link_to_cgroup(
    program: impl AsFd,
    cgroup: impl AsFd,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct CgroupLinkAttr {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attributes = CgroupLinkAttr {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        target: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_type,
        flags: 0,
    };
    // SAFETY: the attributes contain no pointer.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attributes) }
}
