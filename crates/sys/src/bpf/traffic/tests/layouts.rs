//! The structures of `bpf/traffic.h`, against the numbers of `layout`.

use crate::bpf::socket_iter::btf::Btf;
use crate::bpf::traffic::layout::{
    LANES, MEMBERS, RECORD, RawMark, control, counter, counters, lane, member, table,
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
            ["control", "lane", "table", "brief", "member", "members", "counter", "counters"];
        let mut wanted: Vec<_> = names.to_vec();
        wanted.extend(more.map(|(name, _)| name));
        wanted.extend(more.map(|_| "record"));
        let types = Btf::read(bytes, &wanted, &[]).unwrap();
        let sizes = [
            ("control", control::SIZE),
            ("lane", lane::SIZE),
            ("table", table::SIZE),
            ("member", member::SIZE),
            ("members", MEMBERS * member::SIZE),
            ("counter", counter::SIZE),
            ("counters", counters::SIZE),
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
            ("control:swept", control::SWEPT),
            ("control:lane", control::LANE),
            ("lane:family", lane::FAMILY),
            ("lane:device", lane::DEVICE),
            ("lane:ip", lane::IP),
            ("table:count", table::COUNT),
            ("table:uniform", table::UNIFORM),
            ("table:at", table::AT),
            ("table:greatest", table::GREATEST),
            ("table:members", table::INDEXED),
            ("table:weights", table::WEIGHTS),
            ("table:inverses", table::INVERSES),
            ("table:ranks", table::RANKS),
            ("table:places", table::PLACES),
            ("table:identities", table::IDENTITIES),
            ("member:cookies", member::COOKIES),
            ("member:owner", member::OWNER),
            ("member:generation", member::GENERATION),
            ("member:sockets", member::SOCKETS),
            ("member:adopted", member::ADOPTED),
            ("counters:brief", counters::LOADS),
            ("counters:pending", counters::PENDING),
            ("counters:passes", counters::PASSES),
            ("counters:of", counters::OF),
            ("counter:generation", counter::GENERATION),
            ("counter:open", counter::OPEN),
            ("counter:hung", counter::HUNG),
            ("counter:chosen", counter::CHOSEN),
            ("counter:established", counter::ESTABLISHED),
            ("counter:waiting", counter::WAITING),
        ];
        for (name, offset) in offsets {
            assert_eq!(types.bits(name), Some(8 * u64::try_from(offset).unwrap()), "{name}");
        }
    }
    assert_eq!(member::OWNER, 8 * LANES);
}
