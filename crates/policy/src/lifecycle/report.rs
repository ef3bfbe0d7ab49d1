//! How workers are, for those who ask.

use std::time::Duration;

use super::instance::Pause;
use super::{Life, Start, State};

/// What can be said of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The worker.
    pub ordinal: u16,
    /// Its process, if one runs.
    pub start: Option<Start>,
    /// What it is.
    pub state: State,
    /// Since when; of a worker that waits: until when.
    pub since: Duration,
    /// How often it was started again after a crash.
    pub restarts: u32,
}

impl Life {
    /// Everything that can be said, by worker.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (start, process) in &self.processes {
            let restarts = self.seats.get(&process.ordinal).map_or(0, |seat| seat.restarts);
            let (ordinal, since, state) = (process.ordinal, process.since, process.phase.state());
            seen.push(Seen { ordinal, start: Some(*start), state, since, restarts });
        }
        for (ordinal, seat) in &self.seats {
            let (state, since) = match (seat.serving.or(seat.coming), seat.pause) {
                (None, Some(Pause::Until(until))) => (State::Waiting, until),
                (None, Some(Pause::ForEver(_))) => (State::GivenUp, Duration::ZERO),
                _ => continue,
            };
            let (ordinal, restarts) = (*ordinal, seat.restarts);
            seen.push(Seen { ordinal, start: None, state, since, restarts });
        }
        seen.sort_by_key(|seen| (seen.ordinal, seen.start));
        seen
    }
}
