//! The structures of `bpf/traffic.h`: where each number is, in bytes. Little-endian, as the objects.

/// The version of everything below, in the name of each directory of pins. Another version is another layout.
pub(super) const LAYOUT: &str = "v2";

/// The most members of a port.
pub(super) const MEMBERS: usize = 1024;
/// The most groups of a port, one for each address.
pub(super) const LANES: usize = 4;
/// No processor, no node.
pub(super) const NO_PLACE: u32 = u32::MAX;

/// `struct control`.
pub(super) mod control {
    pub(crate) const SIZE: usize = 200;
    pub(crate) const NETNS: usize = 0;
    /// Port in the low half, the number of lanes in the high one.
    pub(crate) const PORT: usize = 8;
    pub(crate) const ACTIVE: usize = 12;
    pub(crate) const VERSION: usize = 16;
    pub(crate) const ADMIT: usize = 20;
    pub(crate) const WEIGHT: usize = 24;
    pub(crate) const INVERSE: usize = 28;
    pub(crate) const RANK: usize = 32;
    pub(crate) const FIRST: usize = 36;
    pub(crate) const CANARY: usize = 40;
    pub(crate) const PROBES: usize = 44;
    pub(crate) const MISSED: usize = 48;
    pub(crate) const SWEPT: usize = 80;
    pub(crate) const LANE: usize = 104;
}

/// `struct lane`.
pub(super) mod lane {
    pub(crate) const SIZE: usize = 24;
    pub(crate) const FAMILY: usize = 0;
    pub(crate) const DEVICE: usize = 4;
    pub(crate) const IP: usize = 8;
}

/// `struct table`: columns, by index, but `AT` by member.
pub(super) mod table {
    use super::MEMBERS;

    pub(crate) const SIZE: usize = IDENTITIES + 8 * MEMBERS + 8;
    pub(crate) const COUNT: usize = 0;
    pub(crate) const UNIFORM: usize = 4;
    pub(crate) const GREATEST: usize = 8;
    pub(crate) const AT: usize = 16;
    pub(crate) const INDEXED: usize = AT + 2 * MEMBERS;
    pub(crate) const WEIGHTS: usize = INDEXED + 2 * MEMBERS;
    pub(crate) const INVERSES: usize = WEIGHTS + 4 * MEMBERS;
    pub(crate) const RANKS: usize = INVERSES + 4 * MEMBERS;
    pub(crate) const PLACES: usize = RANKS + 4 * MEMBERS;
    pub(crate) const IDENTITIES: usize = PLACES + 4 * MEMBERS;
}

/// `struct member`.
pub(super) mod member {
    pub(crate) const SIZE: usize = 56;
    pub(crate) const COOKIES: usize = 0;
    pub(crate) const OWNER: usize = 32;
    pub(crate) const GENERATION: usize = 40;
    pub(crate) const SOCKETS: usize = 44;
    pub(crate) const ADOPTED: usize = 48;
    /// In `SOCKETS`: the number is taken, and about to have a socket.
    pub(crate) const CLAIMED: u32 = 1 << 16;
}

/// `struct counters`: columns, by member.
pub(super) mod counters {
    use super::{MEMBERS, counter};

    pub(crate) const SIZE: usize = OF + MEMBERS * counter::SIZE;
    /// Two numbers of four bytes each: the load, and the tick until which it is left out.
    pub(crate) const LOADS: usize = 0;
    /// Two numbers of four bytes each.
    pub(crate) const PENDING: usize = LOADS + 8 * MEMBERS;
    pub(crate) const PASSES: usize = PENDING + 8 * MEMBERS;
    pub(crate) const OF: usize = PASSES + 8 * MEMBERS;
}

/// `struct counter`.
pub(super) mod counter {
    pub(crate) const SIZE: usize = 64;
    pub(crate) const GENERATION: usize = 0;
    pub(crate) const OPEN: usize = 4;
    pub(crate) const HUNG: usize = 12;
    pub(crate) const CHOSEN: usize = 16;
    pub(crate) const ESTABLISHED: usize = 24;
    pub(crate) const WAITING: usize = 32;
}

/// `struct mark`: member, generation, lane, flags.
pub(super) type RawMark = [u8; 16];
/// In the flags of a mark: the connection is counted.
pub(super) const COUNTED: u32 = 1;
/// In the flags of a mark: it is counted until its last descriptor is closed.
pub(super) const COUNTED_UNTIL_CLOSE: u32 = 2;
/// In the flags of a mark of a socket that does not listen yet, and in `member::ADOPTED`: the member is not chosen
/// before a plan admits it.
pub(super) const HELD_BACK: u32 = 4;

pub(super) fn mark(member: u32, generation: u32, lane: u32, flags: u32) -> RawMark {
    let mut bytes = [0; 16];
    for (at, number) in [member, generation, lane, flags].into_iter().enumerate() {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// `struct record`.
pub(super) const RECORD: usize = 1 << 16;

/// A load is multiplied by this and divided by the weight.
pub(super) fn inverse(weight: u32) -> u32 {
    ((1 << 28) / weight.max(1)).max(1)
}

/// `mix` of `bpf/traffic.h`.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 32
}

pub(super) fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}
