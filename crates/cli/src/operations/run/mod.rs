//! `run`: workers whose binds are made shareable, or moved; what came of it reported.
//!
//! An interposer reaches the binds: `seccomp`, which `asking` answers and `outcome` follows. The
//! `supervisor` lives from the first worker's start to the last process's end, which `leftovers`
//! sees to.

mod asking;
mod leftovers;
mod outcome;
mod seccomp;
mod supervisor;
mod wishes;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use sameport_linux::Errno;
use sameport_linux::seccomp::Stage;
use sameport_linux::worker::{Gain, StartError};
use sameport_rules::ending::Exit;
use sameport_rules::filter::IoUring;
use sameport_rules::map::Rule;
use sameport_rules::refusal::Refusal;
use sameport_rules::sockets::{Address, Member};

use super::refusal::is_local;

pub(crate) use wishes::{Unused, Wishes};

use wishes::Used;

/// What the user asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// How many copies.
    pub(crate) copies: u16,
    /// What is wanted of their sockets.
    pub(crate) wishes: Wishes,
    /// Whether workers may create io_uring rings, whose binds nobody sees.
    pub(crate) io_uring: IoUring,
    /// Start a program even if it loses the privileges that its file grants.
    pub(crate) give_up_privileges: bool,
    /// Where to seek a program that is named without a slash.
    pub(crate) search_path: Option<OsString>,
}

/// Something the user may want to know while the workers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
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
    /// A worker's first process ended while others run.
    WorkerEnded { ordinal: u16, pid: i32, exit: Exit, running: usize },
    /// Every first process ended well, and these processes live on.
    DaemonsServe { pids: Vec<i32> },
    /// Processes that outlived their worker are told to end.
    EndingLeftovers { pids: Vec<i32> },
    /// A program asked for both families, and a rule gives it an IPv4 address.
    OneFamily { asked: SocketAddr, target: SocketAddr },
    /// A rule names an address of a family that the program's socket cannot have.
    OtherFamily { asked: SocketAddr, rule: Rule },
    /// A wish that nothing came of in the whole run.
    Unused(Unused),
    /// They do not even end by SIGKILL.
    Unkillable { pids: Vec<i32> },
}

/// Why a worker's sockets cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfReach {
    /// The ptrace rules: not dumpable, or Yama.
    Forbidden,
    /// A thread with its own descriptor table, before Linux 6.9.
    OwnTable,
    /// Our own descriptors are used up.
    NoDescriptors,
}

/// Why the run could not be started, or be kept up.
#[derive(Debug)]
pub(crate) enum Error {
    /// This processor's system calls are not known.
    UnknownMachine,
    /// An address that is wanted is not one of this machine's.
    NotLocal(IpAddr),
    /// `--transparent` needs CAP_NET_ADMIN or CAP_NET_RAW.
    NotTransparent,
    /// The program's file grants something that the filter takes away.
    LosesPrivilege(PathBuf, Gain),
    /// A worker could not be started; those before it have been ended.
    Start(StartError),
    /// A call of ours failed.
    System(&'static str, std::io::Error),
}

impl Error {
    /// Whether the reason is a listener that this process already runs under.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Self::Start(StartError::Filter(Stage::Filter, errno))
            if *errno == Errno::BUSY)
    }
}

/// Runs the workers to their end and gives the exit code. `tell` hears of events as they happen.
pub(crate) fn run(plan: &Plan, tell: &mut dyn FnMut(Event)) -> Result<u8, Error> {
    refuse_what_cannot_be_had(&plan.wishes)?;
    let keeps_privileges = sameport_linux::worker::may_filter_with_privileges();
    if !keeps_privileges && !plan.give_up_privileges {
        refuse_loss(plan)?;
    }
    let used = Used::nothing_of(&plan.wishes);
    let interposer = seccomp::Seccomp::new(plan, !keeps_privileges, used.clone())?;
    let code = supervisor::supervise(plan, &interposer, tell)?;
    used.unused(&plan.wishes).into_iter().for_each(|unused| tell(Event::Unused(unused)));
    Ok(code)
}

/// Addresses that this machine does not have would fail later, at each bind.
fn refuse_what_cannot_be_had(wishes: &Wishes) -> Result<(), Error> {
    if wishes.transparent {
        let rights = sameport_linux::worker::rights(std::process::id().cast_signed());
        return match rights.is_some_and(|rights| rights.be_transparent) {
            true => Ok(()),
            false => Err(Error::NotTransparent),
        };
    }
    let targets = wishes.rules.iter().filter_map(|rule| rule.to.ip);
    let source = wishes.source.map(|source| source.ip());
    match targets.chain(source).find(|ip| !is_local(*ip)) {
        Some(ip) => Err(Error::NotLocal(ip)),
        None => Ok(()),
    }
}

/// A program that would silently lack its privileges is not started.
fn refuse_loss(plan: &Plan) -> Result<(), Error> {
    let Some(program) = plan.command.first() else { return Ok(()) };
    let path = sameport_linux::worker::locate(program, plan.search_path.as_deref());
    match path.and_then(|path| Some((sameport_linux::worker::gains_privilege(&path)?, path))) {
        Some((gain, path)) => Err(Error::LosesPrivilege(path, gain)),
        None => Ok(()),
    }
}
