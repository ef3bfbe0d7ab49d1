//! The structures of `bpf/traffic.h`, against the numbers of `layout`.

use crate::bpf::socket_iter::btf::Btf;
use crate::bpf::traffic::layout::{
    LANES, MEMBERS, RECORD, RawMark, control, counter, entry, lane, member, table,
};
use crate::bpf::traffic::object::{CHOICE, COUNT};

/// The section of this name of an ELF object.
fn section<'a>(object: &'a [u8], wanted: &str) -> &'a [u8] {
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&object[at..at + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (headers, count, names) = (number(40, 8), number(60, 2), number(62, 2));
    let place = |index: usize| {
        let at = headers + index * 64;
        (number(at, 4), number(at + 24, 8), number(at + 32, 8))
    };
    let (_, names, _) = place(names);
    let found = (0..count).map(place).find(|(name, ..)| {
        object[names + name..].starts_with(wanted.as_bytes())
            && object[names + name + wanted.len()] == 0
    });
    let (_, start, length) = found.unwrap();
    &object[start..start + length]
}

#[test]
fn both_sides_agree_about_every_structure() {
    for (object, more) in [(CHOICE, None), (COUNT, Some(("mark", size_of::<RawMark>())))] {
        let bytes = section(object, ".BTF");
        let names =
            ["control", "lane", "table", "entry", "member", "members", "counter", "counters"];
        let mut wanted: Vec<_> = names.to_vec();
        wanted.extend(more.map(|(name, _)| name));
        wanted.extend(more.map(|_| "record"));
        let types = Btf::read(bytes, &wanted, &[]).unwrap();
        let sizes = [
            ("control", control::SIZE),
            ("lane", lane::SIZE),
            ("table", table::SIZE),
            ("entry", entry::SIZE),
            ("member", member::SIZE),
            ("members", MEMBERS * member::SIZE),
            ("counter", counter::SIZE),
            ("counters", MEMBERS * counter::SIZE),
        ];
        let sizes = sizes.into_iter().chain(more).chain(more.map(|_| ("record", RECORD)));
        for (name, size) in sizes {
            assert_eq!(types.bits(name), Some(8 * u64::try_from(size).unwrap()), "{name}");
        }
        let offsets = [
            ("control:netns", control::NETNS),
            ("control:port", control::PORT),
            ("control:active", control::ACTIVE),
            ("control:version", control::VERSION),
            ("control:admit", control::ADMIT),
            ("control:weight", control::WEIGHT),
            ("control:inverse", control::INVERSE),
            ("control:rank", control::RANK),
            ("control:first", control::FIRST),
            ("control:canary", control::CANARY),
            ("control:probes", control::PROBES),
            ("control:missed", control::MISSED),
            ("control:lane", control::LANE),
            ("lane:family", lane::FAMILY),
            ("lane:device", lane::DEVICE),
            ("lane:ip", lane::IP),
            ("table:count", table::COUNT),
            ("table:uniform", table::UNIFORM),
            ("table:at", table::AT),
            ("table:entries", table::ENTRIES),
            ("entry:member", entry::MEMBER),
            ("entry:weight", entry::WEIGHT),
            ("entry:inverse", entry::INVERSE),
            ("entry:rank", entry::RANK),
            ("entry:place", entry::PLACE),
            ("entry:index", entry::INDEX),
            ("entry:identity", entry::IDENTITY),
            ("member:cookies", member::COOKIES),
            ("member:owner", member::OWNER),
            ("member:generation", member::GENERATION),
            ("member:sockets", member::SOCKETS),
            ("member:adopted", member::ADOPTED),
            ("counter:generation", counter::GENERATION),
            ("counter:open", counter::OPEN),
            ("counter:epoch", counter::EPOCH),
            ("counter:pending", counter::PENDING),
            ("counter:hung", counter::HUNG),
            ("counter:until", counter::UNTIL),
            ("counter:chosen", counter::CHOSEN),
            ("counter:established", counter::ESTABLISHED),
            ("counter:pass", counter::PASS),
            ("counter:waiting", counter::WAITING),
        ];
        for (name, offset) in offsets {
            assert_eq!(types.bits(name), Some(8 * u64::try_from(offset).unwrap()), "{name}");
        }
    }
    assert_eq!(member::OWNER, 8 * LANES);
}
