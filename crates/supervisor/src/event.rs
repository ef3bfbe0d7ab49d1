//! What a run reports to its caller while it runs.

use std::net::SocketAddr;

use sameport_policy::bind::map::MapRule;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::{Address, Member};
use sameport_policy::refusal::Refusal;
use sameport_sys::process::StartError;

use crate::bind_options::UnusedOption;
use crate::control::protocol::WorkerUpdate;
use crate::error::{PrivateSocketError, RunError};
use crate::plan::InterposerKind;

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
    InspectFailed { address: Address, why: String },
    /// So many binds came at once that what became of these is not known.
    Untracked { count: usize },
    /// A worker's first process ended while others run.
    WorkerEnded { ordinal: u16, pid: i32, exit: Exit, running: usize },
    /// Every first process ended well, and these processes live on.
    DaemonsServe { pids: Vec<i32> },
    /// Processes that outlived their worker are told to end.
    EndingLeftovers { pids: Vec<i32> },
    /// Something about a rule that needs saying once.
    Remark(Remark),
    /// This interposer was taken, because the ones before it could not.
    InterposerSelected { interposer: InterposerKind, skipped: Vec<(InterposerKind, RunError)> },
    /// A wish that nothing came of in the whole run.
    Unused(UnusedOption),
    /// A worker of a named run changed its state.
    WorkerChanged(WorkerUpdate),
    /// A worker of a named run could not be started again.
    NotStarted { ordinal: u16, error: StartError },
    /// The first process of a worker of a named run ended with 0, and these live on.
    Detached { ordinal: u16, pid: i32, remaining: Vec<i32> },
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
    NotPrivate { asked: SocketAddr, why: PrivateSocketError },
}

/// Why a worker's sockets cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfReach {
    /// The ptrace rules: not dumpable, or Yama.
    PtraceDenied,
    /// A thread with its own descriptor table, before Linux 6.9.
    OwnDescriptorTable,
    /// Our own descriptors are used up.
    DescriptorLimit,
    /// It has not loaded the preload library.
    LibraryNotLoaded,
}

impl Remark {
    /// A program that asked for both families, and got an IPv4 address.
    pub fn one_family(asked: SocketAddr, target: SocketAddr) -> Option<Self> {
        let both = asked.is_ipv6() && asked.ip().is_unspecified();
        (both && target.ip().to_canonical().is_ipv4()).then_some(Self::OneFamily { asked, target })
    }
}
