//! A plain run: each worker runs once. The supervisor passes signals on, and ends after the last
//! process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use sameport_policy::lifecycle::exit;
use sameport_policy::lifecycle::exit::{Exit, Leftovers};
use sameport_sys::process;
use sameport_sys::process::EndedChild;
use tokio::sync::mpsc::Receiver;

use crate::event::RunEvent;
use crate::event_loop::{Progress, Supervise};
use crate::interpose::Interposer;
use crate::monitor::Monitor;
use crate::output::{LAST_OUTPUT, OutputPipes};
use crate::report::{Report, Reporter};
use crate::runtime::STOPPING;
use crate::termination::{SIGTERM, Termination, descendants};
use crate::traffic::RunTraffic;
use crate::traffic::listens::OrderedListens;
use crate::traffic::outside::OutsidePorts;

const SIGHUP: i32 = 1;

pub(crate) struct PlainRun {
    interposer: Box<dyn Interposer>,
    reporter: Reporter,
    copies: usize,
    /// First processes that run, with the ordinal of their worker.
    running: BTreeMap<i32, u16>,
    exits: Vec<Exit>,
    /// Whether a signal asked the run to stop.
    stopping: bool,
    /// Ends the processes that outlived their worker.
    termination: Option<Termination>,
    listens: Option<WatchedListens>,
    /// The ports that eBPF steers.
    ports: Option<OutsidePorts>,
    output: OutputPipes,
}

/// The groups of a run with a policy, and the time of the next look for members that have left.
struct WatchedListens {
    groups: OrderedListens,
    next: Duration,
}

/// Interval of the look for members that have left.
const ROUND: Duration = Duration::from_secs(1);

impl PlainRun {
    pub(crate) fn new(
        interposer: Box<dyn Interposer>,
        reporter: Reporter,
        running: BTreeMap<i32, u16>,
        traffic: RunTraffic,
        output: OutputPipes,
    ) -> Self {
        let groups = interposer.ordered_listens();
        Self {
            ports: OutsidePorts::of(traffic),
            output,
            listens: groups.map(|groups| WatchedListens { groups, next: ROUND }),
            interposer,
            reporter,
            copies: running.len(),
            running,
            exits: Vec::new(),
            stopping: false,
            termination: None,
        }
    }

    fn end_leftovers(&mut self, signal: i32, monitor: &mut Monitor<'_>) {
        if self.termination.is_none() {
            monitor.tell(RunEvent::EndingLeftovers { pids: descendants() });
        }
        self.termination = Some(Termination::new(signal, monitor.now()));
        // `attend` sweeps again if processes survive SIGKILL.
        self.sweep(monitor);
    }

    /// Finds members that have left their groups, and reports where the policy is not in force.
    fn watch_listens(&mut self, at_once: bool, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        let Some(listens) = &mut self.listens else { return };
        if now >= listens.next || at_once {
            listens.groups.find_closed(&descendants());
            listens.next = monitor.now() + ROUND;
        }
        for (address, why) in listens.groups.take_failures() {
            monitor.tell(RunEvent::PolicyNotInForce { address, why });
        }
    }

    /// Takes sockets that have joined a port into its state.
    fn follow_ports(&mut self, monitor: &mut Monitor<'_>) {
        let joined = monitor.take_joined();
        let Some(ports) = &mut self.ports else { return };
        for port in joined {
            if let Some((address, why)) = ports.joined(port, &descendants()) {
                monitor.tell(RunEvent::PolicyNotInForce { address, why });
            }
        }
    }

    fn sweep(&mut self, monitor: &mut Monitor<'_>) -> Progress {
        let now = monitor.now();
        if self.termination.as_mut().is_none_or(|termination| termination.sweep(now)) {
            return Progress::Continues;
        }
        monitor.tell(RunEvent::Unkillable { pids: descendants() });
        Progress::Ended
    }
}

impl Supervise for PlainRun {
    type Input = Infallible;

    async fn input(&mut self) -> Infallible {
        std::future::pending().await
    }

    fn handle(&mut self, input: Infallible, _monitor: &mut Monitor<'_>) {
        match input {}
    }

    fn signalled(&mut self, number: i32, from_terminal: bool, monitor: &mut Monitor<'_>) {
        let stopping = STOPPING.contains(&number);
        self.stopping |= stopping;
        if !from_terminal {
            for pid in self.running.keys() {
                // A worker that ended and is not reaped ignores it.
                let _ = process::signal(*pid, number);
            }
        }
        if stopping && self.running.is_empty() {
            self.end_leftovers(number, monitor);
        }
    }

    /// Each copy decides about SIGHUP itself. Daemons have no terminal, and read it as a reload.
    fn hung_up(&mut self, from_terminal: bool, monitor: &mut Monitor<'_>) {
        self.stopping = true;
        match self.running.is_empty() {
            true => self.end_leftovers(SIGTERM, monitor),
            false => self.signalled(SIGHUP, from_terminal, monitor),
        }
    }

    fn reap(&mut self, monitor: &mut Monitor<'_>) -> io::Result<Progress> {
        let (ended, any_left) = process::reap()?;
        monitor.attend_to_the_gone();
        let mut a_worker_ended = false;
        for EndedChild { pid, exit } in ended {
            let Some(ordinal) = self.running.remove(&pid) else {
                self.output.child_ended(pid);
                continue;
            };
            a_worker_ended = true;
            self.exits.push(exit);
            let running = self.running.len();
            if self.copies > 1 && running > 0 && !self.stopping {
                monitor.tell(RunEvent::WorkerEnded { ordinal, pid, exit, running });
            }
        }
        if !any_left {
            return Ok(Progress::Ended);
        }
        if a_worker_ended {
            self.watch_listens(true, monitor);
        }
        if a_worker_ended && self.running.is_empty() {
            match exit::leftovers(&self.exits, self.stopping) {
                Leftovers::End => self.end_leftovers(SIGTERM, monitor),
                Leftovers::KeepServing => {
                    monitor.tell(RunEvent::DaemonsServe { pids: descendants() });
                }
            }
        }
        Ok(Progress::Continues)
    }

    fn next_wake(&self, _now: Duration) -> Option<Duration> {
        let sweep = self.termination.as_ref().map(Termination::next_sweep);
        sweep.into_iter().chain(self.listens.as_ref().map(|listens| listens.next)).min()
    }

    fn attend(&mut self, monitor: &mut Monitor<'_>) -> Progress {
        self.watch_listens(false, monitor);
        self.follow_ports(monitor);
        self.sweep(monitor)
    }

    async fn finish(self, monitor: Monitor<'_>, reports: Receiver<Report>) -> u8 {
        let Self { interposer, reporter, exits, ports, mut output, .. } = self;
        output.finish(LAST_OUTPUT);
        if let Some(ports) = ports {
            ports.finish();
        }
        reporter.end();
        drop(reporter);
        monitor.finish(reports).await;
        interposer.finish();
        exit::exit_code(&exits)
    }
}
