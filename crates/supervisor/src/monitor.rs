//! The addresses of a run: follows up the reports of the interposer, and turns them into events.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::{Duration, Instant};

use sameport_policy::join_debounce::JoinDebounce;
use sameport_policy::model::Address;
use sameport_policy::refusal::Refusal;
use tokio::sync::mpsc;

use crate::conflict_report;
use crate::event::{ContestedTraffic, OutOfReach, Remark, RunEvent};
use crate::interpose::kept::KeptSockets;
use crate::interpose::pending::{CallOutcome, PendingCalls};
use crate::report::{AnsweredCall, Report, SharedAddress};
use crate::traffic::PortKey;

/// The limit of remembered remarks: each is reported once.
const MOST_REMARKS: usize = 64;

/// The limit of remembered refusals: each address is reported once.
const MOST_REFUSED: usize = 4096;

/// The limit of refusals that a run has not taken. A plain run takes none.
const MOST_UNREAD: usize = 64;

pub(crate) struct Monitor<'a> {
    tell: &'a mut dyn FnMut(RunEvent),
    sender: mpsc::Sender<Report>,
    /// The start of the run's clock.
    start: Instant,
    outcomes: PendingCalls,
    joins: JoinDebounce,
    /// Addresses whose refusal has been reported.
    refused: BTreeMap<Address, Option<Refusal>>,
    /// Refusals with their reasons, since the last [`Self::take_refusals`].
    refusals: Vec<(Address, Refusal)>,
    out_of_reach: bool,
    remarks: Vec<Remark>,
    is_inspecting: bool,
    /// Ports that sockets of the run have joined since the last [`Self::take_joined`].
    joined: BTreeSet<PortKey>,
    /// See `run_files::runtime_dir`.
    runtime: Option<OsString>,
}

impl<'a> Monitor<'a> {
    pub(crate) fn new(
        sender: mpsc::Sender<Report>,
        bound: KeptSockets,
        runtime: Option<OsString>,
        tell: &'a mut dyn FnMut(RunEvent),
    ) -> Self {
        Self {
            tell,
            sender,
            start: Instant::now(),
            outcomes: PendingCalls::new(bound),
            joins: JoinDebounce::default(),
            refused: BTreeMap::new(),
            refusals: Vec::new(),
            out_of_reach: false,
            remarks: Vec::new(),
            is_inspecting: false,
            joined: BTreeSet::new(),
            runtime,
        }
    }

    /// Continues a clock that shows this time already.
    pub(crate) fn since(mut self, clock: Duration) -> Self {
        self.start = self.start.checked_sub(clock).unwrap_or(self.start);
        self
    }

    pub(crate) fn tell(&mut self, event: RunEvent) {
        (self.tell)(event);
    }

    /// The time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A time of the run's clock, for tokio.
    pub(crate) fn moment(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + at)
    }

    /// When to call [`Self::attend`] next.
    pub(crate) fn next(&self) -> Option<Duration> {
        let joins = self.joins.next_deadline().filter(|_| !self.is_inspecting);
        [self.outcomes.next(), joins].into_iter().flatten().min()
    }

    /// Takes a report of the interposer.
    pub(crate) fn hear(&mut self, report: Report) {
        match report {
            Report::CallAnswered(asked) => {
                let now = self.now();
                self.outcomes.follow(asked, now);
            }
            Report::OutOfReach(tid, why) => self.report_out_of_reach(tid, why),
            Report::Inspected(found) => self.report_sharers(found),
            Report::Event(event) => {
                self.remember_refusal(&event);
                self.tell(event);
            }
            Report::Bound(address) => {
                let now = self.now();
                self.joined.insert(PortKey::of(&address));
                self.refused.remove(&address);
                self.joins.bound(address, now);
            }
            Report::InspectionDone => self.is_inspecting = false,
            Report::Refused(event) => self.report_refusal(event),
            Report::Remark(remark) => {
                if self.remarks.len() < MOST_REMARKS && !self.remarks.contains(&remark) {
                    self.remarks.push(remark);
                    self.tell(RunEvent::Remark(remark));
                }
            }
        }
    }

    fn report_sharers(&mut self, found: SharedAddress) {
        let SharedAddress { bound, address, sharers, contests, is_settled } = found;
        let now = self.now();
        self.joins.inspected(&bound, is_settled, now);
        let (identities, sharers): (BTreeSet<_>, Vec<_>) = sharers.into_iter().unzip();
        if self.joins.report_sharers(&address, &identities, now) {
            self.tell(RunEvent::Shared { address: address.clone(), sharers });
        }
        let pair = |contest: &ContestedTraffic| {
            let [(one, _), (other, _)] = &contest.between;
            (one.clone(), other.clone())
        };
        let pairs = contests.iter().map(pair).collect();
        if self.joins.report_shadowed(&address, pairs) {
            contests.into_iter().for_each(|it| self.tell(RunEvent::Contested(Box::new(it))));
        }
    }

    fn report_refusal(&mut self, event: RunEvent) {
        if let RunEvent::Refused { address, .. } = &event {
            let is_new = self.is_new_refusal(address);
            self.remember_refusal(&event);
            if is_new {
                self.tell(event);
            }
        }
    }

    fn remember_refusal(&mut self, event: &RunEvent) {
        if let RunEvent::Refused { address, refusal } = event {
            self.refused.insert(address.clone(), Some((**refusal).clone()));
            self.refused_again(address.clone(), (**refusal).clone());
        }
    }

    fn refused_again(&mut self, address: Address, refusal: Refusal) {
        if self.refusals.len() < MOST_UNREAD {
            self.refusals.push((address, refusal));
        }
    }

    /// Takes the refusals whose reason is known, also those that were reported before.
    pub(crate) fn take_refusals(&mut self) -> Vec<(Address, Refusal)> {
        std::mem::take(&mut self.refusals)
    }

    /// Takes the ports that sockets of the run have joined, or are about to.
    pub(crate) fn take_joined(&mut self) -> BTreeSet<PortKey> {
        std::mem::take(&mut self.joined)
    }

    /// Makes the next refusal of this address a new one.
    pub(crate) fn forget_refusal(&mut self, address: &Address) {
        self.refused.remove(address);
    }

    fn report_out_of_reach(&mut self, tid: i32, why: OutOfReach) {
        if !std::mem::replace(&mut self.out_of_reach, true) {
            self.tell(RunEvent::OutOfReach { tid, why });
        }
    }

    /// Follows up the calls and addresses that are due.
    pub(crate) fn attend(&mut self) {
        let now = self.now();
        let known = self.outcomes.inspect_due(now);
        self.learn(known);
        if let Some(count) = self.outcomes.lost() {
            self.tell(RunEvent::Untracked { count });
        }
        if !self.is_inspecting {
            self.inspect_members(now);
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
                    self.joined.insert(PortKey::of(&address));
                    self.joins.joined(address, now);
                }
                CallOutcome::Refused(asked) if self.is_new_refusal(&asked.address) => {
                    refused.push(asked);
                }
                CallOutcome::Refused(asked) => {
                    if let Some(Some(refusal)) = self.refused.get(&asked.address).cloned() {
                        self.refused_again(asked.address, refusal);
                    }
                }
            }
        }
        if !refused.is_empty() {
            self.inspect_refusals(refused);
        }
    }

    /// Whether the refusal of this address is new. It counts as reported from now on.
    fn is_new_refusal(&mut self, address: &Address) -> bool {
        if self.refused.len() >= MOST_REFUSED {
            self.refused.clear();
        }
        match self.refused.entry(address.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(new) => {
                new.insert(None);
                true
            }
        }
    }

    /// An inspection takes longer the more descriptors the machine has: it runs on another thread, once
    /// for all addresses that are due, one at a time.
    fn inspect_members(&mut self, now: Duration) {
        let due = self.joins.due(now);
        if due.is_empty() {
            return;
        }
        self.is_inspecting = true;
        let done = InspectionEnd(self.sender.clone());
        tokio::task::spawn_blocking(move || {
            for report in conflict_report::members_of(due) {
                drop(done.0.blocking_send(report));
            }
        });
    }

    fn inspect_refusals(&self, refused: Vec<AnsweredCall>) {
        let (sender, runtime) = (self.sender.clone(), self.runtime.clone());
        tokio::task::spawn_blocking(move || {
            for event in conflict_report::why_refused(refused, runtime.as_deref()) {
                drop(sender.blocking_send(Report::Event(event)));
            }
        });
    }

    /// Reports refusals that are still open. A worker that was refused its address often ends at once,
    /// even before the report of its call arrives.
    pub(crate) async fn finish(mut self, mut reports: mpsc::Receiver<Report>) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (unused, _) = mpsc::channel(1);
        // The other senders: the interposer's threads, which end now, and inspections under way.
        self.sender = unused;
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(report)) = tokio::time::timeout_at(until, reports.recv()).await {
            self.hear(report);
            self.report_last();
        }
        self.report_last();
    }

    /// No worker waits for the supervisor any more, so the inspection may run on this thread.
    fn report_last(&mut self) {
        let mut refused = Vec::new();
        for outcome in self.outcomes.inspect_ended() {
            if let CallOutcome::Refused(asked) = outcome
                && self.is_new_refusal(&asked.address)
            {
                refused.push(asked);
            }
        }
        let events = conflict_report::why_refused(refused, self.runtime.as_deref());
        events.into_iter().for_each(|event| self.tell(event));
        if let Some(count) = self.outcomes.lost() {
            self.tell(RunEvent::Untracked { count });
        }
    }
}

/// Reports the end of an inspection, however it ends.
struct InspectionEnd(mpsc::Sender<Report>);

impl Drop for InspectionEnd {
    fn drop(&mut self) {
        drop(self.0.blocking_send(Report::InspectionDone));
    }
}
