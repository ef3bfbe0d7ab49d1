//! The requests and results of `guard`.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use sameport_policy::guard::{AllowSpec, GuardPort};
use sameport_policy::holder::Holder;
use sameport_policy::model::Address;
use sameport_supervisor::guards::record::GuardEntry;
use sameport_sys::bpf::PinError;
use sameport_sys::bpf::guard;
use sameport_sys::cgroup::CgroupError;

/// A program that has the port open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pub(crate) holder: Holder,
    pub(crate) address: Address,
    /// Whether each of its processes may bind there again.
    pub(crate) allowed: bool,
}

/// The options of `guard`.
#[derive(Debug, Clone)]
pub(crate) struct GuardRequest {
    pub(crate) port: GuardPort,
    pub(crate) allow: Vec<AllowSpec>,
    pub(crate) report_only: bool,
}

/// The effect of a guard on the processes that use the port.
#[derive(Debug)]
pub(crate) struct GuardEffect {
    /// No process may bind.
    pub(crate) nobody: bool,
    /// The processes on the port, and whether they may bind it again.
    pub(crate) holders: Vec<PortHolder>,
    /// The `--allow` arguments that would let these programs bind again, each of them alone.
    pub(crate) would_allow: Vec<AllowSpec>,
}

impl GuardEffect {
    /// Whether the guard locks out a process.
    pub(crate) fn locks_out(&self) -> bool {
        self.nobody || self.holders.iter().any(|holder| !holder.allowed)
    }
}

/// The result of setting a guard.
#[derive(Debug)]
pub(crate) struct GuardResult {
    pub(crate) set: Vec<GuardEntry>,
    pub(crate) replaced: Vec<GuardEntry>,
    pub(crate) effect: GuardEffect,
    /// Paths of allowed cgroups that do not exist.
    pub(crate) without_a_cgroup: Vec<String>,
    /// Whether this process may bind.
    pub(crate) caller: bool,
    /// Whether this call mounted the BPF file system, which stays mounted.
    pub(crate) mounted: bool,
}

/// All guards, and whether the kernel enforces them.
#[derive(Debug)]
pub(crate) struct GuardList {
    pub(crate) guards: Vec<ListedGuard>,
    pub(crate) state: GuardState,
    /// Whether the lockdown of the kernel refuses new guards, so that no restore can help.
    pub(crate) locked_down: bool,
    /// The network namespace of the caller.
    pub(crate) network: u64,
    pub(crate) now: SystemTime,
}

/// Whether the kernel matches the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardState {
    InForce,
    /// The kernel has no guards, or others.
    NotInForce,
    /// The kernel has more guards: a change was interrupted.
    Interrupted,
    /// The reservation of a guarded port was removed, so that the kernel may pick it.
    Unreserved,
}

/// A guard and the state of what it allows.
#[derive(Debug)]
pub(crate) struct ListedGuard {
    pub(crate) entry: GuardEntry,
    /// In the order of `entry.allow`.
    pub(crate) now: Vec<AllowedNow>,
}

/// The state of the object of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedNow {
    AsItWas,
    /// The cgroup or file does not exist.
    Gone,
    /// The path is another file, or the name belongs to another user.
    Replaced,
}

/// The effect of `--off-all`.
#[derive(Debug)]
pub(crate) struct LiftedGuards {
    pub(crate) guards: usize,
    /// Ports that stay reserved in another network namespace.
    pub(crate) still_reserved: Vec<u16>,
    /// The file is not valid, so that the reserved ports are unknown.
    pub(crate) unreadable: bool,
}

#[derive(Debug)]
pub(crate) enum Error {
    NotRoot,
    NoUser(String),
    Unit(CgroupError),
    NotAPath(PathBuf, &'static str),
    NoExecutable(String, io::Error),
    /// The guard would lock out processes, and was not confirmed.
    LockedOut(GuardEffect),
    NotGuarded(GuardPort),
    Record(String),
    /// The list is from before the boot, and this is not the first network namespace.
    Elsewhere,
    File(&'static str, io::Error),
    Reserve(io::Error),
    Look(String),
    Guard(guard::GuardError),
}

impl From<PinError> for Error {
    fn from(error: PinError) -> Self {
        Self::Guard(error.into())
    }
}
