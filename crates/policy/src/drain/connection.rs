//! Whether one connection is in hand.
//!
//! The kernel stamps the last data in each direction with a jiffy (4 or 10 ms), under the lock of the
//! socket. Different stamps therefore give the order for certain; equal stamps give none. The order is
//! also certain if only one of the two byte counts has grown between two observations, if the peer has not
//! acknowledged the last answer, because its next request would, and if the kernel was asked with
//! privilege ([`ConnectionFacts::last`]).
//!
//! Sent data need not be the whole answer: its next part may follow, or it was `100 Continue`. So a
//! connection counts as answered only once requests have followed answers while it was watched, or once
//! it has been quiet for a while.

use std::cmp::Ordering;
use std::time::Duration;

/// A connection whose last two events have an unknown order, or whose answer may go on, is in hand until
/// it has been quiet for this long. Servers such as node close an idle connection after the same time.
pub const QUIET: Duration = Duration::from_secs(5);

/// A new connection without data is in hand for this long: its request follows when the client runs again,
/// which takes a while on a busy machine.
const FRESH: Duration = Duration::from_secs(1);

/// A connection of a worker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The socket's cookie.
    pub id: u64,
    /// Received bytes that the process has not read.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged.
    pub send_queue: u32,
    /// Sent bytes that are not transmitted yet.
    pub unsent: u32,
    /// The last data, if the kernel has told the order.
    pub last: Option<DataDirection>,
    /// Number of received bytes.
    pub received: u64,
    /// Number of sent bytes, with retransmissions.
    pub sent: u64,
    /// Time since data arrived, or since the connection was accepted.
    pub received_age: Duration,
    /// Time since data was sent, or since the connection was accepted.
    pub sent_age: Duration,
    /// Whether its process has and had no other connection, as a process that was forked for one.
    pub is_alone: bool,
}

impl ConnectionFacts {
    /// Whether the times leave the order of the last request and the last answer open, and only
    /// [`Self::last`] can tell it.
    #[must_use]
    pub fn is_tie(&self) -> bool {
        self.received > 0
            && self.sent > 0
            && self.received_age == self.sent_age
            && self.send_queue == 0
            && self.received_age < QUIET
    }

    /// The order of two events in one jiffy.
    fn order_within_jiffy(&self) -> Option<DataDirection> {
        let is_unacknowledged = self.send_queue > 0;
        if is_unacknowledged { Some(DataDirection::Sent) } else { self.last }
    }
}

/// A direction of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDirection {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The peer has sent nothing, and is not about to.
    Unused,
    /// A request is about to arrive, or waits for its answer, or an answer for its receiver.
    InHand,
    /// The last event was the end of an answer.
    Answered,
    /// The last event was sent data, and the answer may go on.
    Sending,
    /// The last two events happened within one jiffy.
    Unclear,
}

impl Activity {
    /// Whether an end of the process would cut something.
    #[must_use]
    pub fn is_in_hand(self) -> bool {
        matches!(self, Self::InHand | Self::Sending | Self::Unclear)
    }

    /// Whether the peer may have got nothing for its request yet.
    #[must_use]
    pub fn is_unanswered(self) -> bool {
        matches!(self, Self::InHand | Self::Unclear)
    }
}

/// What earlier observations tell about a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    received: u64,
    sent: u64,
    /// The last event, if an observation has separated it from the one before.
    last: Option<DataDirection>,
    /// Observations in which the answer to one request grew.
    bursts: u32,
    /// Whether the last event of the last observation was sent data.
    was_sent: bool,
    /// Number of requests that have followed an answer.
    turns: u32,
    /// Whether data has passed since the first observation.
    pub(super) is_active: bool,
}

/// An answer that has grown in this many observations is sent in parts, and its next part may follow.
const STREAM: u32 = 2;

/// After this many requests that followed an answer, the peer and the process take turns. The first can be
/// the end of a TLS handshake.
const TURNS: u32 = 2;

impl History {
    pub(super) fn new(facts: &ConnectionFacts) -> Self {
        Self {
            received: facts.received,
            sent: facts.sent,
            last: None,
            bursts: 0,
            was_sent: false,
            turns: 0,
            is_active: false,
        }
    }

    /// Adds an observation.
    pub(super) fn observe(&mut self, facts: &ConnectionFacts) {
        let received = facts.received != self.received;
        let sent = facts.sent != self.sent;
        (self.received, self.sent) = (facts.received, facts.sent);
        self.is_active |= received || sent;
        match (received, sent) {
            (false, false) => {}
            (true, false) => (self.last, self.bursts) = (Some(DataDirection::Received), 0),
            (true, true) => (self.last, self.bursts) = (None, 0),
            (false, true) => {
                self.last = Some(DataDirection::Sent);
                self.bursts += 1;
            }
        }
        self.turns += u32::from(received && self.was_sent);
        self.was_sent = facts.sent > 0 && self.order(facts) == Some(DataDirection::Sent);
    }

    /// The direction of the last data; `None` if it is not known.
    fn order(&self, facts: &ConnectionFacts) -> Option<DataDirection> {
        match facts.received_age.cmp(&facts.sent_age) {
            Ordering::Greater => Some(DataDirection::Sent),
            Ordering::Less => Some(DataDirection::Received),
            Ordering::Equal => facts.order_within_jiffy().or(self.last),
        }
    }

    /// Whether the process sends its answer in parts.
    pub(super) fn streams(&self) -> bool {
        self.bursts >= STREAM
    }

    /// The activity, if data that was sent counts as received by the peer: a client acknowledges an
    /// answer after up to 40 ms, or with its next request.
    pub(super) fn activity_after_sending(&self, facts: &ConnectionFacts) -> Activity {
        match self.activity(facts) {
            Activity::InHand => {
                self.activity(&ConnectionFacts { send_queue: facts.unsent, ..*facts })
            }
            activity => activity,
        }
    }

    pub(super) fn activity(&self, facts: &ConnectionFacts) -> Activity {
        let is_quick_answer = facts.received_age == facts.sent_age && facts.received > 0;
        let waits = facts.send_queue > 0 && !is_quick_answer;
        if facts.receive_queue > 0 || facts.unsent > 0 || waits {
            return Activity::InHand;
        }
        if facts.received == 0 {
            let is_fresh = facts.received_age < FRESH;
            return if is_fresh { Activity::InHand } else { Activity::Unused };
        }
        if facts.sent == 0 {
            return Activity::InHand;
        }
        let is_quiet = facts.received_age.min(facts.sent_age) >= QUIET;
        match self.order(facts) {
            Some(DataDirection::Received) => Activity::InHand,
            _ if is_quiet => Activity::Answered,
            Some(DataDirection::Sent) if self.streams() => Activity::InHand,
            Some(DataDirection::Sent) if self.turns >= TURNS => Activity::Answered,
            Some(DataDirection::Sent) => Activity::Sending,
            None => Activity::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(received: (u64, u64), sent: (u64, u64), queues: (u32, u32)) -> ConnectionFacts {
        ConnectionFacts {
            id: 1,
            receive_queue: queues.0,
            send_queue: queues.1,
            unsent: 0,
            last: None,
            received: received.0,
            sent: sent.0,
            received_age: Duration::from_millis(received.1),
            sent_age: Duration::from_millis(sent.1),
            is_alone: false,
        }
    }

    #[test]
    fn one_observation() {
        use Activity::{Answered, InHand, Sending, Unclear, Unused};
        // Received and sent: bytes, age in milliseconds. Receive and send queue.
        let table = [
            // Nothing received; a greeting sent.
            ((0, 999), (0, 999), (0, 0), InHand),
            ((0, 999), (40, 980), (0, 0), InHand),
            ((0, 1_000), (0, 1_000), (0, 0), Unused),
            ((0, 1_000), (40, 980), (0, 0), Unused),
            // A request without an answer.
            ((80, 4), (0, 900), (0, 0), InHand),
            ((80, 60_000), (0, 61_000), (0, 0), InHand),
            // The order is known.
            ((80, 8), (200, 12), (0, 0), InHand),
            ((80, 12), (200, 8), (0, 0), Sending),
            ((80, 5_004), (200, 5_000), (0, 0), Answered),
            ((80, 60_000), (200, 60_004), (0, 0), InHand),
            // Within one jiffy.
            ((80, 12), (200, 12), (0, 0), Unclear),
            ((80, 4_996), (200, 4_996), (0, 0), Unclear),
            ((80, 5_000), (200, 5_000), (0, 0), Answered),
            // Queues.
            ((80, 900), (200, 8), (1, 0), InHand),
            ((80, 900), (200, 8), (0, 1), InHand),
            // A quick answer that the peer has not acknowledged.
            ((80, 12), (200, 12), (0, 1), Sending),
            ((80, 9_000), (200, 9_000), (0, 1), Answered),
            ((80, 12), (0, 12), (0, 1), InHand),
            ((0, 12), (200, 12), (0, 1), InHand),
        ];
        for (received, sent, queues, expected) in table {
            let facts = facts(received, sent, queues);
            assert_eq!(History::new(&facts).activity(&facts), expected, "{facts:?}");
        }
    }

    /// A peer that has been seen to take turns.
    fn turns(facts: &ConnectionFacts) -> History {
        History { turns: TURNS, ..History::new(facts) }
    }

    #[test]
    fn an_answer_has_ended_when_a_request_follows_it() {
        use Activity::{Answered, InHand, Sending};
        // Bytes and ages of received and sent data.
        let table = [
            ((80, 12), (200, 8), Sending),
            ((160, 4), (200, 20), InHand),
            // The first turn can be a handshake.
            ((160, 12), (400, 8), Sending),
            // The next exchange is missed between two observations.
            ((240, 12), (600, 8), Answered),
        ];
        let mut history = History::new(&facts((80, 12), (200, 8), (0, 0)));
        for (received, sent, expected) in table {
            let facts = facts(received, sent, (0, 0));
            history.observe(&facts);
            assert_eq!(history.activity(&facts), expected, "{facts:?}");
        }
        // The body of a request after `100 Continue`, and an answer in two directions.
        let mut history = History::new(&facts((80, 12), (25, 8), (0, 0)));
        assert_eq!(history.activity(&facts((80, 12), (25, 8), (0, 0))), Sending);
        history.observe(&facts((80, 400), (25, 396), (0, 0)));
        assert_eq!(history.activity(&facts((80, 400), (25, 396), (0, 0))), Sending);
    }

    #[test]
    fn the_kernel_orders_a_tie() {
        use Activity::{Answered, InHand, Unclear};
        let tie = facts((80, 12), (200, 12), (0, 0));
        let table = [
            (tie, None, Unclear),
            (tie, Some(DataDirection::Sent), Answered),
            (tie, Some(DataDirection::Received), InHand),
            // The times and the queues count more.
            (facts((80, 8), (200, 12), (0, 0)), Some(DataDirection::Sent), InHand),
            (facts((80, 12), (200, 8), (0, 0)), Some(DataDirection::Received), Answered),
            (facts((80, 12), (200, 12), (1, 0)), Some(DataDirection::Sent), InHand),
            (ConnectionFacts { unsent: 1, ..tie }, Some(DataDirection::Sent), InHand),
        ];
        for (facts, last, expected) in table {
            let facts = ConnectionFacts { last, ..facts };
            assert_eq!(turns(&facts).activity(&facts), expected, "{facts:?}");
        }
        assert!(tie.is_tie());
        let told = [
            facts((80, 8), (200, 12), (0, 0)),
            facts((80, 12), (200, 12), (0, 1)),
            facts((80, 12), (0, 12), (0, 0)),
            facts((0, 12), (200, 12), (0, 0)),
            facts((80, 5_000), (200, 5_000), (0, 0)),
        ];
        assert!(!told.iter().any(ConnectionFacts::is_tie));
    }

    #[test]
    fn an_answer_on_its_way_is_an_answer() {
        use Activity::{Answered, InHand};
        // Ages of received and sent data, unsent bytes.
        let table =
            [(12, 8, 0, Answered), (12, 8, 1, InHand), (8, 12, 0, InHand), (12, 12, 0, Answered)];
        for (received, sent, unsent, expected) in table {
            let facts = facts((80, received), (200, sent), (0, 200));
            let facts = ConnectionFacts { unsent, ..facts };
            let history = turns(&facts);
            assert_eq!(history.activity_after_sending(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn two_observations_can_order_a_tie() {
        use Activity::{Answered, InHand, Unclear};
        let before = facts((80, 12), (200, 12), (0, 0));
        let table = [
            // Received and sent bytes, later; the ages are equal.
            (80, 200, Unclear),
            (160, 200, InHand),
            (80, 400, Answered),
            (160, 400, Unclear),
        ];
        for (received, sent, expected) in table {
            let mut history = turns(&before);
            let after = facts((received, 4), (sent, 4), (0, 0));
            history.observe(&after);
            assert_eq!(history.activity(&after), expected, "{after:?}");
            // A third observation without a change confirms the second.
            history.observe(&after);
            assert_eq!(history.activity(&after), expected, "{after:?}");
        }
    }

    #[test]
    fn an_answer_in_parts_is_in_hand_until_it_is_quiet() {
        let begin = facts((80, 12), (0, 12), (0, 0));
        let mut history = History { turns: TURNS - 1, ..History::new(&begin) };
        let mut activities = Vec::new();
        for part in 1..=3 {
            let facts = facts((80, 12 + part * 100), (part * 100, 4), (0, 0));
            history.observe(&facts);
            activities.push(history.activity(&facts));
        }
        assert_eq!(activities, [Activity::Sending, Activity::InHand, Activity::InHand]);
        let quiet = facts((80, 9_000), (300, 5_000), (0, 0));
        history.observe(&quiet);
        assert_eq!(history.activity(&quiet), Activity::Answered);
        // The next request begins a new answer.
        let next = facts((160, 12), (700, 4), (0, 0));
        history.observe(&next);
        assert_eq!(history.activity(&next), Activity::Answered);
    }
}
