//! A named run: workers with a life of their own. They are started again when they crash, replaced
//! when asked, and their listening sockets outlive them.
//!
//! `supervisor` carries out what `rules::life` orders; `held` has the sockets, of which `given` knows
//! those that were there before; `ready` asks workers whether they are; `status` says how things are,
//! and `service` tells the service manager.

pub(crate) mod service_manager;
pub(crate) mod status;
pub(crate) mod supervisor;

use std::path::Path;

use sameport_sys::process;
use sameport_sys::process::signals::SignalFd;
use sameport_sys::process::startup;
use sameport_sys::run_files::{NameClaim, folders};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::control::{RunInfo, client};
use crate::error::RunError;
use crate::event::RunEvent;
use crate::handover::HandoverState;
use crate::interpose::Interposer;
use crate::monitor::Monitor;
use crate::plan::{NamedOptions, RunPlan};
use crate::pool::SocketPool;
use crate::pool::inherited::InheritedSocket;
use crate::report::{REPORT_QUEUE, Report, Reporter};
use crate::runtime::watch;
use supervisor::Supervisor;

/// A named run whose workers have been started.
pub(crate) struct StartedNamed<'a> {
    supervisor: Supervisor<'a>,
    runtime: Runtime,
    signals: AsyncFd<SignalFd>,
    news: mpsc::Receiver<Report>,
}

/// Starts the workers of a named run, or goes on with those that this process has already. What the
/// run was given is taken if that succeeds.
pub(crate) fn start<'a>(
    plan: &'a RunPlan,
    named: &'a NamedOptions,
    mut interposer: Box<dyn Interposer>,
    given: &mut Vec<InheritedSocket>,
) -> Result<StartedNamed<'a>, RunError> {
    let manager = service_manager::manager(plan.environment.notify_socket.as_ref())?;
    let letter = named.handover_fd.map(HandoverState::read).transpose();
    let letter = letter.map_err(|error| RunError::System("go on with the run", error))?;
    if let Some(letter) = &letter {
        startup::adopt_state(&letter.inherited());
    }
    let signals = SignalFd::block().map_err(|error| RunError::System("signalfd", error))?;
    process::adopt_orphans().map_err(|errno| RunError::System("prctl", errno.into()))?;
    startup::raise_descriptor_limit();
    let (sender, news) = mpsc::channel(REPORT_QUEUE);
    let beside = Reporter::new(sender);
    interposer.start(&[], Vec::new(), beside.clone())?;
    let (runtime, signals) = watch(signals).map_err(|error| RunError::System("epoll", error))?;
    let context = runtime.enter();
    let telling = service_manager::ManagerReport::new(manager.clone());
    let with = supervisor::NamedParts { held: SocketPool::new(named.queue, manager), telling };
    let supervisor = match letter {
        Some(letter) => Supervisor::resume(plan, named, interposer, beside, letter, with)?,
        None => {
            with.held
                .adopt(given, named.settings.copies)
                .map_err(|errno| RunError::System("fcntl", errno.into()))?;
            let folder = plan.environment.runtime_dir.as_deref().map(Path::new);
            let claim =
                NameClaim::take(&named.name, &folders(folder)).map_err(RunError::ClaimName)?;
            let about = RunInfo {
                command: plan.command.clone(),
                directory: named.directory.clone().into(),
                since: client::now(),
            };
            Supervisor::start(plan, named, interposer, beside, claim, about, with)?
        }
    };
    drop(context);
    given.clear();
    Ok(StartedNamed { supervisor, runtime, signals, news })
}

impl StartedNamed<'_> {
    /// Stays until the run has ended, and gives its exit code.
    pub(crate) fn supervise(self, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
        let Self { supervisor, runtime, signals, news } = self;
        let watching = Monitor::new(supervisor.sender(), supervisor.bound(), tell);
        let watching = watching.since(supervisor.clock());
        let code = runtime.block_on(supervisor.serve(watching, &signals, news));
        drop(signals);
        runtime.shutdown_background();
        code.map_err(|error| RunError::System("supervise", error))
    }
}
