//! `up --watch`: applies the file of services, follows the output, and restarts services when a file changes.
//!
//! Each of these is a process of this program: `up`, `logs`, `restart`, `down`. This one waits for changes and
//! for Ctrl-C, and prints nothing itself.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_policy::services::ServiceFile;
use sameport_policy::services::watching::affected;
use sameport_supervisor::control::client::Client;
use sameport_sys::fd::poll::wait_any;
use sameport_sys::terminal::{TerminalSignal, TerminalSignals};

use crate::operations::runtime_dir::runtime_dir;
use crate::operations::up;
pub(crate) use tree::WatchError;
use tree::WatchedTree;

/// A change is followed by nothing for this long before it counts: an editor writes several files.
const QUIET: Duration = Duration::from_millis(100);

/// A change that is followed by others all the time counts after this long.
const MOST: Duration = Duration::from_secs(2);

/// Interval at which processes of this one are looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// What a watch is to do.
pub(crate) struct WatchOrder<'a> {
    /// The paths.
    pub(crate) paths: &'a [PathBuf],
    /// The services.
    pub(crate) file: ServiceFile,
    /// Reads the file again; `None`: it has an error, which the next `up` prints.
    pub(crate) read: &'a dyn Fn() -> Option<ServiceFile>,
    /// The arguments of `up` for the same file, with its services and options.
    pub(crate) up: Vec<OsString>,
    /// Receives each event.
    pub(crate) tell: &'a mut dyn FnMut(WatchEvent<'_>),
}

/// What happens during a watch.
#[derive(Debug)]
pub(crate) enum WatchEvent<'a> {
    /// These services restart, because of this file.
    Restarts(&'a BTreeSet<RunName>, &'a Path),
    /// The file of services has changed.
    Applies,
}

/// Watches until a signal ends it, and stops the services that it has started. Gives the exit code.
///
/// # Errors
///
/// See [`WatchError`]. Nothing was started.
pub(crate) fn run(order: WatchOrder<'_>) -> Result<u8, WatchError> {
    let signals =
        TerminalSignals::block().map_err(|error| WatchError::System("signalfd", error))?;
    let mut tree = WatchedTree::new()?;
    for path in order.paths {
        tree.add(path)?;
    }
    tree.add_file(&up::identity(&order.file.path))?;
    let program = std::env::current_exe().map_err(|error| WatchError::System("readlink", error))?;
    let client = Client::new(runtime_dir());
    let present: BTreeSet<RunName> = client.names().into_iter().collect();
    let mut watch = Watch {
        program,
        signals,
        present,
        started: BTreeSet::new(),
        restarts: BTreeSet::new(),
        applies: true,
        cause: PathBuf::new(),
        changed: None,
        working: Vec::new(),
        logs: BTreeMap::new(),
        order,
    };
    watch.serve(&mut tree)
}

/// The process that prints the output of a run.
struct FollowedOutput {
    /// The pid of the supervisor: of each run, one process follows the output.
    run: i32,
    child: Child,
}

struct Watch<'a> {
    program: PathBuf,
    signals: TerminalSignals,
    /// The runs from before.
    present: BTreeSet<RunName>,
    /// The services that this watch has started.
    started: BTreeSet<RunName>,
    /// The services that are to restart.
    restarts: BTreeSet<RunName>,
    /// Whether the file is to be applied.
    applies: bool,
    /// The file whose change was seen last.
    cause: PathBuf,
    /// The times of the first and of the last change that nothing has followed yet.
    changed: Option<(Instant, Instant)>,
    /// The processes of the change in progress.
    working: Vec<Child>,
    /// The processes that print the output of services.
    logs: BTreeMap<RunName, FollowedOutput>,
    order: WatchOrder<'a>,
}

impl Watch<'_> {
    fn serve(&mut self, tree: &mut WatchedTree) -> Result<u8, WatchError> {
        loop {
            self.advance()?;
            let wait = if self.is_busy() { INTERVAL } else { Duration::from_secs(1) };
            let ready = wait_any([tree.as_fd(), self.signals.as_fd()], wait);
            ready.map_err(|error| WatchError::System("poll", error))?;
            while let Ok(Some(signal)) = self.signals.next() {
                match signal {
                    TerminalSignal::Terminate(number) => {
                        self.finish();
                        return Ok(if number == 2 { 0 } else { 128_u8.saturating_add(number) });
                    }
                    // `stop` returns when the process is continued.
                    TerminalSignal::Stop => {
                        let stopped = self.signals.stop();
                        stopped.map_err(|error| WatchError::System("kill", error))?;
                    }
                    TerminalSignal::Continue | TerminalSignal::Resize => {}
                }
            }
            for path in tree.changed()? {
                self.take(path);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.applies
            || self.changed.is_some()
            || !self.restarts.is_empty()
            || !self.working.is_empty()
    }

    /// A file has changed.
    fn take(&mut self, path: PathBuf) {
        let now = Instant::now();
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
        if path == up::identity(&self.order.file.path) {
            self.applies = true;
        } else {
            let services = &self.order.file.services;
            let directories = services.iter().map(|it| (&it.name, it.directory.as_path()));
            self.restarts.extend(affected(&path, directories));
        }
        self.cause = path;
    }

    /// Begins what is due, when nothing is in progress.
    fn advance(&mut self) -> Result<(), WatchError> {
        self.working.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if !self.working.is_empty() {
            return Ok(());
        }
        self.follow_output();
        if let Some((first, last)) = self.changed {
            if last.elapsed() < QUIET && first.elapsed() < MOST {
                return Ok(());
            }
            self.changed = None;
        }
        if std::mem::take(&mut self.applies) {
            if let Some(file) = (self.order.read)() {
                self.order.file = file;
                let names = self.order.file.services.iter().map(|service| &service.name);
                let new = names.filter(|name| !self.present.contains(*name)).cloned();
                self.started.extend(new);
            }
            (self.order.tell)(WatchEvent::Applies);
            let arguments = self.order.up.clone();
            let child = self.start(&arguments)?;
            self.working.push(child);
            return Ok(());
        }
        let restarts = std::mem::take(&mut self.restarts);
        if !restarts.is_empty() {
            (self.order.tell)(WatchEvent::Restarts(&restarts, &self.cause));
        }
        for name in restarts {
            let child = self.start(&["restart".into(), name.as_str().into()])?;
            self.working.push(child);
        }
        Ok(())
    }

    /// Follows the output of every service whose output is not followed yet.
    fn follow_output(&mut self) {
        let client = Client::new(runtime_dir());
        let names: Vec<RunName> =
            self.order.file.services.iter().map(|it| it.name.clone()).collect();
        for name in names {
            let Ok(status) = client.status(&name) else { continue };
            if self.logs.get(&name).is_some_and(|followed| followed.run == status.pid) {
                continue;
            }
            let words = ["logs", name.as_str(), "-f"].map(OsString::from);
            if let Ok(child) = self.start(&words) {
                let followed = FollowedOutput { run: status.pid, child };
                if let Some(before) = self.logs.insert(name, followed) {
                    end(before.child);
                }
            }
        }
    }

    fn start(&self, arguments: &[OsString]) -> Result<Child, WatchError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        self.signals.let_start(&mut command);
        command.spawn().map_err(|error| WatchError::System("execve", error))
    }

    /// Stops the services that this watch has started, and ends its processes.
    fn finish(&mut self) {
        // A change that has begun goes on without its process.
        std::mem::take(&mut self.working).into_iter().for_each(end);
        let started: Vec<OsString> = self
            .started
            .iter()
            .filter(|name| Client::new(runtime_dir()).status(name).is_ok())
            .map(|name| name.as_str().into())
            .collect();
        if !started.is_empty() {
            let file = self.order.file.path.clone();
            let mut words: Vec<OsString> = vec!["down".into(), "-f".into(), file.into()];
            words.extend(started);
            if let Ok(mut child) = self.start(&words) {
                let _ = child.wait();
            }
        }
        std::mem::take(&mut self.logs).into_values().for_each(|followed| end(followed.child));
    }
}

/// Ends a process that only prints.
fn end(mut child: Child) {
    // It may have ended.
    let _ = child.kill();
    let _ = child.wait();
}
