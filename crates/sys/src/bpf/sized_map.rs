//! A map of the kernel: the commands of bpf(2) that read and change its values.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper here")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::syscall::{bpf, info_of, open_pinned};

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;

#[repr(C)]
struct MapElementAttr {
    map: u32,
    unused: u32,
    key: u64,
    /// Of the value; for `BPF_MAP_GET_NEXT_KEY` of the next key.
    value: u64,
    flags: u64,
}

/// The type of a map, and sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MapShape {
    pub(crate) kind: u32,
    pub(crate) key: usize,
    pub(crate) value: usize,
}

/// PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE: the kernel copies all values of a key.
const PER_PROCESSOR: [u32; 4] = [5, 6, 10, 21];

/// A map whose keys and values have sizes that are checked for every call.
#[derive(Debug)]
pub(crate) struct SizedMap {
    pub(super) fd: OwnedFd,
    pub(super) shape: MapShape,
}

impl SizedMap {
    /// Opens the map that is pinned at this path: Linux 4.13 for its sizes.
    ///
    /// # Errors
    ///
    /// ENOENT; EPERM; InvalidData: the pin is not a map of this shape, or has a value for each processor.
    pub(crate) fn open(path: &Path, key: usize, value: usize) -> io::Result<Self> {
        let fd = open_pinned(path)?;
        // A link or a program has the same command, and other numbers: its name in /proc tells.
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if std::fs::read_link(name)?.as_os_str() != "anon_inode:bpf-map" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut info = [0_u32; 5];
        info_of(&fd, &mut info)?;
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let shape = MapShape { kind: info[0], key: size(info[2]), value: size(info[3]) };
        if (shape.key, shape.value) != (key, value) || PER_PROCESSOR.contains(&shape.kind) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { fd, shape })
    }

    /// `BPF_MAP_LOOKUP_ELEM`. ENOENT: no such key.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        let mut attributes = self.element(key, value.as_mut_ptr() as u64, value.len())?;
        // SAFETY: `element` has compared both lengths with those of the map, and a key has one value.
        unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) }.map(drop)
    }

    /// `BPF_MAP_UPDATE_ELEM`.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut attributes = self.element(key, value.as_ptr() as u64, value.len())?;
        // SAFETY: `element` has compared both lengths with those of the map, and a key has one value.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }

    /// `BPF_MAP_DELETE_ELEM`. ENOENT: no such key.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        let mut attributes = self.element(key, 0, self.shape.value)?;
        // SAFETY: `element` has compared the length of the key with that of the map.
        unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attributes) }.map(drop)
    }

    /// Every key, or those that were there while others were changed.
    pub(crate) fn keys(&self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while keys.len() < most {
            let mut next = vec![0; self.shape.key];
            let mut attributes = MapElementAttr {
                map: self.fd.as_raw_fd().cast_unsigned(),
                unused: 0,
                key: keys.last().map_or(0, |key| key.as_ptr() as u64),
                value: next.as_mut_ptr() as u64,
                flags: 0,
            };
            // SAFETY: both pointers are to as many bytes as a key of the map has, or null.
            match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut attributes) } {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                result => result?,
            };
            keys.push(next);
        }
        Ok(keys)
    }

    fn element(&self, key: &[u8], value: u64, size: usize) -> io::Result<MapElementAttr> {
        if (key.len(), size) != (self.shape.key, self.shape.value) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = self.fd.as_raw_fd().cast_unsigned();
        Ok(MapElementAttr { map, unused: 0, key: key.as_ptr() as u64, value, flags: 0 })
    }
}

impl AsFd for SizedMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
