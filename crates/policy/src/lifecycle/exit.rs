//! How processes and runs end.

use std::fmt;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By `exit(2)` with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// Unknown: the process was a child of another process.
    Unseen,
}

impl Exit {
    /// The code that a shell reports: the process's own, or 128 plus the number of the signal.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
            Self::Unseen => 1,
        }
    }
}

/// `exited with 1`, `killed by SIGTERM`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Unseen => f.write_str("its exit status is not known"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "killed by SIG{name}"),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

/// The name of a signal, without SIG.
pub(crate) fn signal_name(number: u8) -> Option<&'static str> {
    SIGNALS.get(usize::from(number)).copied().filter(|name| !name.is_empty())
}

/// `SIGKILL`; the number of a signal without a name.
#[must_use]
pub fn signal_text(number: u8) -> String {
    signal_name(number).map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// The number of a signal, by its name without SIG.
pub(crate) fn signal_number(name: &str) -> Option<u8> {
    let index = SIGNALS.iter().position(|known| *known == name && !name.is_empty())?;
    u8::try_from(index).ok()
}

/// The signals of Linux on x86 and Arm, by number: `signal(7)`.
const SIGNALS: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The exit code of a run: the first code of a worker that is not 0, in the order in which the
/// workers ended.
#[must_use]
pub fn exit_code(exits: &[Exit]) -> u8 {
    exits.iter().map(|exit| exit.code()).find(|code| *code != 0).unwrap_or(0)
}

/// The fate of descendants that outlive the first process of every worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They continue: a daemon's first process exits with 0 and leaves the service to a child.
    KeepServing,
    /// They are ended: their worker failed, was killed or was stopped.
    End,
}

/// Decides about descendants, after all first processes have ended.
#[must_use]
pub fn leftovers(exits: &[Exit], stop_requested: bool) -> Leftovers {
    match stop_requested || exit_code(exits) != 0 {
        true => Leftovers::End,
        false => Leftovers::KeepServing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Exit::{Code, Signal};

    #[test]
    fn the_first_failure_is_the_exit_code() {
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(&[Code(0), Code(0)]), 0);
        assert_eq!(exit_code(&[Code(0), Signal(15), Code(3)]), 143);
        assert_eq!(exit_code(&[Code(3), Signal(9)]), 3);
        assert_eq!(Signal(64).code(), 192);
    }

    #[test]
    fn signals_have_names() {
        let texts = [Code(3), Signal(15), Signal(9), Signal(31), Signal(40), Signal(0)];
        assert_eq!(
            texts.map(|exit| exit.to_string()),
            [
                "exited with 3",
                "killed by SIGTERM",
                "killed by SIGKILL",
                "killed by SIGSYS",
                "killed by signal 40",
                "killed by signal 0",
            ]
        );
    }

    #[test]
    fn descendants_of_a_successful_daemon_continue() {
        assert_eq!(leftovers(&[Code(0)], false), Leftovers::KeepServing);
        assert_eq!(leftovers(&[Code(0)], true), Leftovers::End);
        assert_eq!(leftovers(&[Signal(9)], false), Leftovers::End);
        assert_eq!(leftovers(&[Code(0), Code(1)], false), Leftovers::End);
    }
}
