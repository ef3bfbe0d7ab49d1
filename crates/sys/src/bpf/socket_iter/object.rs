//! Reads `bpf/sockets.bpf.o`: the instructions of its program, and the positions of the numbers that the
//! loader sets, by name.
//!
//! Source: elf(5); `Documentation/bpf/llvm_reloc.rst`.

const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;
const INSTRUCTION: usize = 8;
const SHT_SYMTAB: u32 = 2;
const SHT_REL: u32 = 9;
/// A 64-bit number in two instructions.
const R_BPF_64_64: u32 = 1;

/// The program, as far as it is known before the kernel's structs are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProgramTemplate<'a> {
    pub(super) instructions: &'a [u8],
    /// Names of numbers, each with the byte at which its pair of instructions begins.
    pub(super) blanks: Vec<(usize, &'a str)>,
}

impl ProgramTemplate<'_> {
    /// The instructions with every blank filled in; `None` if a name has no number.
    pub(super) fn filled(&self, number: impl Fn(&str) -> Option<u64>) -> Option<Vec<u8>> {
        let mut instructions = self.instructions.to_vec();
        for (at, name) in &self.blanks {
            let [low, high] = halves(number(name)?);
            // The immediate of an instruction is its second half.
            instructions.get_mut(at + 4..at + 8)?.copy_from_slice(&low);
            instructions.get_mut(at + 12..at + 16)?.copy_from_slice(&high);
        }
        Some(instructions)
    }
}

fn halves(number: u64) -> [[u8; 4]; 2] {
    let bytes = number.to_le_bytes();
    [[bytes[0], bytes[1], bytes[2], bytes[3]], [bytes[4], bytes[5], bytes[6], bytes[7]]]
}

/// The program in the section of this name; `None` if these bytes are not such an object.
pub(super) fn template<'a>(object: &'a [u8], program: &str) -> Option<ProgramTemplate<'a>> {
    let sections = sections(object)?;
    let names = sections.get(usize::from(u16_at(object, 62)?))?;
    let named = |wanted: &str| {
        sections.iter().position(|section| text(names.bytes, section.name) == Some(wanted))
    };
    let code = named(program)?;
    let instructions = sections[code].bytes;
    let symbols = sections.iter().find(|section| section.kind == SHT_SYMTAB)?;
    let symbol_names = sections.get(symbols.link)?.bytes;
    let mut blanks = Vec::new();
    let relocations =
        sections.iter().filter(|section| section.kind == SHT_REL && section.info == code);
    for relocation in relocations.flat_map(|section| section.bytes.chunks_exact(RELOCATION)) {
        let at = usize::try_from(u64_at(relocation, 0)?).ok()?;
        let inside = at % INSTRUCTION == 0 && at.checked_add(16)? <= instructions.len();
        if !inside || u32_at(relocation, 8)? != R_BPF_64_64 {
            return None;
        }
        let symbol = usize::try_from(u32_at(relocation, 12)?).ok()?.checked_mul(SYMBOL)?;
        blanks.push((at, text(symbol_names, u32_at(symbols.bytes, symbol)?)?));
    }
    (instructions.len() % INSTRUCTION == 0).then_some(ProgramTemplate { instructions, blanks })
}

struct ElfSection<'a> {
    name: u32,
    kind: u32,
    link: usize,
    info: usize,
    bytes: &'a [u8],
}

fn sections(object: &[u8]) -> Option<Vec<ElfSection<'_>>> {
    // 64 bits, little-endian.
    if object.len() < HEADER || !object.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let first = usize::try_from(u64_at(object, 40)?).ok()?;
    let table = object.get(first..)?;
    let count = usize::from(u16_at(object, 60)?);
    table.chunks_exact(SECTION).take(count).map(|header| section(object, header)).collect()
}

fn section<'a>(object: &'a [u8], header: &[u8]) -> Option<ElfSection<'a>> {
    let start = usize::try_from(u64_at(header, 24)?).ok()?;
    let length = usize::try_from(u64_at(header, 32)?).ok()?;
    Some(ElfSection {
        name: u32_at(header, 0)?,
        kind: u32_at(header, 4)?,
        link: usize::try_from(u32_at(header, 40)?).ok()?,
        info: usize::try_from(u32_at(header, 44)?).ok()?,
        bytes: object.get(start..start.checked_add(length)?)?,
    })
}

/// The string that begins there and ends with a zero byte.
fn text(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "iter/task_file";

    #[test]
    fn the_object_is_one_program_with_blanks() {
        let template = template(crate::bpf::socket_iter::OBJECT, PROGRAM).unwrap();
        assert!(template.instructions.len() > 100 * INSTRUCTION);
        let names: Vec<_> = template.blanks.iter().map(|(_, name)| *name).collect();
        for name in ["=network", "sock_common:skc_state", "upid"] {
            assert!(names.contains(&name), "{names:?}");
        }
        // Every one loads a 64-bit number.
        for (at, name) in &template.blanks {
            assert_eq!(template.instructions[*at], 0x18, "{name}");
        }
    }

    #[test]
    fn a_number_lies_in_both_halves() {
        let instructions = [0x18, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let template = ProgramTemplate { instructions: &instructions, blanks: vec![(0, "a")] };
        let filled = template.filled(|_| Some(0x1122_3344_5566_7788)).unwrap();
        assert_eq!(filled[4..8], [0x88, 0x77, 0x66, 0x55]);
        assert_eq!(filled[12..16], [0x44, 0x33, 0x22, 0x11]);
        assert_eq!(filled[..4], instructions[..4]);
        assert_eq!(template.filled(|_| None), None);
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        let whole = crate::bpf::socket_iter::OBJECT;
        for end in 0..whole.len() {
            // The section headers come last.
            assert_eq!(template(&whole[..end], PROGRAM), None, "{end}");
        }
        assert_eq!(template(whole, "iter/other"), None);
        let mut other = whole.to_vec();
        other[5] = 2;
        assert_eq!(template(&other, PROGRAM), None);
    }
}
