//! The needs of an executable at its start, from its ELF header: `elf(5)`.

use super::architecture::Architecture;

/// What the header of an executable says.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Kind {
    pub(super) architecture: Architecture,
    /// Whether the kernel starts an interpreter: the dynamic linker (`PT_INTERP`).
    pub(super) interpreter: bool,
    /// Whether it is linked dynamically or is position independent (`PT_DYNAMIC`).
    pub(super) dynamic: bool,
}

const MAGIC: &[u8] = b"\x7fELF";
/// 64 bits, little endian.
const CLASS: [u8; 2] = [2, 1];
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

pub(super) fn kind(file: &[u8]) -> Result<Kind, String> {
    if field::<4>(file, 0) != Some(MAGIC.try_into().unwrap_or_default())
        || field::<2>(file, 4) != Some(CLASS)
    {
        return Err("not an ELF file of 64 bits".to_owned());
    }
    let number = |at| field(file, at).map(u16::from_le_bytes).ok_or("the header is cut off");
    let architecture = match number(18)? {
        EM_X86_64 => Architecture::X86,
        EM_AARCH64 => Architecture::Arm,
        other => return Err(format!("ELF machine {other}")),
    };
    let table = field(file, 32).map(u64::from_le_bytes).ok_or("the header is cut off")?;
    let table = usize::try_from(table).map_err(|error| error.to_string())?;
    let (size, count) = (usize::from(number(54)?), usize::from(number(56)?));
    let mut found = Kind { architecture, interpreter: false, dynamic: false };
    for index in 0..count {
        let at = table.saturating_add(index * size);
        match field(file, at).map(u32::from_le_bytes).ok_or("the program headers are cut off")? {
            PT_INTERP => found.interpreter = true,
            PT_DYNAMIC => found.dynamic = true,
            _ => {}
        }
    }
    Ok(found)
}

fn field<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..4].copy_from_slice(MAGIC);
        file[4..6].copy_from_slice(&CLASS);
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56] = u8::try_from(segments.len()).unwrap();
        for (index, kind) in segments.iter().enumerate() {
            file[64 + 56 * index..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        file
    }

    #[test]
    fn program_headers_are_read() {
        let arm = Architecture::Arm;
        let x86 = Architecture::X86;
        let cases = [
            (file(EM_X86_64, &[1, 4]), Ok((x86, false, false))),
            (file(EM_AARCH64, &[1, PT_DYNAMIC]), Ok((arm, false, true))),
            (file(EM_X86_64, &[1, PT_INTERP, PT_DYNAMIC]), Ok((x86, true, true))),
            (file(8, &[1]), Err("ELF machine 8")),
            (file(EM_X86_64, &[1, 1])[..100].to_vec(), Err("the program headers are cut off")),
            (file(EM_X86_64, &[])[..20].to_vec(), Err("the header is cut off")),
            (b"#!/bin/sh\n".to_vec(), Err("not an ELF file of 64 bits")),
            (Vec::new(), Err("not an ELF file of 64 bits")),
        ];
        for (bytes, expected) in cases {
            let found = kind(&bytes);
            let found = found.as_ref().map(|it| (it.architecture, it.interpreter, it.dynamic));
            assert_eq!(found.map_err(String::as_str), expected);
        }
    }

    #[test]
    fn a_program_of_this_machine_is_dynamic() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let known = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
        assert_eq!(kind(&own).is_ok_and(|kind| kind.dynamic), known);
    }
}
