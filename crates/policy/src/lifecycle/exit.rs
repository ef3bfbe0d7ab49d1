//! How a run ends: the exit code of several workers, and what becomes of the processes they leave.

/// How a worker's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By a signal, with this number.
    Signal(u8),
}

impl Exit {
    /// The code a shell would give: the worker's own, or 128 + the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
}

/// The exit code of a run: that of the first worker that did not end with 0, in the order in which
/// they ended, else 0.
#[must_use]
pub fn code(exits: &[Exit]) -> u8 {
    exits.iter().map(|exit| exit.exit_code()).find(|code| *code != 0).unwrap_or(0)
}

/// What to do with processes that live on after every worker's first process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are the service: a daemon lets its first process end with 0 and works on.
    KeepServing,
    /// They are orphans of a worker that failed, was killed or was told to stop: end them.
    End,
}

/// Decides, once all first processes have ended.
#[must_use]
pub fn leftovers(exits: &[Exit], told_to_stop: bool) -> Leftovers {
    if told_to_stop || code(exits) != 0 { Leftovers::End } else { Leftovers::KeepServing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_code() {
        use Exit::{Code, Signal};
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[Code(0), Code(0)]), 0);
        assert_eq!(code(&[Code(0), Signal(15), Code(3)]), 143);
        assert_eq!(code(&[Code(3), Signal(9)]), 3);
        assert_eq!(Signal(64).exit_code(), 192);
    }

    #[test]
    fn daemons_stay_and_orphans_go() {
        use Exit::{Code, Signal};
        assert_eq!(leftovers(&[Code(0)], false), Leftovers::KeepServing);
        assert_eq!(leftovers(&[Code(0)], true), Leftovers::End);
        assert_eq!(leftovers(&[Signal(9)], false), Leftovers::End);
        assert_eq!(leftovers(&[Code(0), Code(1)], false), Leftovers::End);
    }
}
