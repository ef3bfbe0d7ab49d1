//! Whether a program finishes its connections itself after the stop signal.
//!
//! A handler of SIGTERM proves nothing: runtimes such as node and Go install one for every program, and
//! exit at once. A program that runs on until its connections have ended does drain.

use std::time::Duration;

use crate::lifecycle::exit::Exit;

/// A process that ends at once is gone after this time, on a busy machine too.
const SURVIVED: Duration = Duration::from_millis(300);

/// A program that exits within this time after the signal, and has finished nothing until the last
/// observation, finishes nothing. The exit takes long on a busy machine.
const SUDDEN: Duration = Duration::from_secs(1);

/// A worker after its stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfDrain {
    signalled: Duration,
    /// Numbers of connections at the signal.
    open_then: usize,
    in_hand_then: usize,
    /// Whether it had open connections long after the signal.
    outlived: bool,
    /// Numbers of connections at the last observation.
    open: usize,
    in_hand: usize,
}

impl SelfDrain {
    /// A worker with this many connections, open and in hand, that gets the stop signal now.
    #[must_use]
    pub fn new(open: usize, in_hand: usize, now: Duration) -> Self {
        Self {
            signalled: now,
            open_then: open,
            in_hand_then: in_hand,
            outlived: false,
            open,
            in_hand,
        }
    }

    /// Adds an observation, made before the first process began to exit: its exit closes its connections
    /// too.
    pub fn observe(&mut self, open: usize, in_hand: usize, now: Duration) {
        let is_later = now.saturating_sub(self.signalled) >= SURVIVED;
        self.outlived |= is_later && self.open > 0;
        (self.open, self.in_hand) = (open, in_hand);
    }

    /// Connections that the end of the first process cuts, of those that were left at the last
    /// observation. A program that runs on after the signal and exits by itself may have finished them
    /// since.
    #[must_use]
    pub fn cut_of(&self, left: usize, exit: Exit, now: Duration) -> usize {
        let has_finished = self.in_hand < self.in_hand_then || self.open < self.open_then;
        let is_sudden = now.saturating_sub(self.signalled) < SUDDEN && !has_finished;
        match exit {
            Exit::Signal(_) => left,
            Exit::Code(_) | Exit::Unseen if is_sudden => left,
            Exit::Code(_) | Exit::Unseen => 0,
        }
    }

    /// Whether the program drains by itself. To be asked after its first process exited without being
    /// killed.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        let finished = self.in_hand_then > 0 && self.in_hand == 0;
        let ended = self.open_then > 0 && self.open == 0;
        self.outlived && (finished || ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_cuts_what_is_left() {
        let table = [
            (Exit::Code(0), 20, 2),
            (Exit::Signal(15), 20, 2),
            (Exit::Signal(9), 30_000, 2),
            // It ran on, and the last observation is older than its end.
            (Exit::Code(0), 2_000, 0),
            (Exit::Unseen, 20, 2),
            (Exit::Unseen, 2_000, 0),
        ];
        for (exit, milliseconds, expected) in table {
            let drain = SelfDrain::new(4, 2, Duration::ZERO);
            let cut = drain.cut_of(2, exit, Duration::from_millis(milliseconds));
            assert_eq!(cut, expected, "{exit:?} after {milliseconds} ms");
        }
    }

    #[test]
    fn only_a_program_that_outlives_its_connections_drains_itself() {
        // At the signal: open, in hand. Later: milliseconds, open, in hand.
        type Case = ((usize, usize), &'static [(u64, usize, usize)], bool);
        let table: [Case; 9] = [
            // node: exits at once, with or without requests in hand.
            ((4, 2), &[], false),
            ((4, 0), &[], false),
            ((4, 2), &[(20, 4, 2)], false),
            // Finishes its requests.
            ((4, 2), &[(20, 4, 2), (400, 4, 2), (2000, 2, 0)], true),
            ((4, 2), &[(400, 2, 2), (2000, 0, 0)], true),
            // Ends with requests in hand after a pause of its own.
            ((4, 2), &[(400, 4, 2), (1000, 4, 2)], false),
            ((4, 0), &[(400, 4, 0), (1000, 4, 0)], false),
            // Closes idle connections at once: nothing to learn.
            ((4, 0), &[(20, 0, 0), (400, 0, 0)], false),
            // Without connections its time to end tells nothing.
            ((0, 0), &[(400, 0, 0), (2000, 0, 0)], false),
        ];
        for ((open, in_hand), later, expected) in table {
            let mut drain = SelfDrain::new(open, in_hand, Duration::ZERO);
            for (milliseconds, open, in_hand) in later {
                drain.observe(*open, *in_hand, Duration::from_millis(*milliseconds));
            }
            assert_eq!(drain.is_proven(), expected, "{open} {in_hand} {later:?}");
        }
    }
}
