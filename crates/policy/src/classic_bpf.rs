//! One instruction of classic BPF, for seccomp filters and for the steering of groups.

/// The fields of `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// The number of instructions to skip if the comparison is true.
    pub if_true: u8,
    /// The number of instructions to skip if it is false.
    pub if_false: u8,
    /// The operand.
    pub k: u32,
}
