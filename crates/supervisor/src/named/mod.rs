//! A named run: workers with a life of their own. They are started again when they crash, replaced
//! when asked, and their listening sockets outlive them.
//!
//! `supervisor` carries out what `rules::life` orders; `held` has the sockets, of which `given` knows
//! those that were there before; `ready` asks workers whether they are; `status` says how things are,
//! and `service` tells the service manager.

pub(crate) mod service_manager;
pub(crate) mod status;
pub(crate) mod supervisor;

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use sameport_policy::addr::addr_spec::Wanted;
use sameport_policy::lifecycle::Settings;
use sameport_policy::lifecycle::slots::Queue;
use sameport_policy::model::name::Name;
use sameport_sys::process;
use sameport_sys::process::signals::Signals;
use sameport_sys::process::startup;
use sameport_sys::run_files::{Claim, folders};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::handover::Letter;
use super::interpose::{Beside, Interposer};
use super::monitor::{News, Watching};
use super::pool::Held;
pub use super::pool::inherited::GivenError;
pub(crate) use super::pool::inherited::{Given, gather, refuse};
pub(crate) use super::pool::{Bound, Caller, Holding};
pub(crate) use super::processes::NAME;
use super::{Error, Event, Plan, start};
use crate::control::{About, client};
use supervisor::Supervisor;

/// What makes a run a named one.
#[derive(Debug, Clone)]
pub struct Named {
    /// By which it is asked for.
    pub name: Name,
    pub settings: Settings,
    pub ready: Ready,
    /// Whether listening sockets outlive workers.
    pub hold: bool,
    pub queue: Queue,
    /// What workers find open when they start.
    pub listen: Vec<Wanted>,
    /// Where we are.
    pub directory: PathBuf,
    /// What we were started with, our own name first: the next program in our place is, too.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// What an earlier program in this process left for us.
    pub letter: Option<RawFd>,
}

/// How a worker says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It listens on what the one before it listened on.
    Listens,
    /// And it accepts a connection.
    Tcp,
    /// And it answers a GET of this path with a status from 200 to 399.
    Http(String),
    /// And it has sent READY=1 to NOTIFY_SOCKET.
    Notify,
    /// And this command, given to `sh -c`, ends with 0.
    Exec(OsString),
}

/// A named run whose workers have been started.
pub(crate) struct Started<'a> {
    supervisor: Supervisor<'a>,
    runtime: Runtime,
    signals: AsyncFd<Signals>,
    news: mpsc::Receiver<News>,
}

/// Starts the workers of a named run, or goes on with those that this process has already. What the
/// run was given is taken if that succeeds.
pub(crate) fn start<'a>(
    plan: &'a Plan,
    named: &'a Named,
    mut interposer: Interposer,
    given: &mut Vec<Given>,
) -> Result<Started<'a>, Error> {
    let manager = service_manager::manager(plan.environment.notify_socket.as_ref())?;
    let letter = named.letter.map(Letter::read).transpose();
    let letter = letter.map_err(|error| Error::System("go on with the run", error))?;
    if let Some(letter) = &letter {
        startup::take_over(&letter.inherited());
    }
    let signals = Signals::block().map_err(|error| Error::System("signalfd", error))?;
    process::adopt_orphans().map_err(|errno| Error::System("prctl", errno.into()))?;
    startup::raise_descriptor_limit();
    let (sender, news) = mpsc::channel(start::NEWS);
    let beside = Beside::new(sender);
    interposer.attend(Vec::new(), Vec::new(), beside.clone())?;
    let (runtime, signals) =
        start::watch(signals).map_err(|error| Error::System("epoll", error))?;
    let context = runtime.enter();
    let telling = service_manager::Telling::new(manager.clone());
    let with = supervisor::With { held: Held::new(named.queue, manager), telling };
    let supervisor = match letter {
        Some(letter) => Supervisor::resume(plan, named, interposer, beside, letter, with)?,
        None => {
            with.held
                .adopt(given, named.settings.copies)
                .map_err(|errno| Error::System("fcntl", errno.into()))?;
            let folder = plan.environment.runtime_folder.as_deref().map(Path::new);
            let claim = Claim::take(&named.name, &folders(folder)).map_err(Error::Name)?;
            let about = About {
                command: plan.command.clone(),
                directory: named.directory.clone().into(),
                since: client::now(),
            };
            Supervisor::start(plan, named, interposer, beside, claim, about, with)?
        }
    };
    drop(context);
    given.clear();
    Ok(Started { supervisor, runtime, signals, news })
}

impl Started<'_> {
    /// Stays until the run has ended, and gives its exit code.
    pub(crate) fn supervise(self, tell: &mut dyn FnMut(Event)) -> Result<u8, Error> {
        let Self { supervisor, runtime, signals, news } = self;
        let watching = Watching::new(supervisor.sender(), supervisor.bound(), tell);
        let watching = watching.since(supervisor.clock());
        let code = runtime.block_on(supervisor.serve(watching, &signals, news));
        drop(signals);
        runtime.shutdown_background();
        code.map_err(|error| Error::System("supervise", error))
    }
}
