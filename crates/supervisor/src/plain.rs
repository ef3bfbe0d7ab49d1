//! The supervisor: passes signals on, reports, and ends when the last process has ended. Workers are
//! answered beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::lifecycle::exit;
use sameport_policy::lifecycle::exit::{Exit, Leftovers};
use sameport_sys::process;
use sameport_sys::process::EndedChild;
use sameport_sys::process::signals::{ReceivedSignal, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::event::RunEvent;
use crate::interpose::kept::KeptSockets;
use crate::monitor::Monitor;
use crate::report::{Report, Reporter};
use crate::runtime::{STOPPING, far_future};
use crate::termination::{SIGTERM, Termination, descendants};

pub(crate) struct PlainSupervisor<'a> {
    watching: Monitor<'a>,
    copies: usize,
    /// First processes that have not ended, with the worker's ordinal.
    running: BTreeMap<i32, u16>,
    exits: Vec<Exit>,
    told_to_stop: bool,
    leftovers: Option<Termination>,
    beside: Reporter,
}

impl<'a> PlainSupervisor<'a> {
    pub(crate) fn new(
        running: BTreeMap<i32, u16>,
        beside: Reporter,
        bound: KeptSockets,
        tell: &'a mut dyn FnMut(RunEvent),
    ) -> Self {
        Self {
            watching: Monitor::new(beside.sender.clone(), bound, tell),
            copies: running.len(),
            running,
            exits: Vec::new(),
            told_to_stop: false,
            leftovers: None,
            beside,
        }
    }

    /// Stays until every process has ended. Gives the exit code.
    pub(crate) async fn serve(
        mut self,
        signals: &AsyncFd<SignalFd>,
        mut news: mpsc::Receiver<Report>,
    ) -> std::io::Result<u8> {
        loop {
            let wake = self.next_wake().map(|at| self.watching.moment(at));
            tokio::select! {
                biased;
                ready = signals.readable() => {
                    let mut ready = ready?;
                    match ready.get_inner().next()? {
                        None => ready.clear_ready(),
                        Some(ReceivedSignal::ForWorkers { number, from_terminal }) => {
                            self.pass_on(number, from_terminal);
                        }
                        Some(ReceivedSignal::Child) => {
                            while let Ok(item) = news.try_recv() {
                                self.watching.hear(item);
                            }
                            if !self.reap()? {
                                break;
                            }
                        }
                    }
                }
                Some(item) = news.recv() => self.watching.hear(item),
                () = tokio::time::sleep_until(wake.unwrap_or_else(far_future)), if wake.is_some() => {}
            }
            self.watching.attend();
            if !self.sweep() {
                break;
            }
        }
        self.beside.end();
        drop(self.beside);
        self.watching.finish(news).await;
        Ok(exit::code(&self.exits))
    }

    fn next_wake(&self) -> Option<Duration> {
        let sweep = self.leftovers.as_ref().map(Termination::next_sweep);
        [self.watching.next(), sweep].into_iter().flatten().min()
    }

    fn pass_on(&mut self, number: i32, from_terminal: bool) {
        let stopping = STOPPING.contains(&number);
        self.told_to_stop |= stopping;
        if !from_terminal {
            for pid in self.running.keys() {
                // A worker whose end is not reaped yet takes the signal in vain.
                let _ = process::signal(*pid, number);
            }
        }
        if stopping && self.running.is_empty() {
            self.end_leftovers(number);
        }
    }

    /// Whether any process is left.
    fn reap(&mut self) -> std::io::Result<bool> {
        let (ended, any_left) = process::reap()?;
        self.watching.attend_to_the_gone();
        let mut a_worker_ended = false;
        for EndedChild { pid, exit } in ended {
            let Some(ordinal) = self.running.remove(&pid) else { continue };
            a_worker_ended = true;
            self.exits.push(exit);
            let running = self.running.len();
            if self.copies > 1 && running > 0 && !self.told_to_stop {
                self.watching.tell(RunEvent::WorkerEnded { ordinal, pid, exit, running });
            }
        }
        if any_left && a_worker_ended && self.running.is_empty() {
            match exit::leftovers(&self.exits, self.told_to_stop) {
                Leftovers::End => self.end_leftovers(SIGTERM),
                Leftovers::KeepServing => {
                    self.watching.tell(RunEvent::DaemonsServe { pids: descendants() });
                }
            }
        }
        Ok(any_left)
    }

    fn end_leftovers(&mut self, signal: i32) {
        if self.leftovers.is_none() {
            self.watching.tell(RunEvent::EndingLeftovers { pids: descendants() });
        }
        self.leftovers = Some(Termination::new(signal, self.watching.now()));
        self.sweep();
    }

    /// `false` once processes that are to end have not even ended by SIGKILL.
    fn sweep(&mut self) -> bool {
        let now = self.watching.now();
        let stuck = self.leftovers.as_mut().is_some_and(|leaving| !leaving.sweep(now));
        if stuck {
            self.watching.tell(RunEvent::Unkillable { pids: descendants() });
        }
        !stuck
    }
}
