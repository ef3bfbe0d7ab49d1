//! `run`: workers whose binds are made shareable, or moved; what came of it reported.
//!
//! An interposer reaches the binds: `seccomp`, which `asking` answers and `outcome` follows, `preload`
//! or `cgroup`. The `supervisor` lives from the first worker's start to the last process's end, which `leftovers`
//! sees to.

#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "fields whose names say all")]

mod bind_options;
pub mod conflict;
mod conflict_report;
pub mod control;
mod group_check;
mod handover;
mod interpose;
mod monitor;
mod named;
mod plain;
mod pool;
mod private_group;
mod processes;
mod readiness;
mod start;
mod termination;

pub use handover::LETTER;

/// The name of the executable, by which a supervisor recognises another one.
pub const PROGRAM: &str = "sameport";

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use sameport_policy::bind::map::MapRule;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::socket::{Address, Member};
use sameport_policy::refusal::Refusal;
use sameport_policy::seccomp::filter::IoUring;
use sameport_policy::systemd::Activation;
use sameport_sys::bpf::cgroup_bind::{AttachError, CgroupError};
pub use sameport_sys::preload::ChildPolicy;
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{FileCapability, StartError};
use sameport_sys::run_files::ClaimError;
use sameport_sys::seccomp::InstallStage;
use sameport_sys::{Errno, PrivateDirError};

use crate::named::InheritedSocket;
use conflict::is_local;
use control::protocol::WorkerUpdate;

pub use bind_options::{BindOptions, UnusedOption};
pub use group_check::{RunLine, SharingScope};
pub use named::{InheritError, NamedOptions, ReadyCheck};
pub use private_group::{PrivateGroupError, PrivateSocketError};

use bind_options::OptionUsage;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// How many copies.
    pub copies: u16,
    /// What is wanted of their sockets.
    pub wishes: BindOptions,
    /// With whom they share.
    pub together: SharingScope,
    /// Whether the kernel is to let nobody join but those who belong to this run, root included.
    pub private: bool,
    /// Whether workers may create io_uring rings, whose binds nobody sees.
    pub io_uring: IoUring,
    /// Start a program even if it loses the privileges that its file grants.
    pub give_up_privileges: bool,
    /// How its binds are reached.
    pub choice: InterposerChoice,
    /// Whether a preload library reaches what the command executes.
    pub children: ChildPolicy,
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
    pub runtime_folder: Option<OsString>,
    /// LD_PRELOAD.
    pub preloaded: Option<OsString>,
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
    fn locate(&self) -> Option<PathBuf> {
        sameport_sys::process::locate(self.command.first()?, self.search_path.as_deref())
    }
}

/// Something the user may want to know while the workers run.
#[derive(Debug)]
pub enum RunEvent {
    /// A worker joined this address, on which these members are now: several, or one that meets
    /// another address.
    Shared {
        address: Address,
        members: Vec<Member>,
        /// `(wider, narrower)`: the second takes traffic that the first could have had.
        shadowed: Vec<(Member, Member)>,
    },
    /// The kernel refused a worker this address.
    Refused { address: Address, refusal: Refusal },
    /// A worker's sockets cannot be reached, so its binds go on unshared.
    OutOfReach { tid: i32, why: OutOfReach },
    /// What is on the port could not be looked at.
    CouldNotLook { address: Address, why: String },
    /// So many binds came at once that what became of these is not known.
    Unfollowed { count: usize },
    /// A worker's first process ended while others run.
    WorkerEnded { ordinal: u16, pid: i32, exit: Exit, running: usize },
    /// Every first process ended well, and these processes live on.
    DaemonsServe { pids: Vec<i32> },
    /// Processes that outlived their worker are told to end.
    EndingLeftovers { pids: Vec<i32> },
    /// Something about a rule that needs saying once.
    Remark(Remark),
    /// This interposer was taken, because the ones before it could not.
    Took { via: InterposerKind, passed: Vec<(InterposerKind, RunError)> },
    /// A wish that nothing came of in the whole run.
    Unused(UnusedOption),
    /// A worker of a named run changed its state.
    Worker(WorkerUpdate),
    /// A worker of a named run could not be started again.
    NotStarted { ordinal: u16, error: StartError },
    /// The first process of a worker of a named run ended with 0, and these live on.
    Detached { ordinal: u16, pid: i32, left: Vec<i32> },
    /// A worker of a named run does not accept what waits for it.
    NotAccepting { ordinal: u16, pid: i32, waiting: u32 },
    /// A worker of a named run has closed what it, and whoever comes after it, is to listen on.
    Closed { ordinal: u16, pid: i32, address: Address },
    /// They do not even end by SIGKILL.
    Unkillable { pids: Vec<i32> },
}

/// What an option means for a program that may not expect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// A program asked for both families, and a rule gives it an IPv4 address.
    OneFamily { asked: SocketAddr, target: SocketAddr },
    /// A rule names an address of a family that the program's socket cannot have.
    OtherFamily { asked: SocketAddr, rule: MapRule },
    /// A socket could not be made the private group's, and was not bound therefore.
    NotPrivate { asked: SocketAddr, why: private_group::PrivateSocketError },
}

/// Why a worker's sockets cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfReach {
    /// The ptrace rules: not dumpable, or Yama.
    Forbidden,
    /// A thread with its own descriptor table, before Linux 6.9.
    OwnTable,
    /// Our own descriptors are used up.
    NoDescriptors,
    /// It has not loaded the preload library.
    NotLoaded,
}

/// Why the run could not be started, or be kept up.
#[derive(Debug)]
pub enum RunError {
    /// This processor's system calls are not known.
    UnknownMachine,
    /// An address that is wanted is not one of this machine's.
    NotLocal(IpAddr),
    /// `--transparent` needs CAP_NET_ADMIN or CAP_NET_RAW.
    NotTransparent,
    /// The group cannot be private here.
    NotPrivate(PrivateGroupError),
    /// The program's file grants something that the filter takes away.
    LosesPrivilege(PathBuf, FileCapability),
    /// A call by which workers are reached is refused here.
    CannotReach(&'static str, Errno),
    /// This build has no preload library.
    NoLibrary(&'static str),
    /// This program cannot be reached by a preload library.
    NotLoadable(PathBuf, Obstacle),
    /// There is no place for the preload library.
    Place(PrivateDirError),
    /// A worker runs and has not loaded the library, which is, or is not, still in its place.
    HookNotLoaded(PathBuf, bool),
    /// The preload library has room for no more rules than this.
    TooManyRules(usize),
    /// There is no cgroup to be had.
    Cgroup(CgroupError),
    /// The eBPF programs could not be attached.
    Attach(AttachError),
    /// IP_TRANSPARENT cannot be set by a cgroup's programs.
    CgroupNotTransparent,
    /// No interposer can: each with its reason.
    NoWay(Vec<(InterposerKind, RunError)>),
    /// The run cannot have the sockets that it was given.
    Given(InheritError),
    /// The name cannot be had.
    Name(ClaimError),
    /// A worker could not be started; those before it have been ended.
    Start(StartError),
    /// A call of ours failed.
    System(&'static str, std::io::Error),
}

impl RunError {
    /// Whether the reason is a listener that this process already runs under.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Start(StartError::Filter(InstallStage::Filter, errno))
            if *errno == Errno::BUSY)
    }

    /// Whether the interposer cannot, and another one may. Nothing has been started then.
    fn is_obstacle(&self) -> bool {
        matches!(
            self,
            Self::UnknownMachine
                | Self::LosesPrivilege(..)
                | Self::CannotReach(..)
                | Self::NoLibrary(_)
                | Self::NotLoadable(..)
                | Self::Place(_)
                | Self::TooManyRules(_)
                | Self::Cgroup(_)
                | Self::Attach(_)
                | Self::CgroupNotTransparent
                | Self::Start(StartError::Filter(..) | StartError::Cgroup(_))
        )
    }
}

/// Runs the workers to their end and gives the exit code. `tell` hears of events as they happen.
pub fn run(plan: &RunPlan, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
    let goes_on = plan.named.as_ref().is_some_and(|named| named.letter.is_some());
    if !goes_on {
        refuse_what_cannot_be_had(&plan.wishes)?;
        private_group::refuse_what_cannot_be(plan)?;
    }
    let activation = &plan.environment.activation;
    let given = match &plan.named {
        // What was passed on has been taken already.
        Some(_) if goes_on => Ok(Vec::new()),
        Some(named) => crate::named::gather(named, activation, plan.owner()),
        None => crate::named::refuse(activation).map(|()| Vec::new()),
    };
    let mut given = given.map_err(RunError::Given)?;
    let used = OptionUsage::nothing_of(&plan.wishes);
    let code = match plan.choice {
        InterposerChoice::Only(via) => {
            run_via(via, plan, &used, &mut given, Vec::new(), tell).map_err(|failed| failed.0)?
        }
        // Only seccomp can give privileges or sockets up, and go on with workers of its own.
        InterposerChoice::Auto if plan.give_up_privileges || plan.private || goes_on => {
            run_via(InterposerKind::Seccomp, plan, &used, &mut given, Vec::new(), tell)
                .map_err(|failed| failed.0)?
        }
        InterposerChoice::Auto => run_via_first(plan, &used, &mut given, tell)?,
    };
    used.unused(&plan.wishes).into_iter().for_each(|unused| tell(RunEvent::Unused(unused)));
    Ok(code)
}

/// Takes the first interposer that can.
fn run_via_first(
    plan: &RunPlan,
    used: &OptionUsage,
    given: &mut Vec<InheritedSocket>,
    tell: &mut dyn FnMut(RunEvent),
) -> Result<u8, RunError> {
    let mut passed = Vec::new();
    for via in [InterposerKind::Seccomp, InterposerKind::Preload, InterposerKind::Cgroup] {
        match run_via(via, plan, used, given, passed, tell) {
            Err((error, before)) if error.is_obstacle() => {
                passed = before;
                passed.push((via, error));
            }
            done => return done.map_err(|failed| failed.0),
        }
    }
    Err(RunError::NoWay(passed))
}

/// Runs by this interposer, after others have been passed; gives those back if it cannot either.
fn run_via(
    via: InterposerKind,
    plan: &RunPlan,
    used: &OptionUsage,
    given: &mut Vec<InheritedSocket>,
    passed: Vec<(InterposerKind, RunError)>,
    tell: &mut dyn FnMut(RunEvent),
) -> Result<u8, (RunError, Vec<(InterposerKind, RunError)>)> {
    let interposer = match crate::interpose::Interposer::new(via, plan, used.clone()) {
        Ok(interposer) => interposer,
        Err(error) => return Err((error, passed)),
    };
    match start::StartedRun::start(plan, interposer, given) {
        Err(error) => Err((error, passed)),
        Ok(started) => {
            if !passed.is_empty() {
                tell(RunEvent::Took { via, passed });
            }
            started.supervise(tell).map_err(|error| (error, Vec::new()))
        }
    }
}

/// Addresses that this machine does not have would fail later, at each bind.
fn refuse_what_cannot_be_had(wishes: &BindOptions) -> Result<(), RunError> {
    if wishes.transparent {
        let rights = sameport_sys::process::rights(std::process::id().cast_signed());
        return match rights.is_some_and(|rights| rights.be_transparent) {
            true => Ok(()),
            false => Err(RunError::NotTransparent),
        };
    }
    let targets = wishes.rules.iter().filter_map(|rule| rule.to.ip);
    let source = wishes.source.map(|source| source.ip());
    match targets.chain(source).find(|ip| !is_local(*ip)) {
        Some(ip) => Err(RunError::NotLocal(ip)),
        None => Ok(()),
    }
}
