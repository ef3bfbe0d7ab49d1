//! Offsets of struct members in the running kernel, from its own type information (BTF).
//!
//! The kernel's BTF has 5 MB and over 100,000 types. The walk stops when it has found the requested
//! types, and records one offset in 64.
//!
//! Source: `Documentation/bpf/btf.rst`.

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// `struct btf_type`: name, kind and count, size or type.
const TYPE: usize = 12;
/// `struct btf_member`: name, type, offset.
const MEMBER: usize = 12;

const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

/// Limit of nested anonymous structs, and of chained typedefs and qualifiers.
const DEPTH: usize = 16;

/// Every `STRIDE`-th type has its offset recorded. Finding one walks over at most `STRIDE` types.
const STRIDE: u32 = 64;

/// The types of a kernel.
#[derive(Debug)]
pub(in crate::bpf) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Byte offsets of the types with the numbers 1, 1 + `STRIDE`, 1 + 2 * `STRIDE`, … as far as
    /// [`Btf::read`] walked.
    starts: Vec<u32>,
    /// Numbers of the requested structs and functions, by name.
    structs: Vec<(&'a str, u32)>,
    functions: Vec<(&'a str, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct BtfType<'a> {
    kind: u32,
    /// Of a struct whose members may be bit fields.
    flag: bool,
    /// Bytes, or the number of another type.
    size_or_type: u32,
    members: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Walks over the types until it has found these structs and functions. `None` for a description
    /// that is malformed or has an unknown kind of type before that. The first type of a name counts.
    pub(in crate::bpf) fn read(
        bytes: &'a [u8],
        structs: &[&str],
        functions: &[&str],
    ) -> Option<Self> {
        let length = usize::try_from(u32_at(bytes, 4)?).ok()?;
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC || length < HEADER {
            return None;
        }
        let part = |at: usize| {
            let start = length.checked_add(usize::try_from(u32_at(bytes, at)?).ok()?)?;
            let end = start.checked_add(usize::try_from(u32_at(bytes, at + 4)?).ok()?)?;
            bytes.get(start..end)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut found =
            Self { types, strings, starts: Vec::new(), structs: vec![], functions: vec![] };
        let mut wanted_structs = Names::new(structs);
        let mut wanted_functions = Names::new(functions);
        let (mut rest, mut number) = (types, 0_u32);
        while let Some((record, after)) = rest.split_first_chunk::<TYPE>() {
            if number % STRIDE == 0 {
                found.starts.push(u32::try_from(types.len() - rest.len()).ok()?);
            }
            number += 1;
            let [a, b, c, d, e, f, g, h, ..] = *record;
            let (name, info) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
            let kind = kind_of(info);
            if kind == STRUCT {
                if let Some(name) = wanted_structs.take(strings, name) {
                    found.structs.push((name, number));
                }
            } else if kind == FUNC
                && let Some(name) = wanted_functions.take(strings, name)
            {
                found.functions.push((name, number));
            }
            if wanted_structs.0.is_empty() && wanted_functions.0.is_empty() {
                return Some(found);
            }
            rest = after.get(size_after(kind, count_of(info))?..)?;
        }
        rest.is_empty().then_some(found)
    }

    /// The number of a function.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        number_of(&self.functions, name)
    }

    /// How many bits into a struct a member lies, `struct:member.member`; of a name without a member,
    /// how many bits the struct has.
    pub(in crate::bpf) fn bits(&self, name: &str) -> Option<u64> {
        let (of, path) = name.split_once(':').map_or((name, None), |(of, path)| (of, Some(path)));
        let mut number = number_of(&self.structs, of)?;
        let Some(path) = path else {
            return Some(u64::from(self.numbered(number)?.size_or_type) * 8);
        };
        let mut bits = 0;
        for member in path.split('.') {
            let (further, next) = self.member(number, member, DEPTH)?;
            bits += further;
            number = next;
        }
        Some(bits)
    }

    /// Where this member of a struct lies, in bits, and the number of its type. Structs and unions
    /// without a name are looked into.
    fn member(&self, number: u32, wanted: &str, depth: usize) -> Option<(u64, u32)> {
        let depth = depth.checked_sub(1)?;
        let of = self.plain(number)?;
        if !matches!(of.kind, STRUCT | UNION) {
            return None;
        }
        for member in of.members.chunks_exact(MEMBER) {
            let (name, kind, offset) = (u32_at(member, 0)?, u32_at(member, 4)?, u32_at(member, 8)?);
            let bits = u64::from(if of.flag { offset & 0x00ff_ffff } else { offset });
            if name == 0 {
                if let Some((further, kind)) = self.member(kind, wanted, depth) {
                    return Some((bits + further, kind));
                }
            } else if is(name_at(self.strings, name)?, wanted) {
                return Some((bits, kind));
            }
        }
        None
    }

    /// The type behind names and qualifiers.
    fn plain(&self, mut number: u32) -> Option<BtfType<'a>> {
        for _ in 0..DEPTH {
            let found = self.numbered(number)?;
            match found.kind {
                // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
                8..=11 | 18 => number = found.size_or_type,
                _ => return Some(found),
            }
        }
        None
    }

    fn numbered(&self, number: u32) -> Option<BtfType<'a>> {
        let index = number.checked_sub(1)?;
        let last = u32::try_from(self.starts.len()).ok()?.checked_sub(1)?;
        let known = (index / STRIDE).min(last);
        let mut at = usize::try_from(*self.starts.get(usize::try_from(known).ok()?)?).ok()?;
        for _ in known * STRIDE..index {
            let info = u32_at(self.types, at.checked_add(4)?)?;
            at += TYPE + size_after(kind_of(info), count_of(info))?;
        }
        let record = self.types.get(at..)?;
        let info = u32_at(record, 4)?;
        let kind = kind_of(info);
        let members = record.get(TYPE..TYPE + size_after(kind, count_of(info))?)?;
        Some(BtfType { kind, flag: info >> 31 == 1, size_or_type: u32_at(record, 8)?, members })
    }
}

/// Names that were not found yet.
struct Names<'n>(Vec<&'n str>);

impl<'n> Names<'n> {
    fn new(names: &[&'n str]) -> Self {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Removes the name that begins at this offset, if it is one of these.
    fn take<'a>(&mut self, strings: &'a [u8], at: u32) -> Option<&'a str> {
        let name = name_at(strings, at)?;
        // Most of 60,000 names differ from all of these in their first bytes: comparing those here is
        // cheaper than a call of memcmp for each.
        let start: [u8; 2] = *name.first_chunk()?;
        let index = self
            .0
            .iter()
            .position(|wanted| wanted.as_bytes().starts_with(&start) && is(name, wanted))?;
        let length = self.0.swap_remove(index).len();
        text(name.get(..length)?)
    }
}

fn number_of(numbers: &[(&str, u32)], name: &str) -> Option<u32> {
    numbers.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn count_of(info: u32) -> usize {
    usize::from(u16::try_from(info & 0xffff).unwrap_or_default())
}

/// How many bytes follow a type of this kind; `None` of a kind that is younger than this.
fn size_after(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        ARRAY => 12,
        // Members, variables of a section, 64-bit enumerators
        STRUCT | UNION | 15 | 19 => count * 12,
        // Enumerators, parameters
        6 | 13 => count * 8,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

/// From where the name begins to the end of all names.
fn name_at(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(usize::try_from(at).ok()?..)
}

fn is(name: &[u8], wanted: &str) -> bool {
    name.starts_with(wanted.as_bytes()) && name.get(wanted.len()) == Some(&0)
}

fn text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
