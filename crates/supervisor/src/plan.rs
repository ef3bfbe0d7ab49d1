//! What a run is started with: the command, its interposer and its socket options.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use sameport_policy::addr::AddrSpec;
use sameport_policy::lifecycle::LifecycleSettings;
use sameport_policy::lifecycle::slots::QueueMode;
use sameport_policy::model::name::RunName;
use sameport_policy::seccomp::filter::IoUring;
use sameport_policy::systemd::Activation;
pub use sameport_sys::preload::ChildPolicy;

use crate::bind_options::BindOptions;

/// Name of the executable; a supervisor recognises another one by it.
pub const PROGRAM: &str = "sameport";

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// How many copies.
    pub copies: u16,
    /// What is wanted of their sockets.
    pub bind_options: BindOptions,
    /// With whom they share.
    pub scope: SharingScope,
    /// Whether the kernel is to let nobody join but those who belong to this run, root included.
    pub private: bool,
    /// Whether workers may create io_uring rings, whose binds nobody sees.
    pub io_uring: IoUring,
    /// Start a program even if it loses the privileges that its file grants.
    pub give_up_privileges: bool,
    /// How its binds are reached.
    pub interposer: InterposerChoice,
    /// Whether a preload library reaches what the command executes.
    pub child_policy: ChildPolicy,
    /// Where to seek a program that is named without a slash.
    pub search_path: Option<OsString>,
    /// What of our environment matters.
    pub environment: RunEnvironment,
    /// What makes it a named run, if it is one.
    pub named: Option<NamedOptions>,
}

/// Variables of ours that matter.
#[derive(Debug, Clone, Default)]
pub struct RunEnvironment {
    /// XDG_RUNTIME_DIR.
    pub runtime_dir: Option<OsString>,
    /// LD_PRELOAD.
    pub ld_preload: Option<OsString>,
    /// NOTIFY_SOCKET, where a service manager wants to hear of us.
    pub notify_socket: Option<OsString>,
    /// The sockets that it has passed on.
    pub activation: Activation,
}

/// An interposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterposerKind {
    Seccomp,
    Preload,
    Cgroup,
}

/// Which interposer to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterposerChoice {
    /// The first that can: seccomp, preload, cgroup.
    Auto,
    /// This one.
    Only(InterposerKind),
}

impl RunPlan {
    /// The file that will be executed, if it can be told.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        sameport_sys::process::locate(self.command.first()?, self.search_path.as_deref())
    }
}

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct SharingScope {
    /// Whose workers share with ours, whatever the command.
    pub group: Option<RunName>,
    /// Whether strangers are joined, too.
    pub join: bool,
    /// Reads a command line; `None` if it is not that of a `run`.
    pub parse_run_line: fn(&[OsString]) -> Option<RunLine>,
}

/// What of a command line of `run` matters to others.
#[derive(Debug)]
pub struct RunLine {
    pub name: Option<RunName>,
    pub group: Option<RunName>,
    pub command: Vec<OsString>,
}

/// What makes a run a named one.
#[derive(Debug, Clone)]
pub struct NamedOptions {
    /// By which it is asked for.
    pub name: RunName,
    pub settings: LifecycleSettings,
    pub ready: ReadyCheck,
    /// Whether listening sockets outlive workers.
    pub hold: bool,
    pub queue: QueueMode,
    /// What workers find open when they start.
    pub listen: Vec<AddrSpec>,
    /// Where we are.
    pub directory: PathBuf,
    /// What we were started with, our own name first: the next program in our place is, too.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// What an earlier program in this process left for us.
    pub handover_fd: Option<RawFd>,
}

/// How a worker says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyCheck {
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
