//! The supervisor of a named run: carries out the orders of its workers' life, and tells that life
//! what happened.

pub(crate) mod begin;
pub(crate) mod handover;
pub(crate) mod poll;
pub(crate) mod requests;
pub(crate) mod workers;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::{Action, Lifecycle, RunOutcome};
use sameport_policy::model::Address;
use sameport_sys::process;
use sameport_sys::process::signals::{ReceivedSignal, SignalFd};
use sameport_sys::systemd::NotifySocket;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::service_manager::ManagerReport;
use crate::control::protocol::ControlReply;
use crate::control::{ControlSocket, PendingRequest, Responder, RunInfo};
use crate::event::RunEvent;
use crate::interpose::Interposer;
use crate::interpose::kept::KeptSockets;
use crate::monitor::Monitor;
use crate::plan::{NamedOptions, RunPlan};
use crate::pool::SocketPool;
use crate::processes;
use crate::readiness::{CheckCommand, CheckResult};
use crate::report::{Report, Reporter};
use crate::runtime::far_future;
use crate::termination::{SIGKILL, SIGTERM, Termination};

/// How often is looked whether the queue of a worker that drains is empty.
const DRAINING: Duration = Duration::from_millis(5);

/// How often is looked for what nothing reports: sockets closed, members joined, accepts missing.
const ROUND: Duration = Duration::from_secs(1);

/// How often is looked what a worker listens on, where we do not hear of it.
const LOOK: Duration = Duration::from_millis(50);

/// How long a handshake of somebody, perhaps not even of this worker's, is waited for.
const HANDSHAKES: Duration = Duration::from_secs(1);

/// In how many rounds in a row a queue may not have become shorter.
const ROUNDS_WITHOUT_ACCEPT: u32 = 4;

pub(crate) struct Supervisor<'a> {
    plan: &'a RunPlan,
    named: &'a NamedOptions,
    interposer: Box<dyn Interposer>,
    beside: Reporter,
    door: ControlSocket,
    calls: mpsc::Receiver<PendingRequest>,
    about: RunInfo,
    life: Lifecycle,
    held: SocketPool,
    telling: ManagerReport,
    /// It was asked to stop, and not by a signal.
    asked_to_stop: bool,
    /// The first, and those that it was upgraded to.
    commands: Vec<Vec<OsString>>,
    /// First processes.
    processes: BTreeMap<InstanceId, FirstProcess>,
    /// Duplicates of the listeners that are attended to beside us, to be passed on.
    listeners: BTreeMap<InstanceId, OwnedFd>,
    draining: BTreeMap<InstanceId, DrainState>,
    orphans: BTreeMap<InstanceId, OrphanedProcesses>,
    /// What first processes that ended well left behind, by which they live on.
    daemons: BTreeMap<InstanceId, Vec<i32>>,
    probes: BTreeMap<InstanceId, JoinHandle<()>>,
    probed: (mpsc::Sender<InstanceId>, mpsc::Receiver<InstanceId>),
    /// Who asked for what is under way.
    caller: Option<Responder>,
    /// Commands that say whether a worker is ready, by pid, and who waits for them.
    checks: BTreeMap<i32, CheckResult>,
    checking: (mpsc::Sender<CheckCommand>, mpsc::Receiver<CheckCommand>),
    /// Where workers say that they are ready (`--ready notify`).
    notices: Option<AsyncFd<NotifySocket>>,
    /// Those that have said so, and those that listen on all that they should.
    notified: BTreeSet<InstanceId>,
    asked_to_notify: BTreeSet<InstanceId>,
    waiting: BTreeMap<InstanceId, QueueWatch>,
    /// What the clock showed when this program began.
    clock: Duration,
    next_round: Duration,
    next_look: Duration,
    /// What happened before there was somebody to tell.
    untold: Vec<RunEvent>,
    outcome: Option<RunOutcome>,
}

/// What it begins with.
pub(crate) struct NamedParts {
    pub(crate) held: SocketPool,
    pub(crate) telling: ManagerReport,
}

/// A first process.
#[derive(Debug, Clone, Copy)]
struct FirstProcess {
    pid: i32,
    ordinal: u16,
    /// It has ended with 0, and what it started works on: a daemon.
    detached: bool,
}

/// What a first process left behind, on its way out.
#[derive(Debug)]
struct OrphanedProcesses {
    first: i32,
    /// Those that were seen when it ended; there may be more since.
    left: Vec<i32>,
    leaving: Termination,
}

/// A worker whose queue is to become empty.
#[derive(Debug, Clone, Copy)]
struct DrainState {
    since: Duration,
    was_empty: bool,
}

/// A queue that is watched for accepts.
#[derive(Debug, Clone, Copy, Default)]
struct QueueWatch {
    waiting: u32,
    rounds: u32,
}

impl<'a> Supervisor<'a> {
    /// What the clock showed when this program began.
    pub(crate) fn clock(&self) -> Duration {
        self.clock
    }

    /// To whom the threads beside us report.
    pub(crate) fn sender(&self) -> mpsc::Sender<Report> {
        self.beside.sender.clone()
    }

    pub(crate) fn bound(&self) -> KeptSockets {
        self.interposer.kept_sockets()
    }

    /// Stays until the run has ended, and gives its exit code.
    pub(crate) async fn serve(
        mut self,
        mut watching: Monitor<'_>,
        signals: &AsyncFd<SignalFd>,
        mut news: mpsc::Receiver<Report>,
    ) -> io::Result<u8> {
        self.write_record();
        let mut ending: Option<Termination> = None;
        loop {
            let wake = self.next_wake(&watching, ending.as_ref());
            let wake = wake.map_or_else(far_future, |at| watching.moment(at));
            let now = watching.now();
            tokio::select! {
                biased;
                ready = signals.readable() => {
                    let mut ready = ready?;
                    match ready.get_inner().next()? {
                        None => ready.clear_ready(),
                        Some(ReceivedSignal::ForWorkers { number, .. }) => self.signalled(number, now),
                        Some(ReceivedSignal::Child) => {
                            while let Ok(item) = news.try_recv() {
                                watching.hear(item);
                            }
                            self.reap(now, &mut watching)?;
                        }
                    }
                }
                () = self.held.changed() => {}
                Some(start) = self.probed.1.recv() => {
                    let orders = self.life.ready(start, now);
                    self.obey(orders, now);
                }
                Some(check) = self.checking.1.recv() => self.check(check),
                () = readable(self.notices.as_ref()) => self.take_notices(now),
                Some(call) = self.calls.recv() => self.called(call, now),
                Some(item) = news.recv() => watching.hear(item),
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = watching.now();
            watching.attend();
            self.attend(now);
            self.untold.drain(..).for_each(|event| watching.tell(event));
            if self.outcome.is_some() {
                // What is left has outlived its worker.
                let leaving = ending.get_or_insert_with(|| Termination::new(SIGTERM, now));
                let done = process::reap().map_or(true, |(_, any_left)| !any_left);
                if done || !leaving.sweep(now) {
                    break;
                }
            }
        }
        self.finish(watching, news).await
    }

    async fn finish(self, watching: Monitor<'_>, news: mpsc::Receiver<Report>) -> io::Result<u8> {
        let Self { interposer, beside, door, outcome, held, caller, .. } = self;
        beside.end();
        if self.asked_to_stop {
            held.clear_store();
        }
        self.telling.flush();
        drop((beside, held));
        interposer.finish();
        watching.finish(news).await;
        if let Some(caller) = caller {
            caller.end(ControlReply::Done);
        }
        door.close().await;
        Ok(match outcome {
            Some(RunOutcome::GivenUp(exit)) => exit.exit_code().max(1),
            Some(RunOutcome::Stopped) | None => 0,
        })
    }

    fn next_wake(&self, watching: &Monitor<'_>, ending: Option<&Termination>) -> Option<Duration> {
        let now = watching.now();
        let draining = (!self.draining.is_empty()).then_some(now + DRAINING);
        let orphans = self.orphans.values().map(|orphans| &orphans.leaving);
        let orphans = orphans.chain(ending).map(Termination::next_sweep).min();
        let unheard = !self.hears_of_listeners() && !self.life.starting().is_empty();
        let look = unheard.then_some(self.next_look);
        [watching.next(), self.life.next_deadline(), draining, orphans, look, Some(self.next_round)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whatever time or the thread beside us has brought.
    fn attend(&mut self, now: Duration) {
        self.look_who_listens(now);
        for (start, address) in self.held.take_listens() {
            let orders = self.life.listening(start, named(&address), now);
            self.obey(orders, now);
        }
        if !self.asked_to_notify.is_disjoint(&self.notified) {
            self.take_notices(now);
        }
        let empty = self.look_who_is_drained(now);
        for start in empty {
            self.draining.remove(&start);
            let orders = self.life.drained(start, now);
            self.obey(orders, now);
        }
        let orders = self.life.tick(now);
        self.obey(orders, now);
        self.orphans.retain(|start, OrphanedProcesses { first, left, leaving }| {
            if now < leaving.next_sweep() {
                return true;
            }
            let mut pids = processes::of(*start, *first, &HashSet::new());
            pids.extend(left.iter().filter(|pid| process::is_descendant(**pid)));
            !pids.is_empty() && leaving.sweep_these(&pids, now)
        });
        if now >= self.next_round {
            self.next_round = now + ROUND;
            self.round(now);
        }
        self.telling.attend(&self.life);
    }

    fn obey(&mut self, orders: Vec<Action>, now: Duration) {
        let mut next: VecDeque<Action> = orders.into();
        while let Some(order) = next.pop_front() {
            let more = match order {
                Action::Start { instance: start, ordinal, command, predecessor } => {
                    match self.start_worker(start, ordinal, command, predecessor) {
                        Ok(()) => self.life.started(start),
                        Err(error) => {
                            self.untold.push(RunEvent::NotStarted { ordinal, error });
                            self.held.ended(start);
                            self.life.start_failed(start, now)
                        }
                    }
                }
                Action::CheckReady(start) => {
                    self.probe(start);
                    Vec::new()
                }
                Action::UpdateSteering => {
                    if !self.life.is_stopping() {
                        self.held.steer(self.life.serving());
                    }
                    Vec::new()
                }
                Action::StopAccepting => {
                    self.held.close();
                    Vec::new()
                }
                Action::Drain(start) => {
                    let draining = DrainState { since: now, was_empty: false };
                    self.draining.insert(start, draining);
                    Vec::new()
                }
                Action::Terminate(start) => {
                    self.held.terminating(start);
                    self.signal(start, SIGTERM);
                    Vec::new()
                }
                Action::Kill(start) => {
                    for pid in self.processes_of(start) {
                        // It may have ended meanwhile.
                        let _ = process::signal(pid, SIGKILL);
                    }
                    self.signal(start, SIGKILL);
                    Vec::new()
                }
                Action::Report(change) => {
                    self.tell(change);
                    Vec::new()
                }
                Action::RequestDone(result) => {
                    self.done(result);
                    Vec::new()
                }
                Action::EndRun(outcome) => {
                    self.outcome = Some(outcome);
                    Vec::new()
                }
            };
            next.extend(more);
        }
    }
}

/// Waits until a worker has said something; for ever, where none can.
async fn readable(notices: Option<&AsyncFd<NotifySocket>>) {
    match notices {
        Some(notices) => match notices.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// An address as the life of workers knows it.
fn named(address: &Address) -> String {
    format!("{} {address}", address.protocol)
}
