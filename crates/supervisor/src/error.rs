//! Why a run does not start, or does not go on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use sameport_policy::addr::AddrSpec;
use sameport_policy::model::Address;
use sameport_policy::sandbox::{RefusedCalls, SandboxedCall};
use sameport_policy::systemd::ActivationError;
use sameport_policy::traffic::TrafficRefusal;
use sameport_sys::bpf::AttachError;
use sameport_sys::cgroup::CgroupError;
use sameport_sys::inspect::InspectError;
use sameport_sys::kept_log::LogDirectoryError;
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{FileCapability, StartError};
use sameport_sys::run_files::ClaimError;
use sameport_sys::seccomp::InstallStage;
use sameport_sys::{Errno, PrivateDirError};

use crate::plan::InterposerKind;

/// Why a run does not start, or ends early.
#[derive(Debug)]
pub enum RunError {
    /// The system call numbers of this processor architecture are unknown.
    UnknownArchitecture,
    /// A requested address is not an address of this machine.
    NotLocal(IpAddr),
    /// `--transparent` without CAP_NET_ADMIN and CAP_NET_RAW.
    TransparentNotPermitted,
    /// The group cannot be private.
    NotPrivate(PrivateGroupError),
    /// The program's file grants a privilege that the filter takes away.
    LosesPrivilege(PathBuf, FileCapability),
    /// The kernel refuses a system call that reaches the sockets of workers.
    WorkerAccess(&'static str, Errno),
    /// `kernel.yama.ptrace_scope` has this value, which forbids the access to workers.
    PtraceScope(u8),
    /// A filter that this process inherited refuses calls that the run needs.
    Sandboxed(RefusedCalls),
    /// This build has no preload library; the reason.
    NoLibrary(&'static str),
    /// The program cannot load a preload library.
    NotLoadable(PathBuf, Obstacle),
    /// No directory is fit for the preload library.
    PreloadDir(PrivateDirError),
    /// A worker runs without the preload library; whether the library's file still exists.
    LibraryNotLoaded(PathBuf, bool),
    /// More map rules than the preload library takes; its maximum.
    TooManyRules(usize),
    /// No cgroup can be created.
    Cgroup(CgroupError),
    /// The eBPF programs cannot be attached.
    Attach(AttachError),
    /// The cgroup interposer cannot set this socket option.
    CgroupCannotSet(&'static str),
    /// The cgroup interposer cannot give each worker a port.
    CgroupNotEach,
    /// No interposer works here; the reason against each.
    NoInterposer(Vec<(InterposerKind, RunError)>),
    /// The policy cannot be carried out. No worker was started.
    Policy(Box<PolicyError>),
    /// The sockets of the service manager or of `--listen` are not available.
    Inherit(InheritError),
    /// The name is not available.
    ClaimName(ClaimError),
    /// The workers of a killed supervisor cannot be taken over. They serve on.
    TakeOver(TakeoverError),
    /// The output of workers cannot be kept in its directory.
    LogDirectory(LogDirectoryError),
    /// The supervisor may not open enough descriptors for its workers.
    DescriptorLimit {
        /// Number of workers.
        copies: u16,
        /// Number of descriptors that they take.
        needed: u64,
        /// The hard limit (RLIMIT_NOFILE).
        limit: u64,
    },
    /// A worker did not start. The workers before it were ended.
    Start(StartError),
    /// A system call of the supervisor failed; what it was for.
    System(&'static str, io::Error),
}

impl RunError {
    /// Whether the reason is that this process already runs under a seccomp listener: a process can
    /// have one only.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Start(StartError::Filter(InstallStage::Filter, errno))
            if *errno == Errno::BUSY)
    }

    /// Whether this interposer does not work here while another one may. No worker runs then.
    pub(crate) fn is_obstacle(&self) -> bool {
        if let Self::Sandboxed(refused) = self {
            return refused.among(SandboxedCall::OF_EVERY_RUN).is_empty();
        }
        matches!(
            self,
            Self::UnknownArchitecture
                | Self::LosesPrivilege(..)
                | Self::WorkerAccess(..)
                | Self::PtraceScope(_)
                | Self::NoLibrary(_)
                | Self::NotLoadable(..)
                | Self::Policy(_)
                | Self::PreloadDir(_)
                | Self::TooManyRules(_)
                | Self::Cgroup(_)
                | Self::Attach(_)
                | Self::CgroupCannotSet(_)
                | Self::CgroupNotEach
                | Self::Start(StartError::Filter(..) | StartError::Cgroup(_))
        )
    }
}

/// Why the policy of a run cannot be carried out.
#[derive(Debug)]
pub struct PolicyError {
    /// What cannot be done.
    pub refusal: TrafficRefusal,
    /// Why this process cannot use eBPF; `None` where eBPF would not help.
    pub extended: Option<String>,
    /// The option of the run without which its workers could be told apart.
    pub leave_out: Option<&'static str>,
}

/// Why the workers of a killed supervisor cannot be taken over.
#[derive(Debug)]
pub enum TakeoverError {
    /// The kernel does not list the sockets.
    NotListed(InspectError),
    /// No readable process has this socket open.
    NotSeen(Address),
    /// `pidfd_getfd` refuses a socket.
    NotDuplicated {
        /// The process that has it open.
        pid: i32,
        /// The number of its descriptor.
        descriptor: i32,
        /// The error.
        errno: Errno,
    },
    /// A socket belongs to a private group and the run does not, or the other way round.
    OtherGroup(Address),
}

/// Why the sockets of the service manager or of `--listen` are not available.
#[derive(Debug)]
pub enum InheritError {
    /// Sockets were passed to a run without a name; their number.
    Unnamed(usize),
    /// Sockets were passed to a run with `--no-hold`.
    NotHeld,
    /// LISTEN_FDS or a related variable has an invalid value.
    InvalidActivation(ActivationError),
    /// A passed descriptor is not open.
    NotOpen(RawFd, Errno),
    /// A passed descriptor is neither a listening TCP socket nor a bound UDP socket.
    NotListening {
        /// The descriptor.
        number: RawFd,
        /// Its name in LISTEN_FDNAMES.
        name: String,
    },
    /// The host name of `--listen` cannot be resolved.
    Resolve(AddrSpec, io::Error),
    /// A passed socket was bound before the run could give it the owner of the private group.
    AlreadyBound {
        /// The descriptor.
        number: RawFd,
        /// Its name in LISTEN_FDNAMES.
        name: String,
    },
    /// A stored socket belongs to a private group and the run does not, or the other way round.
    OtherGroup {
        /// The address of the socket.
        address: Address,
    },
    /// An address of `--listen` cannot be opened.
    Open(SocketAddr, Errno),
    /// A system call on a passed socket failed.
    System(Errno),
}

impl From<Errno> for InheritError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Why a group cannot be private. No worker was started.
#[derive(Debug)]
pub enum PrivateGroupError {
    /// The supervisor lacks CAP_CHOWN.
    NeedsCapability,
    /// The group's uid is not mapped in this user namespace.
    NotMapped(u32),
    /// The group's uid is the uid of a user.
    OwnerExists(u32, String),
    /// `fchown` failed.
    Refused(Errno),
}

/// Why a socket did not get the owner of the private group. The socket was not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateSocketError {
    /// The socket is bound to a device. A socket that binds to another device, and then to none, would
    /// get its traffic.
    OnDevice,
    /// The kernel refused `fchown`.
    Refused(Errno),
}

impl From<Errno> for PrivateSocketError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}
