//! Executes programs of classic BPF as the kernel does, for tests.

use super::assembly::*;
use super::connection_ids::{IF_BITS, LOAD_LENGTH};
use crate::classic_bpf::Instruction;

/// A packet, as a program sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Packet {
    /// 32 random bits for each load.
    pub(super) random: [u32; 2],
    pub(super) processor: u32,
    pub(super) is_v6: bool,
    /// The source address, in words; IPv4 has the last.
    pub(super) source: [u32; 4],
    pub(super) source_port: u16,
    /// What is behind the header of TCP or UDP.
    pub(super) payload: &'static [u8],
}

impl Packet {
    /// The kernel ends a program with 0 where the packet is too short. None of ours may rely on that.
    fn data<const N: usize>(&self, offset: u32) -> [u8; N] {
        let from = offset as usize;
        self.payload[from..from + N].try_into().expect("N bytes")
    }

    fn network(&self, offset: u32) -> u32 {
        match (self.is_v6, offset) {
            (true, 8 | 12 | 16 | 20) => self.source[offset as usize / 4 - 2],
            (true, 40) | (false, 20) => u32::from(self.source_port) << 16 | 8080,
            (false, 12) => self.source[3],
            other => panic!("{other:?}"),
        }
    }
}

/// The result of a program, and the number of instructions executed. A jump outside of the program, a
/// missing return or an unknown load panics.
pub(super) fn execute(program: &[Instruction], packet: &Packet) -> (u32, usize) {
    let (mut a, mut x, mut at, mut executed, mut loads) = (0_u32, 0_u32, 0_usize, 0, 0);
    let mut memory = [None; 16];
    loop {
        let Instruction { code, if_true, if_false, k } = program[at];
        at += 1;
        executed += 1;
        let mut jump = |condition| at += usize::from(if condition { if_true } else { if_false });
        match code {
            LOAD_WORD if k == RANDOM => {
                a = packet.random[loads % 2];
                loads += 1;
            }
            LOAD_WORD if k == PROCESSOR => a = packet.processor,
            LOAD_LENGTH => a = u32::try_from(packet.payload.len()).expect("a length"),
            LOAD_BYTE if is_of_datagram(k) => a = packet.data::<1>(k)[0].into(),
            LOAD_WORD if is_of_datagram(k) => a = u32::from_be_bytes(packet.data(k)),
            LOAD_BYTE if k == NETWORK => a = if packet.is_v6 { 0x6A } else { 0x45 },
            LOAD_WORD => a = packet.network(k - NETWORK),
            LOAD_HALF => a = packet.network(k - NETWORK) >> 16,
            LOAD_CONSTANT => a = k,
            LOAD_STORED => a = memory[k as usize].expect("a stored value"),
            STORE => memory[k as usize] = Some(a),
            COPY_TO_X => x = a,
            ADD => a = a.wrapping_add(k),
            ADD_X => a = a.wrapping_add(x),
            MULTIPLY => a = a.wrapping_mul(k),
            REMAINDER => a %= k,
            AND => a &= k,
            SHIFT_RIGHT => a >>= k,
            XOR_X => a ^= x,
            JUMP => at += k as usize,
            IF_BITS => jump(a & k != 0),
            IF_EQUAL => jump(a == k),
            IF_NOT_LESS => jump(a >= k),
            IF_GREATER_X => jump(a > x),
            RETURN => return (k, executed),
            RETURN_RESULT => return (a, executed),
            other => panic!("code {other:#x} of {k:#x}"),
        }
    }
}

/// The bytes that the kernel compares with `net.core.optmem_max`: `struct bpf_prog`, and the
/// instructions after its translation to eBPF (`bpf_convert_filter`), with its prologue.
pub(super) fn optmem(program: &[Instruction]) -> usize {
    let translated = |it: &Instruction| match it.code {
        RETURN => 2,
        LOAD_WORD | LOAD_HALF | LOAD_BYTE => 12,
        IF_EQUAL | IF_NOT_LESS if it.k >> 31 == 1 => 2,
        // A division by a constant, a comparison with a jump on one side, and the rest.
        _ => 1,
    };
    let both = |it: &Instruction| usize::from(it.if_true > 0 && it.if_false > 0);
    256 + 8 * (8 + program.iter().map(|it| translated(it) + both(it)).sum::<usize>())
}

/// Whether a load is of the datagram, and not of its headers or of the kernel.
fn is_of_datagram(offset: u32) -> bool {
    offset < NETWORK
}
