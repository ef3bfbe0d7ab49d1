//! The processes of workers: starting them, asking them, signals to them, their ends.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_sys::process;
use sameport_sys::process::{EndedChild, ListenFds, SpawnOptions, StartError};
use sameport_sys::seccomp::NotifyListener;

use super::{FirstProcess, OrphanedProcesses, Supervisor, named};
use crate::event::RunEvent;
use crate::monitor::Monitor;
use crate::plan::ReadyCheck;
use crate::pool::{WorkerSockets, inherited};
use crate::readiness;
use crate::readiness::CheckCommand;
use crate::termination::{SIGTERM, Termination};
use crate::{handover, processes};

impl Supervisor<'_> {
    pub(crate) fn start_worker(
        &mut self,
        start: InstanceId,
        ordinal: u16,
        command: usize,
        predecessor: Option<InstanceId>,
    ) -> Result<(), StartError> {
        let command = &self.commands[command];
        let mut setting: SpawnOptions<'_> = self.interposer.spawn_options();
        setting.own_group = true;
        let variables = [
            (processes::NAME, self.named.name.as_str().to_owned()),
            ("SAMEPORT_WORKER", ordinal.to_string()),
            (processes::START, start.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.into(), Some(value.into())));
        setting.environment.extend(variables);
        // Ours is not the workers' to write to.
        let notify = self.notices.as_ref().map(|notices| notices.get_ref().name().to_owned());
        setting.environment.push(("NOTIFY_SOCKET".into(), notify));
        setting.environment.push((handover::HANDOVER_FD.into(), None));
        self.held.begin(start, predecessor);
        let passed = self.held.pass_to(start).map_err(|errno| StartError::Fork(errno.into()))?;
        setting.environment.extend(inherited::variables(passed.len()));
        if !passed.is_empty() {
            let sockets = passed.iter().map(AsFd::as_fd).collect();
            let environment = self.named.environment.clone();
            setting.listen_fds = Some(ListenFds { sockets, environment });
        }
        let worker = process::spawn(command, &setting)?;
        drop(setting);
        let process = FirstProcess { pid: worker.pid, ordinal, detached: false };
        self.processes.insert(start, process);
        if let Some(listener) = worker.listener {
            self.attend_to(start, listener).map_err(StartError::Fork)?;
        }
        Ok(())
    }

    /// Has a worker's calls answered.
    pub(crate) fn attend_to(
        &mut self,
        start: InstanceId,
        listener: NotifyListener,
    ) -> io::Result<()> {
        self.listeners.insert(start, listener.duplicate()?);
        let held = self.named.hold.then(|| WorkerSockets::new(self.held.clone(), start));
        self.interposer.answer_worker(listener, held)
    }

    pub(crate) fn take_notices(&mut self, now: Duration) {
        let Some(notices) = &mut self.notices else { return };
        for notice in notices.get_mut().take() {
            let from = |process: &FirstProcess| notice.ancestry.contains(&process.pid);
            let sender = self.processes.iter().find(|(_, process)| from(process));
            if let Some((start, _)) = sender.filter(|_| notice.state.ready) {
                self.notified.insert(*start);
            }
        }
        let ready: Vec<InstanceId> =
            self.asked_to_notify.intersection(&self.notified).copied().collect();
        for start in ready {
            self.asked_to_notify.remove(&start);
            let orders = self.life.ready(start, now);
            self.obey(orders, now);
        }
    }

    /// Asks a worker whether it is ready, until it is or it has ended.
    pub(crate) fn probe(&mut self, start: InstanceId) {
        if self.named.ready == ReadyCheck::Notify {
            self.asked_to_notify.insert(start);
            return;
        }
        let probe = readiness::ReadinessProbe {
            start,
            ready: self.named.ready.clone(),
            held: self.held.clone(),
            pid: self.processes.get(&start).map_or(0, |process| process.pid),
            checks: self.checking.0.clone(),
        };
        let probed = self.probed.0.clone();
        let asking = tokio::spawn(async move {
            probe.until_ready().await;
            // Nobody waits for it any more when the run ends.
            let _ = probed.send(start).await;
        });
        self.probes.insert(start, asking);
    }

    /// Runs a command that says whether a worker is ready.
    pub(crate) fn check(&mut self, check: CheckCommand) {
        let CheckCommand { command, pid, answer } = check;
        let mut setting = SpawnOptions {
            own_group: true,
            drop_chown: self.plan.private,
            ..SpawnOptions::default()
        };
        setting.environment.push(("SAMEPORT_PID".into(), Some(pid.to_string().into())));
        // One that cannot be started says no, by nobody answering.
        if let Ok(shell) = process::spawn(&["sh".into(), "-c".into(), command], &setting) {
            self.checks.insert(shell.pid, answer);
        }
    }

    /// Every process of this start that lives.
    pub(crate) fn processes_of(&self, start: InstanceId) -> Vec<i32> {
        let first = self.processes.get(&start).map_or(0, |process| process.pid);
        let mut pids = processes::of(start, first, &self.held.own(start));
        let known = self.daemons.get(&start).into_iter().flatten();
        let missed =
            known.copied().filter(|pid| !pids.contains(pid) && process::is_descendant(*pid));
        pids.extend(missed.collect::<Vec<_>>());
        pids
    }

    /// Daemons of which nothing tells whose they are, or tells only by now that they are this start's,
    /// which has just ended.
    pub(crate) fn of_nobody_but(&self, start: InstanceId) -> Vec<i32> {
        let mut pids = processes::strays();
        pids.retain(|pid| {
            let is_first = self.processes.values().any(|process| process.pid == *pid);
            let is_known = self.daemons.values().any(|daemons| daemons.contains(pid));
            !is_first && !is_known && !self.checks.contains_key(pid)
        });
        for other in self.processes.keys().filter(|other| **other != start) {
            let theirs = self.processes_of(*other);
            pids.retain(|pid| !theirs.contains(pid));
        }
        pids
    }

    /// To the first process; to everybody, where it has left daemons behind.
    pub(crate) fn signal(&self, start: InstanceId, number: i32) {
        let Some(process) = self.processes.get(&start) else { return };
        let pids = match process.detached {
            true => self.processes_of(start),
            false => vec![process.pid],
        };
        for pid in pids {
            // One whose end is not reaped yet takes it in vain.
            let _ = process::signal(pid, number);
        }
    }

    pub(crate) fn reap(&mut self, now: Duration, watching: &mut Monitor<'_>) -> io::Result<()> {
        let (ended, _) = process::reap()?;
        watching.attend_to_the_gone();
        for EndedChild { pid, exit } in ended {
            if let Some(answer) = self.checks.remove(&pid) {
                // It may have taken too long for whoever asked.
                let _ = answer.send(exit == Exit::Code(0));
                continue;
            }
            let known = self.processes.iter().find(|(_, process)| process.pid == pid);
            let Some((start, process)) = known.map(|(start, process)| (*start, *process)) else {
                continue;
            };
            let mut left = processes::of(start, pid, &self.held.own(start));
            let told = self.draining.contains_key(&start) || self.life.is_leaving(start);
            if exit == Exit::Code(0) && !told && left.is_empty() {
                left = self.of_nobody_but(start);
            }
            if exit == Exit::Code(0) && !told && !left.is_empty() {
                self.daemons.insert(start, left.clone());
                self.processes.insert(start, FirstProcess { detached: true, ..process });
                self.untold.push(RunEvent::Detached {
                    ordinal: process.ordinal,
                    pid,
                    remaining: left,
                });
                continue;
            }
            if !left.is_empty() {
                self.untold.push(RunEvent::EndingLeftovers { pids: left.clone() });
                let leaving = Termination::new(SIGTERM, now);
                self.orphans.insert(start, OrphanedProcesses { first: pid, left, leaving });
            }
            self.gone(start, exit, now);
        }
        Ok(())
    }

    pub(crate) fn gone(&mut self, start: InstanceId, exit: Exit, now: Duration) {
        self.draining.remove(&start);
        if let Some(asking) = self.probes.remove(&start) {
            asking.abort();
        }
        self.notified.remove(&start);
        self.asked_to_notify.remove(&start);
        // What it did last may not have been heard yet.
        for (start, address) in self.held.take_listens() {
            let orders = self.life.listening(start, named(&address), now);
            self.obey(orders, now);
        }
        self.held.ended(start);
        self.daemons.remove(&start);
        let orders = self.life.exited(start, exit, now);
        self.obey(orders, now);
        self.processes.remove(&start);
        self.listeners.remove(&start);
        self.write_record();
    }
}
