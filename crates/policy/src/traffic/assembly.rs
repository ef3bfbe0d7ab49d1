//! Blocks of classic BPF that select the index of a member.
//!
//! Every block ends with a return, so two blocks need only one jump between them. A conditional jump
//! reaches 255 instructions; [`branch`] goes farther.
//!
//! The kernel counts the instructions after its translation to eBPF against `net.core.optmem_max`
//! (`sk_reuseport_attach_filter` in `net/core/filter.c`; 20,480 bytes or more by default): a return of a
//! constant becomes two, a comparison with 2³¹ or more becomes two.

use crate::classic_bpf::Instruction;
use crate::model::Protocol;

pub(super) const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
pub(super) const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
pub(super) const LOAD_CONSTANT: u16 = 0x00; // BPF_LD | BPF_W | BPF_IMM
pub(super) const LOAD_STORED: u16 = 0x60; // BPF_LD | BPF_MEM
pub(super) const STORE: u16 = 0x02; // BPF_ST
pub(super) const COPY_TO_X: u16 = 0x07; // BPF_MISC | BPF_TAX
pub(super) const ADD: u16 = 0x04; // BPF_ALU | BPF_ADD | BPF_K
pub(super) const ADD_X: u16 = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
pub(super) const MULTIPLY: u16 = 0x24; // BPF_ALU | BPF_MUL | BPF_K
pub(super) const REMAINDER: u16 = 0x94; // BPF_ALU | BPF_MOD | BPF_K
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const SHIFT_RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
pub(super) const XOR_X: u16 = 0xac; // BPF_ALU | BPF_XOR | BPF_X, Linux 3.7
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const IF_GREATER_X: u16 = 0x2d; // BPF_JMP | BPF_JGT | BPF_X
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K
pub(super) const RETURN_RESULT: u16 = 0x16; // BPF_RET | BPF_A

/// `SKF_AD_OFF + SKF_AD_RANDOM`: 32 random bits.
pub(super) const RANDOM: u32 = (-0x1000_i32 + 56).cast_unsigned();
/// `SKF_AD_OFF + SKF_AD_CPU`: the number of the processor.
pub(super) const PROCESSOR: u32 = (-0x1000_i32 + 36).cast_unsigned();
/// `SKF_NET_OFF`: from the IP header on.
pub(super) const NETWORK: u32 = (-0x10_0000_i32).cast_unsigned();

/// The cells of the scratch memory: the drawn hash, and the index of the best member so far.
const HASH: u32 = 0;
const BEST: u32 = 1;

/// The number of possible results of a draw: positive as a signed number, which comparisons prefer.
pub(super) const DRAWS: u64 = 1 << 31;

/// The most entries of a [`by_score`] block: six instructions each, within 20,480 bytes.
pub(super) const MAX_ENTRIES: usize = 380;

pub(super) const fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, k }
}

/// Executes `then` if the comparison is true, else `otherwise`.
pub(super) fn branch(
    code: u16,
    k: u32,
    then: Vec<Instruction>,
    otherwise: Vec<Instruction>,
) -> Vec<Instruction> {
    let mut block = match u8::try_from(otherwise.len()) {
        Ok(distance) => vec![Instruction { if_true: distance, ..step(code, k) }],
        Err(_) => {
            let distance = u32::try_from(otherwise.len()).unwrap_or(u32::MAX);
            vec![Instruction { if_false: 1, ..step(code, k) }, step(JUMP, distance)]
        }
    };
    block.extend(otherwise);
    block.extend(then);
    block
}

/// What decides about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Draw {
    /// A random number.
    Random,
    /// The addresses and ports: the datagrams of a flow stay together.
    Flow,
    /// The address of the client.
    Client,
}

impl Draw {
    /// The draw of a policy that is random for connections. For UDP, a choice for each datagram would
    /// tear flows apart.
    pub(super) fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Random,
            Protocol::Udp => Self::Flow,
        }
    }

    /// Instructions to place once at the start of the program.
    pub(super) fn prepare(self) -> Vec<Instruction> {
        let mut block = match self {
            Self::Random => return vec![],
            Self::Flow => hash_of_packet(true),
            Self::Client => hash_of_packet(false),
        };
        block.push(step(STORE, HASH));
        block
    }

    /// Loads 32 bits. Each `use_of` gives others for the same packet.
    pub(super) fn load(self, use_of: Use) -> Vec<Instruction> {
        if self == Self::Random {
            return vec![step(LOAD_WORD, RANDOM)];
        }
        let mut block = vec![step(LOAD_STORED, HASH)];
        if use_of == Use::Canary {
            block.push(step(MULTIPLY, 0x9E37_79B1));
            block.extend(fold(16));
        }
        block
    }
}

/// What a draw is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Canary or not.
    Canary,
    /// Which member.
    Member,
}

/// A = A ^ (A >> bits).
fn fold(bits: u32) -> [Instruction; 3] {
    [step(COPY_TO_X, 0), step(SHIFT_RIGHT, bits), step(XOR_X, 0)]
}

/// A hash of the source address; with `ports` also of both ports, which are behind an IPv4 header
/// without options, or behind an IPv6 header.
fn hash_of_packet(ports: bool) -> Vec<Instruction> {
    /// An odd constant without a pattern.
    const MIX: u32 = 0x9E37_79B1;
    let words = |offsets: &[u32]| {
        let mut block = vec![step(LOAD_WORD, NETWORK + offsets[0])];
        for offset in &offsets[1..] {
            block.extend([
                step(MULTIPLY, MIX),
                step(COPY_TO_X, 0),
                step(LOAD_WORD, NETWORK + offset),
                step(ADD_X, 0),
            ]);
        }
        block
    };
    let (v4, v6) = match ports {
        true => (words(&[12, 20]), words(&[8, 12, 16, 20, 40])),
        false => (words(&[12]), words(&[8, 12, 16, 20])),
    };
    // Here the blocks do not return: the one for IPv6 jumps over the other.
    let length = |block: &Vec<Instruction>| u8::try_from(block.len()).unwrap_or(u8::MAX);
    let mut block = vec![step(LOAD_BYTE, NETWORK), step(AND, 0xF0)];
    block.push(Instruction { if_false: length(&v6) + 1, ..step(IF_EQUAL, 0x60) });
    block.extend(v6);
    block.push(step(JUMP, length(&v4).into()));
    block.extend(v4);
    // The finalizer of MurmurHash3: each bit of the input changes half of the bits.
    block.extend(fold(16));
    block.push(step(MULTIPLY, 0x85EB_CA6B));
    block.extend(fold(13));
    block.push(step(MULTIPLY, 0xC2B2_AE35));
    block.extend(fold(16));
    block
}

/// Selects one of these indices, which are sorted and unique, with equal probability. A holds the draw.
pub(super) fn equally(indices: &[u32]) -> Vec<Instruction> {
    if let [index] = indices {
        return vec![step(RETURN, *index)];
    }
    // The place among the indices becomes the index: in a run without a gap, by one addition.
    let mut runs: Vec<(u32, u32)> = vec![];
    for (place, index) in (0..).zip(indices) {
        if runs.last().is_none_or(|(_, shift)| place + shift != *index) {
            runs.push((place, index - place));
        }
    }
    let number = u32::try_from(indices.len()).unwrap_or(u32::MAX);
    let mut block = vec![step(REMAINDER, number)];
    block.extend(search(&runs, &|shift| match shift {
        0 => vec![step(RETURN_RESULT, 0)],
        _ => vec![step(ADD, shift), step(RETURN_RESULT, 0)],
    }));
    block
}

/// Selects one of the indices with a probability in proportion to its weight, which is not 0. A holds
/// the draw.
pub(super) fn by_weight(members: &[(u32, u32)]) -> Vec<Instruction> {
    if members.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return equally(&members.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    }
    let sum: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
    // Each has one result of the draw at least.
    let spare = DRAWS - members.len() as u64;
    let mut starts = vec![];
    let mut before = 0_u64;
    for (at, (index, weight)) in (0_u64..).zip(members) {
        let scaled = u128::from(before) * u128::from(spare) / u128::from(sum);
        let start = u64::try_from(scaled).unwrap_or(spare) + at;
        starts.push((u32::try_from(start).unwrap_or(u32::MAX), *index));
        before += u64::from(*weight);
    }
    let mut block = vec![step(SHIFT_RIGHT, 1)];
    block.extend(search(&starts, &|index| vec![step(RETURN, index)]));
    block
}

/// The block of the last entry whose start is not above A. The entries are sorted by their starts.
fn search(entries: &[(u32, u32)], block: &impl Fn(u32) -> Vec<Instruction>) -> Vec<Instruction> {
    match entries {
        [] => vec![],
        [(_, value)] => block(*value),
        _ => {
            let (below, from) = entries.split_at(entries.len() / 2);
            branch(IF_NOT_LESS, from[0].0, search(from, block), search(below, block))
        }
    }
}

/// Selects the index whose score is the highest: the product of the hash and of the entry's factor,
/// which is odd. Without an entry, only the packets that it won get another. A holds
/// the hash, which [`Draw::prepare`] has stored.
pub(super) fn by_score(entries: &[(u32, u32)]) -> Vec<Instruction> {
    let [(first, _), others @ ..] = entries else { return vec![] };
    if others.iter().all(|(index, _)| index == first) {
        return vec![step(RETURN, *first)];
    }
    let mut block = vec![
        step(MULTIPLY, entries[0].1),
        step(COPY_TO_X, 0),
        step(LOAD_CONSTANT, *first),
        step(STORE, BEST),
    ];
    for (index, factor) in others {
        block.extend([
            step(LOAD_STORED, HASH),
            step(MULTIPLY, *factor),
            Instruction { if_false: 3, ..step(IF_GREATER_X, 0) },
            step(COPY_TO_X, 0),
            step(LOAD_CONSTANT, *index),
            step(STORE, BEST),
        ]);
    }
    block.extend([step(LOAD_STORED, BEST), step(RETURN_RESULT, 0)]);
    block
}
