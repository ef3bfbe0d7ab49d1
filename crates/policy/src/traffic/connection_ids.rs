//! QUIC connection ids that name a socket, for classic BPF: docs/udp.md has their layout.
//!
//! A server that makes such ids keeps its connections when a client's address changes, and when members
//! come and go. Other datagrams, and ids that name no member, are left to the policy.

use super::assembly::{AND, IF_EQUAL, IF_NOT_LESS, JUMP, LOAD_BYTE, LOAD_WORD, RETURN, step};
use crate::classic_bpf::Instruction;

/// `BPF_LD | BPF_W | BPF_LEN`: the length of the datagram, without the UDP header.
pub(super) const LOAD_LENGTH: u16 = 0x80;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(super) const IF_BITS: u16 = 0x45;

/// Extends a program: datagrams whose connection id has one of these names go to the member with that
/// index. The program's data begins behind the UDP header.
pub(super) fn with_connection_ids(
    names: &[(u32, u32)],
    otherwise: Vec<Instruction>,
) -> Vec<Instruction> {
    /// A long header with the first octets of an id. A load behind the end would select index 0.
    const SHORTEST: u32 = 11;
    /// The first octet of an id: three bits for the format, of which all are set if it names nothing.
    const FORMAT: u32 = 0xE0;
    if names.is_empty() {
        return otherwise;
    }
    let names_nothing = |distance| Instruction { if_true: distance, ..step(IF_EQUAL, FORMAT) };
    let unless = |k, distance| Instruction { if_false: distance, ..step(IF_NOT_LESS, k) };
    let chain = u32::try_from(2 * names.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        step(LOAD_LENGTH, 0),
        unless(SHORTEST, 14),
        step(LOAD_BYTE, 0),
        Instruction { if_true: 5, ..step(IF_BITS, 0x80) },
        // A short header has the id from octet 1 on.
        step(LOAD_BYTE, 1),
        step(AND, FORMAT),
        names_nothing(9),
        step(LOAD_WORD, 2),
        step(JUMP, 8),
        // A long header has the length of the id in octet 5.
        step(LOAD_BYTE, 5),
        unless(5, 5),
        step(LOAD_BYTE, 6),
        step(AND, FORMAT),
        names_nothing(2),
        step(LOAD_WORD, 7),
        step(JUMP, 1),
        step(JUMP, chain),
    ];
    for (name, index) in names {
        program.push(Instruction { if_false: 1, ..step(IF_EQUAL, *name) });
        program.push(step(RETURN, *index));
    }
    program.extend(otherwise);
    program
}

#[cfg(test)]
mod tests {
    use super::super::assembly::RETURN_RESULT;
    use super::super::execution::{Packet, execute};
    use super::*;

    const OTHERWISE: u32 = 77;
    const NAMES: [(u32, u32); 2] = [(0x0102_0304, 5), (0xFFFF_FFFF, 6)];

    fn index_for(payload: &'static [u8]) -> u32 {
        let program = with_connection_ids(&NAMES, vec![step(RETURN, OTHERWISE)]);
        execute(&program, &Packet { payload, ..Packet::default() }).0
    }

    #[test]
    fn a_name_selects_its_member_in_both_headers() {
        for (payload, expected, what) in [
            (&[0x40, 0, 1, 2, 3, 4, 9, 9, 9, 9, 9, 9][..], 5, "short"),
            (&[0x00, 0xDF, 1, 2, 3, 4, 9, 9, 9, 9, 9], 5, "short, greased, another configuration"),
            (&[0x40, 0, 0xFF, 0xFF, 0xFF, 0xFF, 9, 9, 9, 9, 9], 6, "the highest name"),
            (&[0x40, 0xE0, 1, 2, 3, 4, 9, 9, 9, 9, 9], OTHERWISE, "an id that names nothing"),
            (&[0x40, 0, 1, 2, 3, 5, 9, 9, 9, 9, 9], OTHERWISE, "an unknown name"),
            (&[0x40, 0, 1, 2, 3, 4, 9, 9, 9, 9], OTHERWISE, "too short for a packet"),
            (&[0xE0, 0, 0, 0, 1, 8, 0, 1, 2, 3, 4, 9], 5, "handshake"),
            (&[0xC0, 0, 0, 0, 1, 5, 0, 1, 2, 3, 4], 5, "initial, the shortest id"),
            (&[0xC0, 0, 0, 0, 1, 4, 0, 1, 2, 3, 4], OTHERWISE, "an id that is too short"),
            (&[0xC0, 0, 0, 0, 1, 8, 0xFF, 1, 2, 3, 4], OTHERWISE, "long, names nothing"),
            (&[0xC0, 0, 0, 0, 1, 8, 0, 4, 3, 2, 1], OTHERWISE, "long, an unknown name"),
            (&[], OTHERWISE, "empty"),
        ] {
            assert_eq!(index_for(payload), expected, "{what}");
        }
    }

    #[test]
    fn without_a_name_the_program_is_the_same() {
        let otherwise = vec![step(RETURN_RESULT, 0)];
        assert_eq!(with_connection_ids(&[], otherwise.clone()), otherwise);
    }

    #[test]
    fn a_thousand_names_are_compared() {
        let names: Vec<(u32, u32)> = (0..1024).map(|at| (at + 0x0102_0000, at)).collect();
        let program = with_connection_ids(&names, vec![step(RETURN, OTHERWISE)]);
        let index = |payload| execute(&program, &Packet { payload, ..Packet::default() }).0;
        assert_eq!(index(&[0x40, 0, 1, 2, 3, 0xFF, 9, 9, 9, 9, 9]), 0x3FF);
        assert_eq!(index(&[0x40, 0, 1, 2, 4, 0, 9, 9, 9, 9, 9]), OTHERWISE);
        assert_eq!(index(&[]), OTHERWISE);
        assert_eq!(index(&[0x40, 0xE0, 1, 2, 3, 0xFF, 9, 9, 9, 9, 9]), OTHERWISE);
    }
}
