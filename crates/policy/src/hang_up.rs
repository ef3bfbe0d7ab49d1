//! The meaning of SIGHUP: a terminal that closed, or a request to reload.
//!
//! The kernel sends the signal to the leader of the session, and at its exit to the foreground group.
//! A shell such as bash sends it on to its jobs by `kill(2)`, as a service manager does for a reload.

/// The facts about one SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangUpFacts {
    /// Whether the kernel sent it (`SI_KERNEL`).
    pub by_kernel: bool,
    /// Whether the process was started with SIGHUP ignored (`nohup(1)`).
    pub ignored: bool,
    /// Whether the process had a controlling terminal when it started.
    pub had_terminal: bool,
    /// Whether it has one now: the kernel takes it from the whole session when it closes.
    pub has_terminal: bool,
}

/// What SIGHUP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUpMeaning {
    /// The terminal closed: end.
    Closed,
    /// Another process asks to reload: the signal is for the workers.
    Reload,
    /// The terminal closed, and the process is to outlive it.
    Ignored,
}

/// Decides.
#[must_use]
pub fn meaning(facts: HangUpFacts) -> HangUpMeaning {
    let HangUpFacts { by_kernel, ignored, had_terminal, has_terminal } = facts;
    match (by_kernel || had_terminal && !has_terminal, ignored) {
        (true, true) => HangUpMeaning::Ignored,
        (true, false) => HangUpMeaning::Closed,
        (false, _) => HangUpMeaning::Reload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_to_meaning() {
        use HangUpMeaning::{Closed, Ignored, Reload};
        // By the kernel, ignored at the start, terminal then, terminal now.
        for (by_kernel, ignored, had_terminal, has_terminal, expected) in [
            // A service.
            (false, false, false, false, Reload),
            // `kill -HUP` for a run in a terminal.
            (false, false, true, true, Reload),
            // bash sends the signal on, before and after the kernel takes the terminal away.
            (false, false, true, false, Closed),
            (true, false, true, true, Closed),
            (true, false, true, false, Closed),
            // A container's first process, whose terminal is opened later.
            (true, false, false, false, Closed),
            // nohup.
            (true, true, true, false, Ignored),
            (false, true, true, false, Ignored),
            (false, true, true, true, Reload),
            (false, true, false, false, Reload),
        ] {
            let facts = HangUpFacts { by_kernel, ignored, had_terminal, has_terminal };
            assert_eq!(meaning(facts), expected, "{facts:?}");
        }
    }
}
