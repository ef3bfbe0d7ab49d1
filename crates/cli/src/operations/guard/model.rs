//! The requests and results of `guard`.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use sameport_policy::guard::{AllowSpec, GuardPort};
use sameport_policy::model::Address;
use sameport_sys::bpf::PinError;
use sameport_sys::bpf::guard;
use sameport_sys::cgroup::CgroupError;

use super::record::GuardEntry;

/// A process that has the port open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pub(crate) pid: i32,
    pub(crate) program: String,
    pub(crate) address: Address,
    /// Whether it may bind there again.
    pub(crate) allowed: bool,
}

/// What the user asked for.
#[derive(Debug, Clone)]
pub(crate) struct GuardRequest {
    pub(crate) port: GuardPort,
    pub(crate) allow: Vec<AllowSpec>,
    pub(crate) report_only: bool,
}

/// What a guard would do to those who use the port now.
#[derive(Debug)]
pub(crate) struct GuardEffect {
    /// Nobody at all may bind.
    pub(crate) nobody: bool,
    /// Who has the port, and whether they may bind it again.
    pub(crate) holders: Vec<PortHolder>,
}

impl GuardEffect {
    /// Whether somebody would miss something.
    pub(crate) fn locks_out(&self) -> bool {
        self.nobody || self.holders.iter().any(|holder| !holder.allowed)
    }
}

/// What was done.
#[derive(Debug)]
pub(crate) struct GuardResult {
    pub(crate) set: Vec<GuardEntry>,
    pub(crate) replaced: Vec<GuardEntry>,
    pub(crate) effect: GuardEffect,
    /// Paths of cgroups that there are none of now.
    pub(crate) without_a_cgroup: Vec<String>,
    /// Whether this process itself may bind.
    pub(crate) caller: bool,
    /// The BPF file system had to be mounted, and stays.
    pub(crate) mounted: bool,
}

/// All guards, and whether the kernel acts by them.
#[derive(Debug)]
pub(crate) struct GuardList {
    pub(crate) guards: Vec<ListedGuard>,
    pub(crate) state: GuardState,
    /// The network namespace of the caller.
    pub(crate) network: u64,
    pub(crate) now: SystemTime,
}

/// Whether the kernel does what the list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardState {
    InForce,
    /// The kernel has nothing, or something else.
    NotInForce,
    /// It does, and more: a change was interrupted.
    Interrupted,
    /// It may pick a guarded port by itself: somebody has taken the reservation away.
    Unreserved,
}

/// A guard, and what has become of those it allows.
#[derive(Debug)]
pub(crate) struct ListedGuard {
    pub(crate) entry: GuardEntry,
    /// In the order of `entry.allow`.
    pub(crate) now: Vec<AllowedNow>,
}

/// What has become of what a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedNow {
    AsItWas,
    /// There is no such cgroup, or file, now.
    Gone,
    /// The path is another file's now, or the name another user's.
    Replaced,
}

/// What `--off-all` did.
#[derive(Debug)]
pub(crate) struct LiftedGuards {
    pub(crate) guards: usize,
    /// Ports that stay reserved, because they are so in another network namespace.
    pub(crate) still_reserved: Vec<u16>,
    /// The file could not be understood, so that nothing is known of reserved ports.
    pub(crate) unreadable: bool,
}

#[derive(Debug)]
pub(crate) enum Error {
    NotRoot,
    NoUser(String),
    Unit(CgroupError),
    NotAPath(PathBuf, &'static str),
    NoExecutable(String, io::Error),
    /// Who uses the port was not asked, or said no.
    LockedOut(GuardEffect),
    NotGuarded(GuardPort),
    Record(String),
    /// The list is from before the machine was started, and this is not its first network namespace.
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
