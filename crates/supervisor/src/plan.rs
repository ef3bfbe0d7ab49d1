//! The input of a run: the command, its interposer and its socket options.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use sameport_policy::addr::{AddrSpec, PortSpec};
use sameport_policy::lifecycle::LifecycleSettings;
use sameport_policy::lifecycle::QueueMode;
use sameport_policy::model::name::RunName;
use sameport_policy::readiness::HttpTarget;
use sameport_policy::seccomp::filter::IoUring;
use sameport_policy::stop_signal::StopSignal;
use sameport_policy::systemd::Activation;
use sameport_policy::traffic::TrafficPolicy;
use sameport_policy::watchdog::WatchdogVariables;
pub use sameport_sys::preload::ChildrenMode;

use crate::bind_options::BindOptions;
use crate::launch::LaunchOptions;

/// Name of the executable. A supervisor recognises another supervisor by it.
pub const PROGRAM: &str = "sameport";

/// Everything that a run needs to know before it starts.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// How the command is executed.
    pub launch: LaunchOptions,
    /// Number of workers.
    pub copies: u16,
    /// How the workers' binds are changed.
    pub bind_options: BindOptions,
    /// Which sockets the workers may share an address with.
    pub scope: SharingScope,
    /// Which worker gets a new connection.
    pub traffic: TrafficOptions,
    /// The input of the seccomp interposer.
    pub seccomp: SeccompOptions,
    /// The interposer, or `Auto`.
    pub interposer: InterposerChoice,
    /// The input of the preload interposer.
    pub preload: PreloadOptions,
    /// The environment variables that a run reads.
    pub environment: RunEnvironment,
    /// Where the standard output and error of the workers go.
    pub output: WorkerOutput,
    /// The options of a named run; `None` for a plain run.
    pub named: Option<NamedOptions>,
}

/// Where the standard output and error of workers go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WorkerOutput {
    /// To those of the supervisor, unchanged.
    #[default]
    Inherited,
    /// To this file (`--log`), an absolute path. A named run only.
    File(PathBuf),
    /// To the standard output of the supervisor, each line with the name of the run and the number of the
    /// worker in front (`--prefix`).
    Prefixed {
        /// Whether the prefix is coloured.
        color: bool,
    },
    /// To files that are rotated. A named run only.
    Kept(KeptLog),
}

/// The files with the output of a run in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// The directory of the run.
    pub directory: PathBuf,
    /// Size of a file in bytes.
    pub max_size: u64,
    /// Number of files, the present one included.
    pub files: u32,
}

impl WorkerOutput {
    /// Number of descriptors that the supervisor has open for a worker's output.
    pub(crate) fn descriptors_of_worker(&self) -> u64 {
        match self {
            Self::Inherited | Self::File(_) => 0,
            Self::Prefixed { .. } | Self::Kept(_) => 1,
        }
    }

    /// The file with the newest lines, if they are kept.
    #[must_use]
    pub fn log_file(&self) -> Option<PathBuf> {
        match self {
            Self::Inherited | Self::Prefixed { .. } => None,
            Self::File(path) => Some(path.clone()),
            Self::Kept(log) => Some(log.directory.join(sameport_sys::kept_log::CURRENT)),
        }
    }
}

/// Which worker gets a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficOptions {
    /// `--policy`; `None`: one that is ready, by the kernel's hash.
    pub policy: Option<PolicyChoice>,
    /// Whether a datagram of QUIC goes to the worker whose socket its connection id names
    /// (`--connection-id`).
    pub connection_ids: bool,
}

/// The input of the seccomp interposer.
#[derive(Debug, Clone, Copy)]
pub struct SeccompOptions {
    /// Whether workers may create io_uring instances, whose binds no interposer sees.
    pub io_uring: IoUring,
    /// Starts a program even if the filter takes away the privileges that its file grants.
    pub give_up_privileges: bool,
}

/// The input of the preload interposer.
#[derive(Debug, Clone)]
pub struct PreloadOptions {
    /// The bytes of the library, or why this build has none.
    pub library: Result<&'static [u8], &'static str>,
    /// Whether the library stays loaded in programs that a worker executes.
    pub children: ChildrenMode,
}

/// The environment variables that a run reads.
#[derive(Debug, Clone, Default)]
pub struct RunEnvironment {
    /// PATH of the workers, for a program without a slash in its name.
    pub search_path: Option<OsString>,
    /// XDG_RUNTIME_DIR.
    pub runtime_dir: Option<OsString>,
    /// LD_PRELOAD of the workers.
    pub ld_preload: Option<OsString>,
    /// NOTIFY_SOCKET, the socket of the service manager.
    pub notify_socket: Option<OsString>,
    /// The cgroup of the service that this process is, if a service manager started it (NOTIFY_SOCKET,
    /// SYSTEMD_EXEC_PID).
    pub service: Option<String>,
    /// WATCHDOG_USEC and WATCHDOG_PID: the watchdog of the service manager.
    pub watchdog: WatchdogVariables,
    /// LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES: sockets that the service manager passes.
    pub activation: Activation,
    /// Whether the supervisor was started in the background (SAMEPORT_DETACHED).
    pub detached: bool,
}

/// How a worker's bind is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterposerKind {
    /// A seccomp filter stops the call; the supervisor answers it. Linux 5.9.
    Seccomp,
    /// A library in the worker changes the call (LD_PRELOAD).
    Preload,
    /// eBPF programs of the worker's cgroup change the call. Root.
    Cgroup,
}

/// Which interposer a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterposerChoice {
    /// The first that works here, in this order: seccomp, preload, cgroup.
    Auto,
    /// This interposer or none.
    Only(InterposerKind),
}

/// The policy of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChoice {
    /// The best that this process can have: `two-choices` with eBPF, else `random`.
    Auto,
    /// This policy or none.
    Only(TrafficPolicy),
}

impl RunPlan {
    /// The file that the command executes; `None` if PATH has no such file.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        let directory = self.launch.directory.as_deref();
        let search_path = self.environment.search_path.as_deref();
        sameport_sys::process::find_in_path(self.command.first()?, search_path, directory)
    }
}

/// Which sockets the workers may share an address with.
#[derive(Debug, Clone)]
pub struct SharingScope {
    /// The group: its runs share, whatever their commands.
    pub group: Option<RunName>,
    /// Also share with sockets outside the group (`--join`).
    pub join: bool,
    /// Whether the kernel admits only this run's group to its addresses, not even root
    /// (`--private`).
    pub private: bool,
}

/// The options of a named run.
#[derive(Debug, Clone)]
pub struct NamedOptions {
    /// The name, by which control requests find the run.
    pub name: RunName,
    /// Restart, timeout and drain settings.
    pub settings: LifecycleSettings,
    /// The signal that tells a worker to end.
    pub stop_signal: StopSignal,
    /// When a worker counts as ready.
    pub ready: ReadyOptions,
    /// Whether the supervisor keeps listening sockets open, so that they outlive a worker.
    pub hold: bool,
    /// Whether workers have accept queues of their own.
    pub queue: QueueMode,
    /// Addresses that the supervisor opens and passes to every worker (`--listen`).
    pub listen: Vec<AddrSpec>,
    /// The working directory.
    pub directory: PathBuf,
    /// The supervisor's own command line, program name first: `reexec` executes it again.
    pub arguments: Vec<OsString>,
    /// The supervisor's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How the run begins.
    pub begin: RunBegin,
}

/// How a named run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunBegin {
    /// Starts workers. Those of a killed supervisor are replaced.
    Start,
    /// Continues the run of the program before `exec`, with the state in this descriptor
    /// (SAMEPORT_HANDOVER_FD).
    Resume(RawFd),
    /// Starts no worker, and ends those of a killed supervisor.
    Stop {
        /// Whether they get the stop signal at once.
        now: bool,
    },
}

impl NamedOptions {
    /// The descriptor of the handover state, after a `reexec`.
    pub(crate) fn handover_fd(&self) -> Option<RawFd> {
        match self.begin {
            RunBegin::Resume(fd) => Some(fd),
            RunBegin::Start | RunBegin::Stop { .. } => None,
        }
    }
}

/// When a worker counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyOptions {
    /// The check (`--ready`).
    pub check: ReadyCheck,
    /// Addresses that a worker must listen on before the check (`--expect`).
    pub expect: Vec<PortSpec>,
}

/// A check of a worker. Every check requires that the worker listens on the addresses of
/// its predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyCheck {
    /// No further check.
    Listens,
    /// The worker accepts a TCP connection.
    Tcp,
    /// The worker answers a GET with a status from 200 to 399.
    Http(HttpTarget),
    /// The worker sends READY=1 to NOTIFY_SOCKET.
    Notify,
    /// The command, run by `sh -c`, exits with status 0.
    Exec(OsString),
}
