//! The supervisor: passes signals on, reports, and ends when the last process has ended. Workers are
//! answered beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sameport_linux::signals::{Arrived, Signals};
use sameport_linux::worker::{self, Ended};
use sameport_rules::ending::{self, Exit, Leftovers};
use sameport_rules::joins::Joins;
use sameport_rules::sockets::Address;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::asking::Asked;
use super::interposer::Beside;
use super::leftovers::{Leaving, SIGTERM, everybody};
use super::looking;
use super::outcome::{Bound, Outcome, Outcomes};
use super::{Event, OutOfReach, Remark};

/// SIGINT, SIGQUIT and SIGTERM: signals that ask a program to end.
const STOPPING: [i32; 3] = [2, 3, SIGTERM];

/// How many things that need saying only once are remembered as said.
const MOST_SAID: usize = 64;

/// How many refused addresses are remembered as told.
const MOST_REFUSED: usize = 4096;

/// What reaches the supervisor from the threads beside it.
pub(super) enum News {
    /// A call was answered, and its outcome is to be followed.
    Asked(Asked),
    /// A worker's sockets cannot be reached.
    OutOfReach(i32, OutOfReach),
    /// A socket has joined this address.
    Joined(Address),
    /// A look is done.
    Looked(Event),
    /// A refusal, with its reason found already.
    Refused(Event),
    /// The look under way is over.
    LookDone,
    /// Something to tell once.
    Say(Remark),
}

pub(super) struct Supervisor<'a> {
    tell: &'a mut dyn FnMut(Event),
    sender: mpsc::Sender<News>,
    /// The moment that every `Duration` here counts from.
    start: Instant,
    copies: usize,
    /// First processes that have not ended, with the worker's ordinal.
    running: BTreeMap<i32, u16>,
    exits: Vec<Exit>,
    told_to_stop: bool,
    leftovers: Option<Leaving>,
    outcomes: Outcomes,
    joins: Joins,
    /// Addresses whose refusal has been told; a program that tries again is not told of again.
    refused: BTreeSet<Address>,
    out_of_reach: bool,
    said: Vec<Remark>,
    looking: bool,
    beside: Option<Beside>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(
        running: BTreeMap<i32, u16>,
        beside: Beside,
        bound: Bound,
        tell: &'a mut dyn FnMut(Event),
    ) -> Self {
        Self {
            tell,
            sender: beside.news.clone(),
            start: Instant::now(),
            copies: running.len(),
            running,
            exits: Vec::new(),
            told_to_stop: false,
            leftovers: None,
            outcomes: Outcomes::new(bound),
            joins: Joins::default(),
            refused: BTreeSet::new(),
            out_of_reach: false,
            said: Vec::new(),
            looking: false,
            beside: Some(beside),
        }
    }

    /// Stays until every process has ended. Gives the exit code.
    pub(super) async fn serve(
        mut self,
        signals: &AsyncFd<Signals>,
        mut news: mpsc::Receiver<News>,
    ) -> std::io::Result<u8> {
        loop {
            let wake = self.next_wake().map(|at| tokio::time::Instant::from_std(self.start + at));
            tokio::select! {
                biased;
                ready = signals.readable() => {
                    let mut ready = ready?;
                    match ready.get_inner().next()? {
                        None => ready.clear_ready(),
                        Some(Arrived::ForWorkers { number, from_terminal }) => {
                            self.pass_on(number, from_terminal);
                        }
                        Some(Arrived::Child) => {
                            while let Ok(item) = news.try_recv() {
                                self.hear(item);
                            }
                            if !self.reap()? {
                                break;
                            }
                        }
                    }
                }
                Some(item) = news.recv() => self.hear(item),
                () = tokio::time::sleep_until(wake.unwrap_or_else(far_future)), if wake.is_some() => {}
            }
            if !self.attend_to_time() {
                break;
            }
        }
        self.finish(news).await;
        Ok(ending::code(&self.exits))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn next_wake(&self) -> Option<Duration> {
        let sweep = self.leftovers.as_ref().map(Leaving::next_sweep);
        let joins = self.joins.next().filter(|_| !self.looking);
        [self.outcomes.next(), joins, sweep].into_iter().flatten().min()
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Asked(asked) => self.outcomes.follow(asked, self.now()),
            News::OutOfReach(tid, why) => self.tell_out_of_reach(tid, why),
            News::Looked(Event::Shared { address, members, shadowed }) => {
                if self.joins.is_news(&address, &members, !shadowed.is_empty()) {
                    (self.tell)(Event::Shared { address, members, shadowed });
                }
            }
            News::Looked(event) => (self.tell)(event),
            News::Joined(address) => self.learn(Outcome::Joined(address)),
            News::LookDone => self.looking = false,
            News::Refused(event) => self.tell_refusal(event),
            News::Say(remark) => {
                // A program that binds again and again is told of once.
                if self.said.len() < MOST_SAID && !self.said.contains(&remark) {
                    self.said.push(remark);
                    (self.tell)(Event::Remark(remark));
                }
            }
        }
    }

    fn tell_refusal(&mut self, event: Event) {
        if let Event::Refused { address, .. } = &event
            && self.is_unheard(address)
        {
            (self.tell)(event);
        }
    }

    fn tell_out_of_reach(&mut self, tid: i32, why: OutOfReach) {
        if !std::mem::replace(&mut self.out_of_reach, true) {
            (self.tell)(Event::OutOfReach { tid, why });
        }
    }

    fn attend_to_time(&mut self) -> bool {
        let now = self.now();
        for outcome in self.outcomes.look(now) {
            self.learn(outcome);
        }
        if !self.looking {
            self.look_for_members(now);
        }
        self.sweep()
    }

    fn learn(&mut self, outcome: Outcome) {
        let now = self.now();
        match outcome {
            Outcome::Joined(address) => {
                self.refused.remove(&address);
                self.joins.saw(address, now);
            }
            Outcome::Refused(asked) => {
                if self.is_unheard(&asked.address) {
                    self.look_for_reason(asked);
                }
            }
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
        let done = LookDone(self.sender.clone());
        tokio::task::spawn_blocking(move || {
            for event in looking::look(due) {
                drop(done.0.blocking_send(News::Looked(event)));
            }
        });
    }

    fn look_for_reason(&self, asked: Asked) {
        let sender = self.sender.clone();
        tokio::task::spawn_blocking(move || {
            drop(sender.blocking_send(News::Looked(looking::why_refused(asked))));
        });
    }

    fn pass_on(&mut self, number: i32, from_terminal: bool) {
        let stopping = STOPPING.contains(&number);
        self.told_to_stop |= stopping;
        if !from_terminal {
            for pid in self.running.keys() {
                // A worker whose end is not reaped yet takes the signal in vain.
                let _ = worker::signal(*pid, number);
            }
        }
        if stopping && self.running.is_empty() {
            self.end_leftovers(number);
        }
    }

    /// Whether any process is left.
    fn reap(&mut self) -> std::io::Result<bool> {
        let (ended, any_left) = worker::reap()?;
        for outcome in self.outcomes.look_at_the_gone() {
            self.learn(outcome);
        }
        let mut a_worker_ended = false;
        for Ended { pid, exit } in ended {
            let Some(ordinal) = self.running.remove(&pid) else { continue };
            a_worker_ended = true;
            self.exits.push(exit);
            let running = self.running.len();
            if self.copies > 1 && running > 0 && !self.told_to_stop {
                (self.tell)(Event::WorkerEnded { ordinal, pid, exit, running });
            }
        }
        if any_left && a_worker_ended && self.running.is_empty() {
            match ending::leftovers(&self.exits, self.told_to_stop) {
                Leftovers::End => self.end_leftovers(SIGTERM),
                Leftovers::KeepServing => (self.tell)(Event::DaemonsServe { pids: everybody() }),
            }
        }
        Ok(any_left)
    }

    fn end_leftovers(&mut self, signal: i32) {
        if self.leftovers.is_none() {
            (self.tell)(Event::EndingLeftovers { pids: everybody() });
        }
        self.leftovers = Some(Leaving::new(signal, self.now()));
        self.sweep();
    }

    /// `false` once processes that are to end have not even ended by SIGKILL.
    fn sweep(&mut self) -> bool {
        let now = self.now();
        let stuck = self.leftovers.as_mut().is_some_and(|leaving| !leaving.sweep(now));
        if stuck {
            (self.tell)(Event::Unkillable { pids: everybody() });
        }
        !stuck
    }

    /// A worker that was refused its address often ends at once, even before we hear that it was
    /// answered: say why before we end too.
    async fn finish(&mut self, mut news: mpsc::Receiver<News>) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (unused, _) = mpsc::channel(1);
        // The other senders: the threads beside us, until they have seen the end, and the looks
        // under way.
        self.sender = unused;
        if let Some(beside) = self.beside.take() {
            beside.end();
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(item)) = tokio::time::timeout_at(until, news.recv()).await {
            self.hear(item);
            self.tell_the_last();
        }
        self.tell_the_last();
    }

    /// Nobody waits for us any more, so looks may be taken here.
    fn tell_the_last(&mut self) {
        for outcome in self.outcomes.look_at_the_gone() {
            if let Outcome::Refused(asked) = outcome
                && self.is_unheard(&asked.address)
            {
                (self.tell)(looking::why_refused(asked));
            }
        }
    }
}

/// Says that a look is over, however it ends.
struct LookDone(mpsc::Sender<News>);

impl Drop for LookDone {
    fn drop(&mut self) {
        drop(self.0.blocking_send(News::LookDone));
    }
}

fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}
