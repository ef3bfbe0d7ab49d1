//! The drain of one worker: what it waits for, and when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DrainMode;
use super::connection::{Activity, ConnectionFacts, History, QUIET};

/// A connection whose last answer is younger than this is not closed yet: the answer may go on.
const SETTLED: Duration = Duration::from_millis(4);

/// The time that a server has to close a connection that was shut down for it.
const CLOSING: Duration = Duration::from_millis(500);

/// The longest part at the end of the time limit in which a drain ends at the best moment.
const LAST_PART: Duration = Duration::from_secs(5);

/// A draining worker.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    mode: DrainMode,
    since: Duration,
    limit: Duration,
    seen: BTreeMap<u64, Watched>,
    /// The smallest and the largest number of connections in hand in the second half of the time.
    fewest: usize,
    most: usize,
}

#[derive(Debug, Clone)]
struct Watched {
    history: History,
    closing: Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// It was to be shut down at this time.
    Since(Duration),
    /// It could not be shut down.
    Failed,
}

/// The result of one observation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainStep {
    /// Number of open connections.
    pub open: usize,
    /// Number of connections in hand.
    pub in_hand: usize,
    /// Number of those whose peer may have got nothing for its request yet.
    pub unanswered: usize,
    /// Idle connections to shut down for receiving, so that the server closes them and their clients
    /// move to another worker.
    pub close: Vec<u64>,
    /// Whether the drain has ended.
    pub is_over: bool,
}

impl DrainWatch {
    /// A drain that began at `since` and lasts for at most `limit`.
    #[must_use]
    pub fn new(mode: DrainMode, since: Duration, limit: Duration) -> Self {
        Self { mode, since, limit, seen: BTreeMap::new(), fewest: usize::MAX, most: 0 }
    }

    /// The time of the end at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.since.saturating_add(self.limit)
    }

    /// What the worker finishes.
    #[must_use]
    pub fn mode(&self) -> DrainMode {
        self.mode
    }

    /// When the drain began.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Adds an observation of all open connections of the worker.
    pub fn observe(&mut self, connections: &[ConnectionFacts], now: Duration) -> DrainStep {
        let mut step = DrainStep { open: connections.len(), ..DrainStep::default() };
        let mut seen = std::mem::take(&mut self.seen);
        let mut is_closing = false;
        for facts in connections {
            let mut watched = seen
                .remove(&facts.id)
                .unwrap_or_else(|| Watched { history: History::new(facts), closing: Closing::No });
            watched.history.observe(facts);
            let activity = watched.history.activity(facts);
            step.in_hand += usize::from(activity.is_in_hand());
            step.unanswered += usize::from(activity.is_unanswered());
            let activity = watched.history.activity_after_sending(facts);
            let may_close = self.may_close(&watched, activity, facts);
            if may_close && facts.sent_age >= SETTLED {
                watched.closing = Closing::Since(now);
                step.close.push(facts.id);
            }
            // A client that has just got its answer would send its next request to a worker that ends.
            is_closing |= may_close;
            is_closing |= matches!(watched.closing, Closing::Since(at) if now < at + CLOSING);
            self.seen.insert(facts.id, watched);
        }
        let remaining = match self.mode {
            DrainMode::None => 0,
            DrainMode::Busy => step.in_hand,
            DrainMode::All => step.open,
        };
        step.is_over = (remaining == 0 && !is_closing) || self.is_best_moment(remaining, now);
        step
    }

    /// Whether an idle connection should be closed: its client uses it, and would send the next request
    /// to a worker that ends.
    ///
    /// A process with one connection may have been forked for it, and outlives the first process.
    fn may_close(&self, watched: &Watched, activity: Activity, facts: &ConnectionFacts) -> bool {
        let is_used = watched.history.is_active || facts.sent_age < QUIET;
        self.mode == DrainMode::Busy
            && watched.closing == Closing::No
            && activity == Activity::Answered
            && is_used
            && !facts.is_alone
            && !watched.history.streams()
    }

    /// Whether the time is over, or will be soon and cuts as few connections now as at any time in its
    /// second half.
    fn is_best_moment(&mut self, remaining: usize, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.since);
        let last_part = (self.limit / 5).min(LAST_PART);
        if elapsed >= self.limit {
            return true;
        }
        // A number that never changes makes no moment better than the end of the time.
        let is_best = remaining <= self.fewest && remaining < self.most;
        if elapsed + last_part >= self.limit && is_best {
            return true;
        }
        if elapsed >= self.limit / 2 {
            self.fewest = self.fewest.min(remaining);
            self.most = self.most.max(remaining);
        }
        false
    }

    /// A connection of [`DrainStep::close`] could not be shut down, or was in use.
    pub fn not_closed(&mut self, id: u64) {
        if let Some(watched) = self.seen.get_mut(&id) {
            watched.closing = Closing::Failed;
        }
    }

    /// A connection of [`DrainStep::close`] got a request meanwhile. It may be closed later.
    pub fn in_use(&mut self, id: u64) {
        if let Some(watched) = self.seen.get_mut(&id) {
            watched.closing = Closing::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A connection: id, bytes and ages of received and sent data.
    fn connection(id: u64, received: (u64, u64), sent: (u64, u64)) -> ConnectionFacts {
        ConnectionFacts {
            id,
            receive_queue: 0,
            send_queue: 0,
            unsent: 0,
            last: None,
            received: received.0,
            sent: sent.0,
            received_age: ms(received.1),
            sent_age: ms(sent.1),
            is_alone: false,
        }
    }

    fn busy(id: u64) -> ConnectionFacts {
        connection(id, (80, 100), (0, 500))
    }

    fn idle(id: u64) -> ConnectionFacts {
        connection(id, (80, 60_000), (80, 59_000))
    }

    /// A drain that has seen two requests after answers on connection 1.
    fn after_an_exchange(mode: DrainMode) -> DrainWatch {
        let mut watch = DrainWatch::new(mode, ms(0), LIMIT);
        let exchanges = [
            connection(1, (20, 16), (20, 12)),
            connection(1, (30, 4), (20, 20)),
            connection(1, (30, 16), (40, 12)),
            connection(1, (80, 4), (40, 20)),
        ];
        for exchange in exchanges {
            let step = watch.observe(&[exchange], ms(1));
            assert_eq!((step.close, step.is_over), (vec![], mode == DrainMode::None));
        }
        watch
    }

    #[test]
    fn what_each_mode_waits_for() {
        use DrainMode::{All, Busy, None};
        let fresh = connection(3, (0, 10), (0, 10));
        let unused = connection(3, (0, 1_000), (0, 1_000));
        let tie = connection(4, (80, 100), (80, 100));
        let table = [
            (None, vec![busy(1)], true),
            (Busy, vec![], true),
            (Busy, vec![busy(1)], false),
            (Busy, vec![idle(2), fresh], false),
            (Busy, vec![idle(2), unused], true),
            (Busy, vec![tie], false),
            (All, vec![], true),
            (All, vec![idle(2)], false),
            (All, vec![fresh], false),
        ];
        for (mode, connections, expected) in table {
            let mut watch = DrainWatch::new(mode, ms(1000), LIMIT);
            let step = watch.observe(&connections, ms(1001));
            assert_eq!(step.is_over, expected, "{mode:?} {connections:?}");
            assert_eq!(step.open, connections.len());
            assert!(step.close.is_empty());
        }
    }

    #[test]
    fn idle_connections_of_active_clients_are_closed_before_the_end() {
        let active = |ages: (u64, u64)| connection(1, (80, ages.0), (80, ages.1));
        let mut watch = after_an_exchange(DrainMode::Busy);
        // The answer has just been sent.
        let step = watch.observe(&[active((4, 0))], ms(1));
        assert_eq!((step.close, step.is_over), (vec![], false));
        let step = watch.observe(&[active((16, 12)), idle(2)], ms(5));
        assert_eq!((step.close, step.is_over), (vec![1], false));
        // Each once, and the end waits for it.
        let step = watch.observe(&[active((20, 16)), idle(2)], ms(9));
        assert_eq!((step.close, step.is_over), (vec![], false));
        let step = watch.observe(&[idle(2)], ms(13));
        assert_eq!((step.close, step.is_over), (vec![], true));
    }

    #[test]
    fn the_end_does_not_wait_for_a_connection_that_cannot_be_closed() {
        let active = connection(1, (80, 16), (80, 12));
        let mut watch = after_an_exchange(DrainMode::Busy);
        assert_eq!(watch.observe(&[active], ms(5)).close, [1]);
        watch.in_use(1);
        assert_eq!(watch.observe(&[active], ms(9)).close, [1]);
        watch.not_closed(1);
        assert!(watch.observe(&[active], ms(13)).is_over);
        let mut watch = after_an_exchange(DrainMode::Busy);
        assert_eq!(watch.observe(&[active], ms(5)).close, [1]);
        assert!(!watch.observe(&[active], ms(504)).is_over);
        assert!(watch.observe(&[active], ms(505)).is_over);
    }

    #[test]
    fn connections_that_are_never_closed() {
        let alone = ConnectionFacts { is_alone: true, ..connection(1, (80, 16), (80, 12)) };
        let table = [
            (DrainMode::Busy, alone),
            (DrainMode::Busy, connection(1, (120, 12), (80, 12))),
            (DrainMode::Busy, connection(1, (0, 16), (80, 12))),
            (DrainMode::All, connection(1, (80, 16), (80, 12))),
            (DrainMode::None, connection(1, (80, 16), (80, 12))),
        ];
        for (mode, facts) in table {
            let mut watch = after_an_exchange(mode);
            assert!(watch.observe(&[facts], ms(5)).close.is_empty(), "{mode:?} {facts:?}");
        }
        // The answer may go on: it is waited for until it is quiet.
        let mut watch = DrainWatch::new(DrainMode::Busy, ms(0), LIMIT);
        let step = watch.observe(&[connection(1, (80, 16), (80, 12))], ms(5));
        assert_eq!((step.close, step.in_hand, step.is_over), (vec![], 1, false));
        let step = watch.observe(&[connection(1, (80, 5_004), (80, 5_000))], ms(5_000));
        assert_eq!((step.close, step.in_hand, step.is_over), (vec![], 0, true));
    }

    #[test]
    fn the_end_of_the_time_is_a_good_moment() {
        // Time in seconds, number of connections in hand, whether the drain ends.
        let table: [&[(u64, u64, bool)]; 5] = [
            &[(1, 1, false), (29, 5, false), (30, 5, true)],
            &[(16, 2, false), (26, 2, false), (29, 2, false), (30, 2, true)],
            &[(1, 1, false), (15, 3, false), (24, 4, false), (26, 4, false), (27, 3, true)],
            &[(16, 0, true)],
            &[(16, 2, false), (25, 3, false), (29, 9, false), (30, 9, true)],
        ];
        for history in table {
            let mut watch = DrainWatch::new(DrainMode::Busy, ms(0), LIMIT);
            for (seconds, in_hand, expected) in history {
                let connections: Vec<_> = (0..*in_hand).map(busy).collect();
                let step = watch.observe(&connections, Duration::from_secs(*seconds));
                assert_eq!(step.is_over, *expected, "{history:?} at {seconds} s");
            }
        }
    }
}
