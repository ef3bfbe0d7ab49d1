//! Classic BPF programs that select the member of a group by its position. Pure.
//!
//! `SO_ATTACH_REUSEPORT_CBPF`, socket(7): the result is a position in the kernel's array of the group
//! (`net/core/sock_reuseport.c`). For a position beyond the array, the kernel selects by its hash.

/// One instruction: `struct sock_filter` of `linux/filter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) k: u32,
}

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const COPY_TO_X: u16 = 0x07; // BPF_MISC | BPF_TAX
const ADD: u16 = 0x04; // BPF_ALU | BPF_ADD | BPF_K
const ADD_X: u16 = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
const MULTIPLY: u16 = 0x24; // BPF_ALU | BPF_MUL | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const REMAINDER: u16 = 0x94; // BPF_ALU | BPF_MOD | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const RETURN_RESULT: u16 = 0x16; // BPF_RET | BPF_A

/// `SKF_AD_OFF + SKF_AD_CPU`: the number of the processor.
const PROCESSOR: u32 = 0xFFFF_F000 + 36;
/// `SKF_NET_OFF`: from the IP header on.
const NETWORK: u32 = 0xFFF0_0000;

/// Knuth's multiplicative constant: source ports of one client differ in few bits.
const MIX: u32 = 0x9E37_79B1;

/// A program that leaves every selection to the kernel's hash.
pub(crate) const BY_HASH: [Instruction; 1] = [step(RETURN, u32::MAX)];

/// A program that selects the position of the packet's processor in `by_processor`; otherwise one of
/// the positions in `live`, by a hash of the sender's address and port, so that the datagrams of one
/// sender stay together.
///
/// `None` if `live` is empty or not a sorted list of positions below `count`, the size of the group.
pub(crate) fn program(
    live: &[usize],
    count: usize,
    by_processor: &[(usize, usize)],
) -> Option<Vec<Instruction>> {
    let number = |n: usize| u32::try_from(n).ok();
    let sorted = live.windows(2).all(|pair| pair[0] < pair[1]);
    if !sorted || *live.last()? >= count {
        return None;
    }
    let mut program = Vec::new();
    if !by_processor.is_empty() {
        program.push(step(LOAD_WORD, PROCESSOR));
    }
    for (processor, position) in by_processor {
        program.push(unless(IF_EQUAL, number(*processor)?));
        program.push(step(RETURN, number(*position)?));
    }
    if live.len() == count {
        program.extend(BY_HASH);
        return Some(program);
    }
    program.extend(SENDER);
    program.push(step(REMAINDER, number(live.len())?));
    // The rank of a live member becomes its position: one more for each other member before it.
    for absent in (0..count).filter(|position| live.binary_search(position).is_err()) {
        program.push(unless(IF_NOT_LESS, number(absent)?));
        program.push(step(ADD, 1));
    }
    program.push(step(RETURN_RESULT, 0));
    Some(program)
}

/// A hash of the sender: of the last four bytes of the source address and of the source port, which is
/// behind an IPv4 header without options, or behind an IPv6 header. Other packets get another, equally
/// valid value.
const SENDER: [Instruction; 13] = [
    step(LOAD_BYTE, NETWORK),
    step(AND, 0xF0),
    Instruction { if_false: 4, ..step(IF_EQUAL, 0x60) },
    step(LOAD_WORD, NETWORK + 20),
    step(COPY_TO_X, 0),
    step(LOAD_HALF, NETWORK + 40),
    step(JUMP, 3),
    step(LOAD_WORD, NETWORK + 12),
    step(COPY_TO_X, 0),
    step(LOAD_HALF, NETWORK + 20),
    step(ADD_X, 0),
    step(MULTIPLY, MIX),
    step(SHIFT_RIGHT, 16),
];

const fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, k }
}

/// Skips the next instruction if the comparison fails.
const fn unless(code: u16, k: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 1, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet, as the program sees it.
    #[derive(Clone, Copy)]
    struct Packet {
        processor: u32,
        ipv6: bool,
        address: u32,
        port: u16,
    }

    /// Executes a program as the kernel does.
    fn run(program: &[Instruction], packet: Packet) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
        loop {
            let Instruction { code, if_true, if_false, k } = program[at];
            at += 1;
            let mut jump =
                |condition| at += usize::from(if condition { if_true } else { if_false });
            match code {
                LOAD_WORD if k == PROCESSOR => a = packet.processor,
                LOAD_BYTE if k == NETWORK => a = if packet.ipv6 { 0x6A } else { 0x45 },
                LOAD_WORD if k == NETWORK + if packet.ipv6 { 20 } else { 12 } => a = packet.address,
                LOAD_HALF if k == NETWORK + if packet.ipv6 { 40 } else { 20 } => {
                    a = packet.port.into();
                }
                COPY_TO_X => x = a,
                ADD => a = a.wrapping_add(k),
                ADD_X => a = a.wrapping_add(x),
                MULTIPLY => a = a.wrapping_mul(k),
                AND => a &= k,
                SHIFT_RIGHT => a >>= k,
                REMAINDER => a %= k,
                JUMP => at += usize::try_from(k).unwrap(),
                IF_EQUAL => jump(a == k),
                IF_NOT_LESS => jump(a >= k),
                RETURN => return k,
                RETURN_RESULT => return a,
                other => panic!("{other:#x} {k:#x}"),
            }
        }
    }

    fn packets() -> impl Iterator<Item = Packet> {
        (0..4000).map(|n: u32| Packet {
            processor: n % 5,
            ipv6: n % 2 == 0,
            address: 0x7F00_0001 + n % 3,
            // Linux gives `connect` ports of one parity.
            port: u16::try_from(32_768 + n / 2 * 2).unwrap(),
        })
    }

    #[test]
    fn every_packet_goes_to_a_live_member() {
        for (live, count) in
            [(&[0][..], 2), (&[1], 2), (&[0, 2], 3), (&[1, 2], 4), (&[0, 1, 3, 4, 6], 8), (&[7], 8)]
        {
            let program = program(live, count, &[]).unwrap();
            let mut counts = vec![0; count];
            for packet in packets() {
                counts[run(&program, packet) as usize] += 1;
            }
            let mean = 4000 / live.len();
            for (position, got) in counts.into_iter().enumerate() {
                let expected = if live.contains(&position) { mean / 2..mean * 2 } else { 0..1 };
                assert!(expected.contains(&got), "{position} of {live:?}: {got}");
            }
        }
    }

    #[test]
    fn processors_have_members() {
        let all = program(&[0, 1, 2], 3, &[(0, 2), (3, 0), (4, 1)]).unwrap();
        let without_1 = program(&[0, 2], 3, &[(0, 2), (3, 0)]).unwrap();
        for packet in packets() {
            let (of_all, of_rest) = (run(&all, packet), run(&without_1, packet));
            match packet.processor {
                0 => assert_eq!((of_all, of_rest), (2, 2)),
                3 => assert_eq!((of_all, of_rest), (0, 0)),
                4 => assert!(of_all == 1 && [0, 2].contains(&of_rest)),
                _ => assert!(of_all == u32::MAX && [0, 2].contains(&of_rest)),
            }
        }
    }

    #[test]
    fn impossible_selections_have_no_program() {
        for (live, count) in [(&[][..], 0), (&[], 2), (&[2], 2), (&[1, 0], 2), (&[0, 0], 2)] {
            assert_eq!(program(live, count, &[]), None, "{live:?} of {count}");
        }
    }
}
