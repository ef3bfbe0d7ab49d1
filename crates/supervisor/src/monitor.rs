//! What is on the addresses of a run: what the threads beside the supervisor report, followed up and
//! told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sameport_policy::join_debounce::JoinDebounce;
use sameport_policy::model::Address;
use tokio::sync::mpsc;

use crate::conflict_report;
use crate::event::{OutOfReach, Remark, RunEvent};
use crate::interpose::kept::KeptSockets;
use crate::interpose::pending::{CallOutcome, PendingCalls};
use crate::report::{AnsweredCall, Report};

/// How many things that need saying only once are remembered as said.
const MOST_SAID: usize = 64;

/// How many refused addresses are remembered as told.
const MOST_REFUSED: usize = 4096;

pub(crate) struct Monitor<'a> {
    tell: &'a mut dyn FnMut(RunEvent),
    sender: mpsc::Sender<Report>,
    /// The moment that every `Duration` here counts from.
    start: Instant,
    outcomes: PendingCalls,
    joins: JoinDebounce,
    /// Addresses whose refusal has been told; a program that tries again is not told of again.
    refused: BTreeSet<Address>,
    out_of_reach: bool,
    said: Vec<Remark>,
    looking: bool,
}

impl<'a> Monitor<'a> {
    pub(crate) fn new(
        sender: mpsc::Sender<Report>,
        bound: KeptSockets,
        tell: &'a mut dyn FnMut(RunEvent),
    ) -> Self {
        Self {
            tell,
            sender,
            start: Instant::now(),
            outcomes: PendingCalls::new(bound),
            joins: JoinDebounce::default(),
            refused: BTreeSet::new(),
            out_of_reach: false,
            said: Vec::new(),
            looking: false,
        }
    }

    /// Goes on with a clock that shows so much already.
    pub(crate) fn since(mut self, clock: Duration) -> Self {
        self.start = self.start.checked_sub(clock).unwrap_or(self.start);
        self
    }

    pub(crate) fn tell(&mut self, event: RunEvent) {
        (self.tell)(event);
    }

    /// How much time has passed.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// That much time, as a moment.
    pub(crate) fn moment(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + at)
    }

    /// When to call [`Self::attend`] next.
    pub(crate) fn next(&self) -> Option<Duration> {
        let joins = self.joins.next_deadline().filter(|_| !self.looking);
        [self.outcomes.next(), joins].into_iter().flatten().min()
    }

    pub(crate) fn hear(&mut self, news: Report) {
        match news {
            Report::CallAnswered(asked) => {
                let now = self.now();
                self.outcomes.follow(asked, now);
            }
            Report::OutOfReach(tid, why) => self.tell_out_of_reach(tid, why),
            Report::Event(RunEvent::Shared { address, members, shadowed }) => {
                if self.joins.should_report(&address, &members, !shadowed.is_empty()) {
                    self.tell(RunEvent::Shared { address, members, shadowed });
                }
            }
            Report::Event(event) => self.tell(event),
            Report::Joined(address) => self.learn(vec![CallOutcome::Joined(address)]),
            Report::InspectionDone => self.looking = false,
            Report::Refused(event) => self.tell_refusal(event),
            Report::Remark(remark) => {
                // A program that binds again and again is told of once.
                if self.said.len() < MOST_SAID && !self.said.contains(&remark) {
                    self.said.push(remark);
                    self.tell(RunEvent::Remark(remark));
                }
            }
        }
    }

    fn tell_refusal(&mut self, event: RunEvent) {
        if let RunEvent::Refused { address, .. } = &event
            && self.is_unheard(address)
        {
            self.tell(event);
        }
    }

    fn tell_out_of_reach(&mut self, tid: i32, why: OutOfReach) {
        if !std::mem::replace(&mut self.out_of_reach, true) {
            self.tell(RunEvent::OutOfReach { tid, why });
        }
    }

    /// Follows up what is due.
    pub(crate) fn attend(&mut self) {
        let now = self.now();
        let known = self.outcomes.inspect_due(now);
        self.learn(known);
        if let Some(count) = self.outcomes.lost() {
            self.tell(RunEvent::Untracked { count });
        }
        if !self.looking {
            self.look_for_members(now);
        }
    }

    /// Follows up the calls of threads that have ended.
    pub(crate) fn attend_to_the_gone(&mut self) {
        let known = self.outcomes.inspect_ended();
        self.learn(known);
    }

    fn learn(&mut self, known: Vec<CallOutcome>) {
        let now = self.now();
        let mut refused = Vec::new();
        for outcome in known {
            match outcome {
                CallOutcome::Joined(address) => {
                    self.refused.remove(&address);
                    self.joins.joined(address, now);
                }
                CallOutcome::Refused(asked) if self.is_unheard(&asked.address) => {
                    refused.push(asked);
                }
                CallOutcome::Refused(_) => {}
            }
        }
        if !refused.is_empty() {
            self.look_for_reasons(refused);
        }
    }

    /// Whether a refusal of this address has not been told; from now on it has.
    fn is_unheard(&mut self, address: &Address) -> bool {
        if self.refused.len() >= MOST_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(address.clone())
    }

    /// Looking takes as long as the machine has descriptors, so it is done beside the rest, once for
    /// all addresses that are due, and one look at a time.
    fn look_for_members(&mut self, now: Duration) {
        let due = self.joins.due(now);
        if due.is_empty() {
            return;
        }
        self.looking = true;
        let done = PollDone(self.sender.clone());
        tokio::task::spawn_blocking(move || {
            for event in conflict_report::look(due) {
                drop(done.0.blocking_send(Report::Event(event)));
            }
        });
    }

    fn look_for_reasons(&self, refused: Vec<AnsweredCall>) {
        let sender = self.sender.clone();
        tokio::task::spawn_blocking(move || {
            for event in conflict_report::why_refused(refused) {
                drop(sender.blocking_send(Report::Event(event)));
            }
        });
    }

    /// A worker that was refused its address often ends at once, even before we hear that it was
    /// answered: say why before we end too. The threads beside us have been told of the end.
    pub(crate) async fn finish(mut self, mut news: mpsc::Receiver<Report>) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (unused, _) = mpsc::channel(1);
        // The other senders: the threads beside us, until they have seen the end, and the looks
        // under way.
        self.sender = unused;
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(item)) = tokio::time::timeout_at(until, news.recv()).await {
            self.hear(item);
            self.tell_the_last();
        }
        self.tell_the_last();
    }

    /// Nobody waits for us any more, so looks may be taken here.
    fn tell_the_last(&mut self) {
        let mut refused = Vec::new();
        for outcome in self.outcomes.inspect_ended() {
            if let CallOutcome::Refused(asked) = outcome
                && self.is_unheard(&asked.address)
            {
                refused.push(asked);
            }
        }
        conflict_report::why_refused(refused).into_iter().for_each(|event| self.tell(event));
        if let Some(count) = self.outcomes.lost() {
            self.tell(RunEvent::Untracked { count });
        }
    }
}

/// Says that a look is over, however it ends.
struct PollDone(mpsc::Sender<Report>);

impl Drop for PollDone {
    fn drop(&mut self) {
        drop(self.0.blocking_send(Report::InspectionDone));
    }
}
