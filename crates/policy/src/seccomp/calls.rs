//! The system calls that `run` sees, on every machine it knows, and how to read one.
//!
//! A process can make system calls in more than one dialect: a 64-bit x86 process may enter the
//! kernel by the i386 table (`int 0x80`) or the x32 one. Every dialect of a machine is listed, so
//! that the filter can name each of them and no bind goes through unseen.
//!
//! Sources: `arch/x86/entry/syscalls/syscall_{32,64}.tbl`, `arch/arm/tools/syscall.tbl`,
//! `scripts/syscall.tbl` (aarch64, riscv64), `include/uapi/linux/audit.h`.

/// One dialect of system calls: the audit architecture and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `AUDIT_ARCH_*`, as `seccomp_data.arch` reports it.
    pub arch: u32,
    /// Number of `bind`.
    pub bind: u32,
    /// Number of `listen`.
    pub listen: u32,
    /// Number of `connect`.
    pub connect: u32,
    /// Number of `sendto`.
    pub sendto: u32,
    /// Number of `shutdown`.
    pub shutdown: u32,
    /// Number of `io_uring_setup`, whose rings bind without a system call that seccomp sees.
    pub io_uring_setup: u32,
    /// Number of `socketcall`, which multiplexes `bind` and `listen` on i386.
    pub socketcall: Option<u32>,
    /// Bits in the number that select a variant of the same table (x32).
    pub ignored_bits: u32,
}

/// A processor family with every dialect its kernel may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64, with i386 and x32 processes.
    X86_64,
    /// 64-bit Arm, with 32-bit Arm processes.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

const X86_64: Dialect = Dialect {
    arch: 0xC000_003E,
    bind: 49,
    listen: 50,
    connect: 42,
    sendto: 44,
    shutdown: 48,
    io_uring_setup: 425,
    socketcall: None,
    ignored_bits: 0x4000_0000,
};
const I386: Dialect = Dialect {
    arch: 0x4000_0003,
    bind: 361,
    listen: 363,
    connect: 362,
    sendto: 369,
    shutdown: 373,
    io_uring_setup: 425,
    socketcall: Some(102),
    ignored_bits: 0,
};
const AARCH64: Dialect = Dialect {
    arch: 0xC000_00B7,
    bind: 200,
    listen: 201,
    connect: 203,
    sendto: 206,
    shutdown: 210,
    io_uring_setup: 425,
    socketcall: None,
    ignored_bits: 0,
};
const ARM: Dialect = Dialect {
    arch: 0x4000_0028,
    bind: 282,
    listen: 284,
    connect: 283,
    sendto: 290,
    shutdown: 293,
    ..AARCH64
};
const RISCV64: Dialect = Dialect { arch: 0xC000_00F3, ..AARCH64 };

impl Architecture {
    /// The machine with this name, as Rust's `target_arch` has it.
    #[must_use]
    pub fn named(target_arch: &str) -> Option<Self> {
        match target_arch {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            "riscv64" => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// Every dialect a process on this machine can speak, the native one first.
    #[must_use]
    pub fn dialects(self) -> &'static [Dialect] {
        match self {
            Self::X86_64 => &[X86_64, I386],
            Self::Aarch64 => &[AARCH64, ARM],
            Self::Riscv64 => &[RISCV64],
        }
    }
}

/// The calls that `socketcall(2)` multiplexes, as `include/uapi/linux/net.h` numbers them.
pub(crate) const SOCKETCALL_BIND: u32 = 2;
pub(crate) const SOCKETCALL_CONNECT: u32 = 3;
pub(crate) const SOCKETCALL_LISTEN: u32 = 4;
pub(crate) const SOCKETCALL_SENDTO: u32 = 11;
pub(crate) const SOCKETCALL_SHUTDOWN: u32 = 13;

/// Number of `landlock_restrict_self(2)`, the same in every dialect.
pub(crate) const LANDLOCK_RESTRICT_SELF: u32 = 446;

/// `shutdown(2)`'s `how` that a listener does not feel (`inet_shutdown` in `net/ipv4/af_inet.c`).
pub(crate) const SHUT_WR: u32 = 1;

/// A worker's call, with its pointers still in the worker's own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCall {
    /// `bind(fd, address, length)`.
    Bind(AddrArgument),
    /// `listen(fd, backlog)`.
    Listen {
        /// The worker's descriptor.
        fd: i32,
        /// How many connections may wait; the kernel takes a negative number for the most.
        backlog: i32,
    },
    /// `shutdown(fd, how)`.
    Shutdown {
        /// The worker's descriptor.
        fd: i32,
    },
    /// `landlock_restrict_self(…)`: the worker gives up rights that the supervisor must not lend it.
    RestrictSelf,
    /// `connect(fd, address, length)`, or `sendto(fd, …, address, length)`.
    Towards(AddrArgument),
    /// i386 `socketcall(call, arguments)`: six 32-bit argument words must be read from `arguments`
    /// first (the kernel reads as many as the call has), then given to [`WorkerCall::from_socketcall`].
    Socketcall {
        /// Which call.
        call: u32,
        /// Where the argument words lie.
        arguments: u64,
    },
}

/// A descriptor, and an address in the worker's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddrArgument {
    /// The worker's descriptor.
    pub fd: i32,
    /// Where the sockaddr lies.
    pub address: u64,
    /// How many bytes it claims to have.
    pub length: u64,
}

impl WorkerCall {
    /// Reads a notification. `None`: not a call that `run` looks at.
    #[must_use]
    pub fn read(machine: Architecture, arch: u32, number: u32, args: [u64; 6]) -> Option<Self> {
        let dialect = machine.dialects().iter().find(|dialect| dialect.arch == arch)?;
        let number = number & !dialect.ignored_bits;
        let named = |address: u64, length: u64| AddrArgument { fd: int(args[0]), address, length };
        match number {
            LANDLOCK_RESTRICT_SELF => Some(Self::RestrictSelf),
            n if n == dialect.bind => Some(Self::Bind(named(args[1], args[2]))),
            n if n == dialect.listen => {
                Some(Self::Listen { fd: int(args[0]), backlog: int(args[1]) })
            }
            n if n == dialect.shutdown => Some(Self::Shutdown { fd: int(args[0]) }),
            n if n == dialect.connect => Some(Self::Towards(named(args[1], args[2]))),
            n if n == dialect.sendto => Some(Self::Towards(named(args[4], args[5]))),
            n if Some(n) == dialect.socketcall => {
                Some(Self::Socketcall { call: u32::try_from(args[0]).ok()?, arguments: args[1] })
            }
            _ => None,
        }
    }

    /// The worker's descriptor; `None` while it is in the worker's memory, and for a call without one.
    #[must_use]
    pub fn fd(self) -> Option<i32> {
        match self {
            Self::Bind(AddrArgument { fd, .. })
            | Self::Listen { fd, .. }
            | Self::Shutdown { fd }
            | Self::Towards(AddrArgument { fd, .. }) => Some(fd),
            Self::Socketcall { .. } | Self::RestrictSelf => None,
        }
    }

    /// How many argument words a `socketcall` of this kind has; `None` if `run` does not look at it.
    #[must_use]
    pub fn socketcall_words(call: u32) -> Option<usize> {
        match call {
            SOCKETCALL_LISTEN | SOCKETCALL_SHUTDOWN => Some(2),
            SOCKETCALL_BIND | SOCKETCALL_CONNECT => Some(3),
            SOCKETCALL_SENDTO => Some(6),
            _ => None,
        }
    }

    /// The call that a `socketcall` stands for, from its argument words.
    #[must_use]
    pub fn from_socketcall(call: u32, words: [u32; 6]) -> Option<Self> {
        let fd = int(u64::from(words[0]));
        let named = |at: usize| AddrArgument {
            fd,
            address: u64::from(words[at]),
            length: u64::from(words[at + 1]),
        };
        match call {
            SOCKETCALL_BIND => Some(Self::Bind(named(1))),
            SOCKETCALL_LISTEN => Some(Self::Listen { fd, backlog: int(u64::from(words[1])) }),
            SOCKETCALL_SHUTDOWN => Some(Self::Shutdown { fd }),
            SOCKETCALL_CONNECT => Some(Self::Towards(named(1))),
            SOCKETCALL_SENDTO => Some(Self::Towards(named(4))),
            _ => None,
        }
    }
}

/// The kernel reads a descriptor, or another C int, from the low 32 bits of its register, whatever is above them.
#[expect(clippy::cast_possible_truncation, reason = "the kernel truncates in the same way")]
fn int(register: u64) -> i32 {
    register as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_of_x86_is_read() {
        let machine = Architecture::X86_64;
        let at = |address, length| AddrArgument { fd: 3, address, length };
        let bind = WorkerCall::Bind(at(0x1000, 16));
        let args = [3, 0x1000, 16, 0, 0x3000, 28];
        let socketcall = |call| WorkerCall::Socketcall { call, arguments: 0x2000 };
        let cases = [
            (0xC000_003E, 49, args, Some(bind)),
            (0xC000_003E, 49 | 0x4000_0000, args, Some(bind)),
            (0x4000_0003, 361, args, Some(bind)),
            (0x4000_0003, 49, args, None),
            (0xC000_003E, 50, args, Some(WorkerCall::Listen { fd: 3, backlog: 0x1000 })),
            (0xC000_003E, 48, args, Some(WorkerCall::Shutdown { fd: 3 })),
            (0x4000_0003, 363, args, Some(WorkerCall::Listen { fd: 3, backlog: 0x1000 })),
            (0xC000_003E, 42, args, Some(WorkerCall::Towards(at(0x1000, 16)))),
            (0xC000_003E, 44, args, Some(WorkerCall::Towards(at(0x3000, 28)))),
            (0x4000_0003, 369, args, Some(WorkerCall::Towards(at(0x3000, 28)))),
            (0x4000_0003, 102, [2, 0x2000, 0, 0, 0, 0], Some(socketcall(2))),
            (0x4000_0003, 102, [1 << 32, 0x2000, 0, 0, 0, 0], None),
            (0xC000_00B7, 200, args, None),
            (0xC000_003E, 446, args, Some(WorkerCall::RestrictSelf)),
            (0xC000_003E, 446 | 0x4000_0000, args, Some(WorkerCall::RestrictSelf)),
            (0x4000_0003, 446, args, Some(WorkerCall::RestrictSelf)),
        ];
        for (arch, number, args, expected) in cases {
            assert_eq!(
                WorkerCall::read(machine, arch, number, args),
                expected,
                "{arch:#x} {number}"
            );
        }
    }

    #[test]
    fn a_descriptor_is_the_low_half_of_its_register() {
        let args = [0xFFFF_FFFF_0000_0007, 0xFFFF_FFFF, 0, 0, 0, 0];
        let call = WorkerCall::read(Architecture::Aarch64, 0xC000_00B7, 201, args);
        assert_eq!(call, Some(WorkerCall::Listen { fd: 7, backlog: -1 }));
    }

    #[test]
    fn socketcall_words_become_the_call_they_stand_for() {
        let words = [4, 0x3000, 28, 0, 0x4000, 16];
        let at = |address, length| AddrArgument { fd: 4, address, length };
        for (call, expected) in [
            (1, None),
            (2, Some(WorkerCall::Bind(at(0x3000, 28)))),
            (3, Some(WorkerCall::Towards(at(0x3000, 28)))),
            (4, Some(WorkerCall::Listen { fd: 4, backlog: 0x3000 })),
            (11, Some(WorkerCall::Towards(at(0x4000, 16)))),
            (13, Some(WorkerCall::Shutdown { fd: 4 })),
        ] {
            assert_eq!(WorkerCall::from_socketcall(call, words), expected, "{call}");
            assert_eq!(WorkerCall::socketcall_words(call).is_some(), expected.is_some());
        }
    }
}
