//! The seccomp filter that `run` puts on a worker: which system calls stop and ask.
//!
//! Classic BPF as data. `bind` and `listen` ask the supervisor, and with `--source` also `connect`
//! and a `sendto` that names an address, where sockets are held a `shutdown` that a listener would
//! feel, where the supervisor binds for workers a `landlock_restrict_self`; `io_uring_setup` is answered ENOSYS unless allowed, because a ring binds without making a
//! system call; everything else goes on untouched. Only *sharing* hangs on this filter, never safety:
//! the supervisor lets every call continue with the worker's own rights.

use crate::classic_bpf::Instruction;
use crate::seccomp::calls::{
    Architecture, Dialect, LANDLOCK_RESTRICT_SELF, SHUT_WR, SOCKETCALL_BIND, SOCKETCALL_CONNECT,
    SOCKETCALL_LISTEN, SOCKETCALL_SENDTO, SOCKETCALL_SHUTDOWN,
};

/// Whether a worker may create io_uring rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoUring {
    /// `io_uring_setup` answers ENOSYS, as on a kernel without it; programs fall back.
    Refuse,
    /// Rings work, and a bind made through one is neither seen nor shared.
    Allow,
}

/// The calls that notify the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterOptions {
    /// Whether workers may create io_uring rings.
    pub io_uring: IoUring,
    /// Whether to ask about connections too, which costs each of them a round trip.
    pub connections: bool,
    /// Whether to ask about `shutdown`, which would end a held socket for the next worker.
    pub shutdowns: bool,
    /// Whether to ask about `landlock_restrict_self`, after which the supervisor must not bind for the
    /// worker.
    pub restrictions: bool,
}

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data. The low half of args[0] comes first on little-endian machines,
// and every machine in `calls` is one.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;
const OFFSET_SECOND_ARGUMENT: u32 = 24;
const OFFSET_FIFTH_ARGUMENT: u32 = 48;

/// `SECCOMP_RET_ALLOW`.
pub const ALLOW: u32 = 0x7FFF_0000;
/// `SECCOMP_RET_USER_NOTIF`.
pub const NOTIFY: u32 = 0x7FC0_0000;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
pub const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// The filter for a worker on this machine.
///
/// A call in a dialect that the machine should not have is answered ENOSYS rather than let through
/// unseen.
#[must_use]
pub fn program(machine: Architecture, stops: FilterOptions) -> Vec<Instruction> {
    let mut program = vec![load(OFFSET_ARCH)];
    for dialect in machine.dialects() {
        let block = block(dialect, stops);
        let skip = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push(unless_equal(dialect.arch, skip));
        program.extend(block);
    }
    program.push(answer(NO_SUCH_CALL));
    program
}

/// The decision for one dialect; every path through it returns.
fn block(dialect: &Dialect, stops: FilterOptions) -> Vec<Instruction> {
    let mut block = vec![load(OFFSET_NUMBER)];
    if dialect.ignored_bits != 0 {
        block.push(Instruction { code: AND, if_true: 0, if_false: 0, k: !dialect.ignored_bits });
    }
    let connect = stops.connections.then_some(dialect.connect);
    let restrict = stops.restrictions.then_some(LANDLOCK_RESTRICT_SELF);
    for number in [dialect.bind, dialect.listen].into_iter().chain(connect).chain(restrict) {
        block.extend([unless_equal(number, 1), answer(NOTIFY)]);
    }
    if stops.connections {
        // Without an address it is `send`, on a socket that is connected.
        block.extend([
            unless_equal(dialect.sendto, 6),
            load(OFFSET_FIFTH_ARGUMENT),
            unless_equal(0, 3),
            load(OFFSET_FIFTH_ARGUMENT + 4),
            unless_equal(0, 1),
            answer(ALLOW),
            answer(NOTIFY),
        ]);
    }
    if stops.shutdowns {
        // Servers call it for every connection; SHUT_WR does nothing to a listener.
        block.extend([
            unless_equal(dialect.shutdown, 4),
            load(OFFSET_SECOND_ARGUMENT),
            unless_equal(SHUT_WR, 1),
            answer(ALLOW),
            answer(NOTIFY),
        ]);
    }
    if stops.io_uring == IoUring::Refuse {
        block.extend([unless_equal(dialect.io_uring_setup, 1), answer(NO_SUCH_CALL)]);
    }
    if let Some(socketcall) = dialect.socketcall {
        let mut asking = vec![SOCKETCALL_BIND, SOCKETCALL_LISTEN];
        if stops.connections {
            asking.extend([SOCKETCALL_CONNECT, SOCKETCALL_SENDTO]);
        }
        if stops.shutdowns {
            asking.push(SOCKETCALL_SHUTDOWN);
        }
        let mut inner = vec![load(OFFSET_FIRST_ARGUMENT)];
        for call in asking {
            inner.extend([unless_equal(call, 1), answer(NOTIFY)]);
        }
        block.push(unless_equal(socketcall, u8::try_from(inner.len()).unwrap_or(u8::MAX)));
        block.extend(inner);
    }
    block.push(answer(ALLOW));
    block
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, if_true: 0, if_false: 0, k: offset }
}

/// Goes on with the next instruction if the loaded word is `k`, else skips `skip` of them.
fn unless_equal(k: u32, skip: u8) -> Instruction {
    Instruction { code: JUMP_IF_EQUAL, if_true: 0, if_false: skip, k }
}

fn answer(k: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: FilterOptions = FilterOptions {
        io_uring: IoUring::Refuse,
        connections: false,
        shutdowns: false,
        restrictions: false,
    };
    const ALL: FilterOptions = FilterOptions {
        io_uring: IoUring::Refuse,
        connections: true,
        shutdowns: true,
        restrictions: true,
    };
    const RINGS: FilterOptions = FilterOptions { io_uring: IoUring::Allow, ..USUAL };

    fn verdict(program: &[Instruction], arch: u32, number: u32, first_argument: u32) -> u32 {
        verdict_on(program, arch, number, [first_argument, 0, 0])
    }

    fn verdict_on(program: &[Instruction], arch: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let [first, low, high] = arguments;
        run(program, arch, number, [first, 0, low, high])
    }

    fn verdict_at(program: &[Instruction], arch: u32, number: u32, first: u32, second: u32) -> u32 {
        run(program, arch, number, [first, second, 0, 0])
    }

    /// Runs the program as the kernel would; a jump outside it or a missing return panics. The
    /// arguments are the low halves of the first two, and both halves of the fifth.
    fn run(program: &[Instruction], arch: u32, number: u32, arguments: [u32; 4]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let Instruction { code, if_true, if_false, k } = program[at];
            at += 1;
            match code {
                LOAD_WORD => {
                    accumulator = match k {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCH => arch,
                        OFFSET_FIRST_ARGUMENT => arguments[0],
                        OFFSET_SECOND_ARGUMENT => arguments[1],
                        48 => arguments[2],
                        52 => arguments[3],
                        other => panic!("load of offset {other}"),
                    }
                }
                AND => accumulator &= k,
                JUMP_IF_EQUAL => {
                    at += usize::from(if accumulator == k { if_true } else { if_false });
                }
                RETURN => return k,
                other => panic!("unknown code {other:#x}"),
            }
        }
    }

    const X64: u32 = 0xC000_003E;
    const X86: u32 = 0x4000_0003;

    #[test]
    fn bind_and_listen_ask_in_every_dialect() {
        for machine in [Architecture::X86_64, Architecture::Aarch64, Architecture::Riscv64] {
            let program = program(machine, USUAL);
            for dialect in machine.dialects() {
                assert_eq!(verdict(&program, dialect.arch, dialect.bind, 0), NOTIFY);
                assert_eq!(verdict(&program, dialect.arch, dialect.listen, 0), NOTIFY);
                assert_eq!(
                    verdict(&program, dialect.arch, dialect.io_uring_setup, 0),
                    NO_SUCH_CALL
                );
            }
        }
    }

    #[test]
    fn everything_else_goes_on() {
        let program = program(Architecture::X86_64, USUAL);
        let asking = [49, 50, 425];
        for number in (0..600).filter(|number| !asking.contains(number)) {
            assert_eq!(verdict(&program, X64, number, 2), ALLOW, "call {number}");
        }
        let asking = [361, 363, 425, 102];
        for number in (0..600).filter(|number| !asking.contains(number)) {
            assert_eq!(verdict(&program, X86, number, 2), ALLOW, "i386 call {number}");
        }
    }

    #[test]
    fn x32_and_socketcall_are_no_way_round() {
        let program = program(Architecture::X86_64, USUAL);
        assert_eq!(verdict(&program, X64, 49 | 0x4000_0000, 0), NOTIFY);
        assert_eq!(verdict(&program, X64, 425 | 0x4000_0000, 0), NO_SUCH_CALL);
        for (call, expected) in [(1, ALLOW), (2, NOTIFY), (3, ALLOW), (4, NOTIFY), (5, ALLOW)] {
            assert_eq!(verdict(&program, X86, 102, call), expected, "socketcall {call}");
        }
    }

    #[test]
    fn an_unknown_dialect_is_refused() {
        let program = program(Architecture::X86_64, RINGS);
        assert_eq!(verdict(&program, 0xC000_00B7, 200, 0), NO_SUCH_CALL);
    }

    #[test]
    fn io_uring_can_be_allowed() {
        let program = program(Architecture::X86_64, RINGS);
        assert_eq!(verdict(&program, X64, 425, 0), ALLOW);
    }

    #[test]
    fn connections_ask_only_with_source() {
        let usual = program(Architecture::X86_64, USUAL);
        let all = program(Architecture::X86_64, ALL);
        for (number, arguments, expected) in [
            (42, [0, 0, 0], NOTIFY),
            (44, [0, 0, 0], ALLOW),
            (44, [0, 1, 0], NOTIFY),
            (44, [0, 0, 1], NOTIFY),
            (45, [0, 1, 0], ALLOW),
            (49, [0, 0, 0], NOTIFY),
            (425, [0, 0, 0], NO_SUCH_CALL),
        ] {
            assert_eq!(verdict_on(&all, X64, number, arguments), expected, "{number}");
        }
        assert_eq!(verdict_on(&usual, X64, 42, [0, 0, 0]), ALLOW);
        assert_eq!(verdict_on(&usual, X64, 44, [0, 1, 0]), ALLOW);
        for (call, asked) in [(2, true), (3, true), (4, true), (5, false), (11, true)] {
            let expected = if asked { NOTIFY } else { ALLOW };
            assert_eq!(verdict(&all, X86, 102, call), expected, "socketcall {call}");
        }
    }

    #[test]
    fn shutdowns_ask_only_where_sockets_are_held_and_a_listener_feels_them() {
        let usual = program(Architecture::X86_64, USUAL);
        let all = program(Architecture::X86_64, ALL);
        for (how, expected) in [(0, NOTIFY), (1, ALLOW), (2, NOTIFY)] {
            assert_eq!(verdict_at(&all, X64, 48, 1, how), expected, "how {how}");
            assert_eq!(verdict_at(&usual, X64, 48, 1, how), ALLOW, "how {how}");
        }
        assert_eq!(verdict(&all, X86, 102, 13), NOTIFY);
        assert_eq!(verdict(&usual, X86, 102, 13), ALLOW);
    }

    #[test]
    fn restrictions_ask_only_where_the_supervisor_binds() {
        for machine in [Architecture::X86_64, Architecture::Aarch64, Architecture::Riscv64] {
            for (options, expected) in [(USUAL, ALLOW), (ALL, NOTIFY)] {
                let program = program(machine, options);
                for dialect in machine.dialects() {
                    assert_eq!(verdict(&program, dialect.arch, 446, 0), expected);
                }
            }
        }
    }

    /// `unless_equal` holds a block's length in eight bits.
    #[test]
    fn every_block_can_be_jumped_over() {
        for machine in [Architecture::X86_64, Architecture::Aarch64, Architecture::Riscv64] {
            for dialect in machine.dialects() {
                assert!(block(dialect, ALL).len() < usize::from(u8::MAX));
            }
        }
    }
}
