//! Starts the workers, and supervises them to their end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use sameport_sys::process;
use sameport_sys::process::signals::SignalFd;
use sameport_sys::process::startup;
use sameport_sys::process::{SpawnOptions, SpawnedWorker, StartError};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::error::RunError;
use crate::event::RunEvent;
use crate::event_loop;
use crate::handover::HandoverState;
use crate::interpose::Interposer;
use crate::interpose::kept::KeptSockets;
use crate::monitor::Monitor;
use crate::named::NamedRun;
use crate::orphans::Orphans;
use crate::output::{OutputPipes, WorkerStreams};
use crate::plain::PlainRun;
use crate::plan::{NamedOptions, RunPlan};
use crate::pool::inherited::InheritedSocket;
use crate::report::{REPORT_QUEUE, Report, Reporter};
use crate::runtime::{end_at_once, watch};
use crate::service_manager;
use crate::service_manager::WatchdogReport;
use crate::traffic::RunTraffic;

/// Workers that run, and what the event loop needs.
pub(crate) struct StartedRun<'a> {
    run: Run<'a>,
    kept: KeptSockets,
    /// The clock at the start of this program; not zero after a `reexec`.
    clock: Duration,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    runtime: Runtime,
    signals: AsyncFd<SignalFd>,
    watchdog: WatchdogReport,
}

enum Run<'a> {
    Plain(Box<PlainRun>),
    Named(Box<NamedRun<'a>>),
}

impl<'a> StartedRun<'a> {
    /// Starts the workers, or continues with those of the previous program. On failure, the workers
    /// that were started have been ended. Takes `inherited` on success, and `orphans`, the workers
    /// of a killed supervisor.
    pub(crate) fn start(
        plan: &'a RunPlan,
        interposer: Box<dyn Interposer>,
        inherited: &mut Vec<InheritedSocket>,
        orphans: &mut Option<Orphans>,
    ) -> Result<Self, RunError> {
        match &plan.named {
            None => start_plain(plan, interposer),
            Some(options) => {
                let started = start_named(plan, options, interposer, inherited, orphans.as_ref())?;
                // A second duplicate would keep a socket in its group after the pool has closed it.
                *orphans = None;
                inherited.clear();
                Ok(started)
            }
        }
    }

    /// Supervises the run to its end, and gives the exit code. `runtime_dir`: see `run_files::runtime_dir`.
    pub(crate) fn supervise(
        self,
        runtime_dir: Option<OsString>,
        tell: &mut dyn FnMut(RunEvent),
    ) -> Result<u8, RunError> {
        let Self { run, kept, clock, sender, reports, runtime, signals, watchdog } = self;
        let monitor = Monitor::new(sender, kept, runtime_dir, tell).since(clock);
        let code = match run {
            Run::Plain(run) => {
                let serve = event_loop::serve(*run, monitor, watchdog, &signals, reports);
                runtime.block_on(serve)
            }
            Run::Named(mut run) => {
                run.begin();
                let serve = event_loop::serve(*run, monitor, watchdog, &signals, reports);
                runtime.block_on(serve)
            }
        };
        drop(signals);
        // Does not wait for a running inspection.
        runtime.shutdown_background();
        code.map_err(|error| RunError::System("supervise", error))
    }
}

/// Blocks the signals that the supervisor handles, and makes orphaned descendants its children.
fn prepare(plan: &RunPlan) -> Result<SignalFd, RunError> {
    /// Descriptors of the supervisor itself, and of calls that are being answered.
    const OWN: u64 = 64;
    // A listener of calls and a pidfd; in a named run a duplicate of the listener and a held socket too.
    let each = if plan.named.is_some() { 4 } else { 2 };
    let each = each + plan.output.descriptors_of_worker();
    startup::raise_descriptor_limit();
    let (needed, limit) = (OWN + each * u64::from(plan.copies), startup::descriptor_limit());
    if limit < needed {
        return Err(RunError::DescriptorLimit { copies: plan.copies, needed, limit });
    }
    let signals = SignalFd::block().map_err(|error| RunError::System("signalfd", error))?;
    process::adopt_orphans().map_err(|errno| RunError::System("prctl", errno.into()))?;
    Ok(signals)
}

fn start_plain<'a>(
    plan: &RunPlan,
    mut interposer: Box<dyn Interposer>,
) -> Result<StartedRun<'a>, RunError> {
    let traffic = RunTraffic::of(plan)?;
    let watchdog = WatchdogReport::new(plan)?;
    let signals = prepare(plan)?;
    let mut output = OutputPipes::start(plan)?;
    let mut running = BTreeMap::new();
    let mut listeners = Vec::new();
    for ordinal in 1..=plan.copies {
        let mut options = interposer.spawn_options(ordinal);
        plan.launch.apply(&mut options);
        match spawn_plain(plan, options, &mut output, ordinal) {
            Ok(started) => {
                running.insert(started.pid, ordinal);
                listeners.extend(started.listener);
            }
            Err(error) => {
                end_at_once(running.into_keys());
                return Err(RunError::Start(error));
            }
        }
    }
    let (sender, reports) = mpsc::channel(REPORT_QUEUE);
    let reporter = Reporter::new(sender.clone());
    let pids: Vec<i32> = running.keys().copied().collect();
    let attended = interposer.start(&pids, listeners, reporter.clone());
    interposer.no_more_workers();
    match attended.and_then(|()| watch(signals).map_err(|error| RunError::System("epoll", error))) {
        Ok((runtime, signals)) => {
            let kept = interposer.kept_sockets();
            let run =
                Run::Plain(Box::new(PlainRun::new(interposer, reporter, running, traffic, output)));
            let clock = Duration::ZERO;
            Ok(StartedRun { run, kept, clock, sender, reports, runtime, signals, watchdog })
        }
        Err(error) => {
            reporter.end();
            end_at_once(running.into_keys());
            Err(error)
        }
    }
}

fn spawn_plain(
    plan: &RunPlan,
    options: SpawnOptions<'_>,
    output: &mut OutputPipes,
    ordinal: u16,
) -> Result<SpawnedWorker, StartError> {
    let streams = output.open(ordinal.into(), ordinal).map_err(StartError::Fork)?;
    let output = streams.as_ref().map(WorkerStreams::borrowed);
    process::spawn(&plan.command, &SpawnOptions { output, ..options })
}

fn start_named<'a>(
    plan: &'a RunPlan,
    options: &'a NamedOptions,
    mut interposer: Box<dyn Interposer>,
    inherited: &[InheritedSocket],
    orphans: Option<&Orphans>,
) -> Result<StartedRun<'a>, RunError> {
    let manager = service_manager::connect(plan.environment.notify_socket.as_ref())?;
    let watchdog = WatchdogReport::new(plan)?;
    let handover = options.handover_fd().map(HandoverState::read).transpose();
    let handover = handover.map_err(|error| RunError::System("go on with the run", error))?;
    if let Some(handover) = &handover {
        startup::adopt_state(&handover.startup_state());
    }
    let signals = prepare(plan)?;
    let (sender, reports) = mpsc::channel(REPORT_QUEUE);
    let reporter = Reporter::new(sender.clone());
    interposer.start(&[], Vec::new(), reporter.clone())?;
    let (runtime, signals) = watch(signals).map_err(|error| RunError::System("epoll", error))?;
    let context = runtime.enter();
    let kept = interposer.kept_sockets();
    let clock = handover.as_ref().map_or(Duration::ZERO, |handover| handover.clock);
    let run = match handover {
        Some(handover) => NamedRun::resume(plan, options, interposer, reporter, manager, handover)?,
        None => NamedRun::start(plan, options, interposer, reporter, manager, inherited, orphans)?,
    };
    drop(context);
    let run = Run::Named(Box::new(run));
    Ok(StartedRun { run, kept, clock, sender, reports, runtime, signals, watchdog })
}
