//! Why a run does not start, or does not go on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use sameport_policy::addr::AddrSpec;
use sameport_policy::model::Address;
use sameport_policy::systemd::ActivationError;
use sameport_sys::bpf::cgroup_bind::{AttachError, CgroupError};
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{FileCapability, StartError};
use sameport_sys::run_files::ClaimError;
use sameport_sys::seccomp::InstallStage;
use sameport_sys::{Errno, PrivateDirError};

use crate::plan::InterposerKind;

/// Why the run could not be started, or be kept up.
#[derive(Debug)]
pub enum RunError {
    /// This processor's system calls are not known.
    UnknownArchitecture,
    /// An address that is wanted is not one of this machine's.
    NotLocal(IpAddr),
    /// `--transparent` needs CAP_NET_ADMIN or CAP_NET_RAW.
    TransparentNotPermitted,
    /// The group cannot be private here.
    NotPrivate(PrivateGroupError),
    /// The program's file grants something that the filter takes away.
    LosesPrivilege(PathBuf, FileCapability),
    /// A call by which workers are reached is refused here.
    WorkerAccess(&'static str, Errno),
    /// This build has no preload library.
    NoLibrary(&'static str),
    /// This program cannot be reached by a preload library.
    NotLoadable(PathBuf, Obstacle),
    /// There is no place for the preload library.
    PreloadDir(PrivateDirError),
    /// A worker runs and has not loaded the library, which is, or is not, still in its place.
    LibraryNotLoaded(PathBuf, bool),
    /// The preload library has room for no more rules than this.
    TooManyRules(usize),
    /// There is no cgroup to be had.
    Cgroup(CgroupError),
    /// The eBPF programs could not be attached.
    Attach(AttachError),
    /// IP_TRANSPARENT cannot be set by a cgroup's programs.
    CgroupNotTransparent,
    /// No interposer can: each with its reason.
    NoInterposer(Vec<(InterposerKind, RunError)>),
    /// The run cannot have the sockets that it was given.
    Inherit(InheritError),
    /// The name cannot be had.
    ClaimName(ClaimError),
    /// A worker could not be started; those before it have been ended.
    Start(StartError),
    /// A call of ours failed.
    System(&'static str, io::Error),
}

impl RunError {
    /// Whether the reason is a listener that this process already runs under.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Start(StartError::Filter(InstallStage::Filter, errno))
            if *errno == Errno::BUSY)
    }

    /// Whether the interposer cannot, and another one may. Nothing has been started then.
    pub(crate) fn is_obstacle(&self) -> bool {
        matches!(
            self,
            Self::UnknownArchitecture
                | Self::LosesPrivilege(..)
                | Self::WorkerAccess(..)
                | Self::NoLibrary(_)
                | Self::NotLoadable(..)
                | Self::PreloadDir(_)
                | Self::TooManyRules(_)
                | Self::Cgroup(_)
                | Self::Attach(_)
                | Self::CgroupNotTransparent
                | Self::Start(StartError::Filter(..) | StartError::Cgroup(_))
        )
    }
}

/// Why a run cannot have the sockets that it was given.
#[derive(Debug)]
pub enum InheritError {
    /// So many were passed on, to a run that has no name.
    Unnamed(usize),
    /// They were passed on to a run that holds none (`--no-hold`).
    NotHeld,
    /// A variable says what it cannot say.
    InvalidActivation(ActivationError),
    /// A descriptor that was named is not open.
    NotOpen(RawFd, Errno),
    /// It is no listening TCP socket and no bound UDP socket.
    NotListening { number: RawFd, name: String },
    /// `--listen`: it could not be opened.
    Open(sameport::Error),
    /// `--listen`: its name means nothing.
    Resolve(AddrSpec, io::Error),
    /// It was bound before we had it, so that it cannot be the private group's.
    AlreadyBound { number: RawFd, name: String },
    /// It is not of this run's group: what the manager has kept was a private group's, or is to be.
    OtherGroup { address: Address },
    /// `--listen` in a private group: it could not be opened.
    OpenPrivate(SocketAddr, Errno),
    /// A call of ours failed.
    System(Errno),
}

impl From<Errno> for InheritError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Why a group cannot be private here. Nothing has been started.
#[derive(Debug)]
pub enum PrivateGroupError {
    /// No CAP_CHOWN.
    NeedsCapability,
    /// The owner is no user id of this user namespace.
    NotMapped(u32),
    /// The owner is somebody already.
    OwnerExists(u32, String),
    /// `fchown` failed otherwise.
    Refused(Errno),
}

/// Why a socket was not made the group's. It was not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateSocketError {
    /// It is bound to a device: whoever binds another device, and then none, gets its traffic.
    OnDevice,
    /// The kernel refused it to us.
    Refused(Errno),
}

impl From<Errno> for PrivateSocketError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}
