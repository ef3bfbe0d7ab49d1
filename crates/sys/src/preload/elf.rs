//! The head of an ELF file, which shows whether a dynamic linker runs (`elf(5)`).

/// Bytes that are read of a file. Linkers write the program headers right after the ELF header.
pub(super) const HEAD: usize = 64 * 1024;

/// Facts from the head of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ElfHead {
    /// The file is 64-bit, in the byte order of this machine.
    pub(super) is_native: bool,
    /// `e_machine`: x86-64 is 62.
    pub(super) machine: u16,
    /// The file names a dynamic linker (`PT_INTERP`).
    pub(super) is_dynamic: bool,
    /// The Go toolchain wrote the file, whose program calls the kernel without libc.
    pub(super) is_go: bool,
}

/// Parses the head of a file. `None`: not an ELF file, or one with program headers outside the head.
pub(super) fn read(head: &[u8]) -> Option<ElfHead> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let is_native = rest.first()? == &2 && rest.get(1)? == &order;
    if !is_native {
        return Some(ElfHead { is_native, machine: 0, is_dynamic: false, is_go: false });
    }
    let machine = half(head, 18)?;
    let (size, count) = (usize::from(half(head, 54)?), usize::from(half(head, 56)?));
    let table = usize::try_from(word(head, 32)?).ok()?;
    // An entry has 56 bytes; a larger size is reserved for extensions.
    if size < 56 {
        return None;
    }
    let mut elf = ElfHead { is_native, machine, is_dynamic: false, is_go: false };
    for index in 0..count {
        let entry = head.get(table.checked_add(index.checked_mul(size)?)?..)?.get(..56)?;
        match u32::from_ne_bytes(*entry.first_chunk()?) {
            INTERPRETER => elf.is_dynamic = true,
            NOTE => {
                let at = usize::try_from(word(entry, 8)?).ok()?;
                let length = usize::try_from(word(entry, 32)?).ok()?;
                // The Go linker writes its note at the front, so notes outside the head are not its.
                let notes = at.checked_add(length).and_then(|end| head.get(at..end));
                elf.is_go |= notes.is_some_and(|notes| notes.windows(12).any(is_go_build_id));
            }
            _ => {}
        }
    }
    Some(elf)
}

const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;

/// Whether the bytes are the end of the header of a note of type 4 and its name `Go`: the size of the
/// description, the type, the name.
fn is_go_build_id(window: &[u8]) -> bool {
    let kind = 4u32.to_ne_bytes();
    window.get(4..8) == Some(&kind) && window.get(8..12) == Some(b"Go\0\0")
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An ELF header with these program headers: type, offset, size.
    fn file(entries: &[(u32, u64, u64)], tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&62u16.to_ne_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(entries.len()).unwrap().to_ne_bytes());
        for (kind, offset, size) in entries {
            let mut entry = [0u8; 56];
            entry[..4].copy_from_slice(&kind.to_ne_bytes());
            entry[8..16].copy_from_slice(&offset.to_ne_bytes());
            entry[32..40].copy_from_slice(&size.to_ne_bytes());
            bytes.extend(entry);
        }
        bytes.extend(tail);
        bytes
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn heads_of_several_files() {
        let of =
            |is_dynamic, is_go| Some(ElfHead { is_native: true, machine: 62, is_dynamic, is_go });
        let go = b"\x04\0\0\0\x08\0\0\0\x04\0\0\0Go\0\0abcdefgh";
        assert_eq!(read(&file(&[(1, 0, 0)], b"")), of(false, false));
        assert_eq!(read(&file(&[(1, 0, 0), (3, 0, 0)], b"")), of(true, false));
        assert_eq!(read(&file(&[(3, 0, 0), (4, 64 + 112, 24)], go)), of(true, true));
        assert_eq!(
            read(&file(&[(4, 64 + 56, 24)], b"\x04\0\0\0\x08\0\0\0\x03\0\0\0GNU\0abcdefgh")),
            of(false, false)
        );
        let other = ElfHead { is_native: false, machine: 0, is_dynamic: false, is_go: false };
        assert_eq!(read(b"\x7fELF\x01\x01\x01"), Some(other), "32-bit");
        for none in [&b""[..], b"#!/bin/sh\n", b"\x7fEL", b"\x7fELF", b"\x7fELF\x02\x01\x01\0"] {
            assert_eq!(read(none), None);
        }
        let whole = file(&[(1, 0, 0), (3, 0, 0)], b"");
        assert!((4..whole.len()).all(|n| read(&whole[..n]).is_none()), "cut off");
    }

    #[test]
    fn real_files() {
        let head = std::fs::read("/proc/self/exe").unwrap();
        let ourselves = read(&head[..HEAD.min(head.len())]).unwrap();
        assert!(ourselves.is_native && ourselves.is_dynamic && !ourselves.is_go);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            entries in proptest::collection::vec((0u32..6, any::<u64>(), any::<u64>()), 0..4),
            tail in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0usize..200, byte: u8, cut in 0usize..400,
        ) {
            let mut bytes = file(&entries, &tail);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
