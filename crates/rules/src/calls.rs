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
    /// Number of `io_uring_setup`, the door to binds that seccomp never sees.
    pub io_uring_setup: u32,
    /// Number of `socketcall`, which multiplexes `bind` and `listen` on i386.
    pub socketcall: Option<u32>,
    /// Bits in the number that select a variant of the same table (x32).
    pub ignored_bits: u32,
}

/// A processor family with every dialect its kernel may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
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
    io_uring_setup: 425,
    socketcall: None,
    ignored_bits: 0x4000_0000,
};
const I386: Dialect = Dialect {
    arch: 0x4000_0003,
    bind: 361,
    listen: 363,
    io_uring_setup: 425,
    socketcall: Some(102),
    ignored_bits: 0,
};
const AARCH64: Dialect = Dialect {
    arch: 0xC000_00B7,
    bind: 200,
    listen: 201,
    io_uring_setup: 425,
    socketcall: None,
    ignored_bits: 0,
};
const ARM: Dialect = Dialect { arch: 0x4000_0028, bind: 282, listen: 284, ..AARCH64 };
const RISCV64: Dialect = Dialect { arch: 0xC000_00F3, ..AARCH64 };

impl Machine {
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

/// `SYS_BIND` and `SYS_LISTEN` of `socketcall(2)`, from `include/uapi/linux/net.h`.
pub(crate) const SOCKETCALL_BIND: u32 = 2;
pub(crate) const SOCKETCALL_LISTEN: u32 = 4;

/// What a worker asks of the kernel, with its pointers still in the worker's own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `bind(fd, address, length)`.
    Bind {
        /// The worker's descriptor.
        fd: i32,
        /// Where its sockaddr lies.
        address: u64,
        /// How many bytes it claims to have.
        length: u64,
    },
    /// `listen(fd, …)`.
    Listen {
        /// The worker's descriptor.
        fd: i32,
    },
    /// i386 `socketcall(SYS_BIND or SYS_LISTEN, arguments)`: the three or two 32-bit arguments
    /// must be read from `arguments` first, then given to [`Call::from_socketcall`].
    Socketcall {
        /// Which of the two.
        bind: bool,
        /// Where the argument words lie.
        arguments: u64,
    },
}

impl Call {
    /// Reads a notification. `None`: not a call that `run` looks at.
    #[must_use]
    pub fn read(machine: Machine, arch: u32, number: u32, args: [u64; 6]) -> Option<Self> {
        let dialect = machine.dialects().iter().find(|dialect| dialect.arch == arch)?;
        let number = number & !dialect.ignored_bits;
        if number == dialect.bind {
            Some(Self::Bind { fd: descriptor(args[0]), address: args[1], length: args[2] })
        } else if number == dialect.listen {
            Some(Self::Listen { fd: descriptor(args[0]) })
        } else if Some(number) == dialect.socketcall {
            match u32::try_from(args[0]).ok()? {
                SOCKETCALL_BIND => Some(Self::Socketcall { bind: true, arguments: args[1] }),
                SOCKETCALL_LISTEN => Some(Self::Socketcall { bind: false, arguments: args[1] }),
                _ => None,
            }
        } else {
            None
        }
    }

    /// The call that a `socketcall` stands for, from its argument words.
    #[must_use]
    pub fn from_socketcall(bind: bool, words: [u32; 3]) -> Self {
        let fd = descriptor(u64::from(words[0]));
        if bind {
            Self::Bind { fd, address: u64::from(words[1]), length: u64::from(words[2]) }
        } else {
            Self::Listen { fd }
        }
    }
}

/// The kernel reads a descriptor from the low 32 bits of its register, whatever is above them.
#[expect(clippy::cast_possible_truncation, reason = "the kernel truncates in the same way")]
fn descriptor(register: u64) -> i32 {
    register as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_of_x86_is_read() {
        let machine = Machine::X86_64;
        let bind = Call::Bind { fd: 3, address: 0x1000, length: 16 };
        let args = [3, 0x1000, 16, 0, 0, 0];
        let cases = [
            (0xC000_003E, 49, args, Some(bind)),
            (0xC000_003E, 49 | 0x4000_0000, args, Some(bind)),
            (0x4000_0003, 361, args, Some(bind)),
            (0x4000_0003, 49, args, None),
            (0xC000_003E, 50, args, Some(Call::Listen { fd: 3 })),
            (0x4000_0003, 363, args, Some(Call::Listen { fd: 3 })),
            (
                0x4000_0003,
                102,
                [2, 0x2000, 0, 0, 0, 0],
                Some(Call::Socketcall { bind: true, arguments: 0x2000 }),
            ),
            (0x4000_0003, 102, [1, 0x2000, 0, 0, 0, 0], None),
            (0xC000_00B7, 200, args, None),
        ];
        for (arch, number, args, expected) in cases {
            assert_eq!(Call::read(machine, arch, number, args), expected, "{arch:#x} {number}");
        }
    }

    #[test]
    fn a_descriptor_is_the_low_half_of_its_register() {
        let args = [0xFFFF_FFFF_0000_0007, 0, 0, 0, 0, 0];
        let call = Call::read(Machine::Aarch64, 0xC000_00B7, 201, args);
        assert_eq!(call, Some(Call::Listen { fd: 7 }));
    }

    #[test]
    fn socketcall_words_become_the_call_they_stand_for() {
        let bind = Call::from_socketcall(true, [4, 0x3000, 28]);
        assert_eq!(bind, Call::Bind { fd: 4, address: 0x3000, length: 28 });
        assert_eq!(Call::from_socketcall(false, [4, 0, 0]), Call::Listen { fd: 4 });
    }
}
