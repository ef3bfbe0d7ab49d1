//! Events of a run, for its caller.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sameport_policy::bind::map::MapRule;
use sameport_policy::holder::Holder;
use sameport_policy::lifecycle::CanaryOutcome;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::Address;
use sameport_policy::predict::Winner;
use sameport_policy::refusal::Refusal;
use sameport_policy::sandbox::RefusedCalls;

use crate::bind_options::UnusedOption;
use crate::control::protocol::{TrafficPort, WorkerUpdate};
use crate::error::{PrivateSocketError, RunError};
use crate::plan::InterposerKind;

/// An event of workers and their sockets.
#[derive(Debug)]
pub enum RunEvent {
    /// The workers are started, and the supervisor attends to them; the control socket of a named run takes
    /// requests. The first event.
    Begun {
        /// The first processes of workers of a killed supervisor, which the run takes over.
        taken_over: Vec<i32>,
    },
    /// A worker's socket shares its address with a program that it did not share it with before.
    Shared {
        /// The address.
        address: Address,
        /// The programs that share it, each once.
        sharers: Vec<Holder>,
    },
    /// One of two sockets, a worker's or another program's, takes traffic that the other would get.
    Contested(Box<ContestedTraffic>),
    /// The kernel refused a worker's bind or listen.
    Refused {
        /// The address.
        address: Address,
        /// The reason.
        refusal: Box<Refusal>,
    },
    /// The supervisor cannot reach a worker's sockets, so its binds proceed unchanged.
    OutOfReach {
        /// A thread of the worker.
        tid: i32,
        /// The reason.
        why: OutOfReach,
    },
    /// The supervisor cannot answer a worker's call as it should.
    AnswerTrouble {
        /// The thread of the worker that waits; 0 if none does.
        tid: i32,
        /// What happened.
        trouble: AnswerTrouble,
    },
    /// The sockets on an address cannot be listed.
    InspectFailed {
        /// The address.
        address: Address,
        /// The reason.
        why: String,
    },
    /// The outcome of some binds is unknown, because too many came at once.
    Untracked {
        /// Number of binds.
        count: usize,
    },
    /// A worker's first process ended and others run.
    WorkerEnded {
        /// The worker.
        ordinal: u16,
        /// The process.
        pid: i32,
        /// How it ended.
        exit: Exit,
        /// Number of workers whose first process runs.
        running: usize,
    },
    /// Every worker's first process exited with status 0; their daemons run on.
    DaemonsServe {
        /// The daemons.
        pids: Vec<i32>,
    },
    /// The run takes over the workers of a supervisor that was killed.
    TakesOver {
        /// The pid that the supervisor had.
        supervisor: i32,
        /// The first processes of the workers.
        pids: Vec<i32>,
        /// Whether it ends them, and starts none.
        stops: bool,
    },
    /// Not every worker was replaced; no client asked for it.
    NotReplaced {
        /// The reason.
        error: String,
        /// The next step.
        hint: &'static str,
    },
    /// The run is announced as leaving.
    Leaving {
        /// The time after which its workers begin to drain.
        time: Duration,
    },
    /// The canary was promoted or rolled back.
    CanaryEnded {
        /// Program and arguments of its workers.
        command: Vec<OsString>,
        /// The outcome.
        outcome: CanaryOutcome,
    },
    /// Processes that outlived their worker are being ended.
    EndingLeftovers {
        /// The processes.
        pids: Vec<i32>,
    },
    /// Advice about an option.
    Remark(Remark),
    /// `Auto` selected this interposer.
    InterposerSelected {
        /// The interposer.
        interposer: InterposerKind,
        /// The interposers before it, with the reason against each.
        skipped: Vec<(InterposerKind, RunError)>,
    },
    /// A filter refuses calls without which the run does less: lists of sockets come from `/proc/net`.
    Sandboxed(RefusedCalls),
    /// An option had no effect during the whole run.
    Unused(UnusedOption),
    /// A worker of a named run changed its state.
    WorkerChanged(WorkerUpdate),
    /// The first process of a worker of a named run exited with status 0; its daemons run on.
    Detached {
        /// The worker.
        ordinal: u16,
        /// The first process.
        pid: i32,
        /// The daemons.
        remaining: Vec<i32>,
    },
    /// A worker of a named run leaves connections in its accept queue.
    NotAccepting {
        /// The worker.
        ordinal: u16,
        /// Its first process.
        pid: i32,
        /// Number of connections in the queue.
        waiting: u32,
    },
    /// A worker of a named run closed a listener that its replacement must also serve.
    Closed {
        /// The worker.
        ordinal: u16,
        /// Its first process.
        pid: i32,
        /// The address of the listener.
        address: Address,
    },
    /// A held socket that a worker had stopped from listening listens again.
    ListensAgain {
        /// Its address.
        address: Address,
    },
    /// The policy of the run does not decide on an address: the kernel's hash does.
    PolicyNotInForce {
        /// The address.
        address: Address,
        /// The reason.
        why: String,
    },
    /// Another program had replaced the policy of a port, which was set again.
    PolicyRestored {
        /// The port.
        port: TrafficPort,
        /// What had replaced it.
        by: String,
        /// Processes with a socket in the groups of the port that are not of this run.
        strangers: Vec<String>,
    },
    /// Processes survived SIGKILL.
    Unkillable {
        /// The processes.
        pids: Vec<i32>,
    },
}

/// Traffic that one of two sockets keeps from the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContestedTraffic {
    /// The traffic.
    pub traffic: Address,
    /// The receiver.
    pub winner: Winner,
    /// The two addresses, and who holds them.
    pub between: [(Address, Holder); 2],
}

/// An effect of an option that a program may not expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// A program bound the IPv6 wildcard, which serves both families; the map rule gives it IPv4.
    OneFamily {
        /// The address in the call.
        asked: SocketAddr,
        /// The address of the rule.
        target: SocketAddr,
    },
    /// A socket got the loopback or wildcard address of the other family than the map rule names.
    Counterpart {
        /// The address in the call.
        asked: SocketAddr,
        /// The address that the socket gets.
        target: SocketAddr,
        /// The rule.
        rule: MapRule,
    },
    /// The address of a map rule has a family that the program's socket cannot bind.
    OtherFamily {
        /// The address in the call.
        asked: SocketAddr,
        /// The rule.
        rule: MapRule,
    },
    /// A bind failed because the socket could not get the owner of the private group.
    NotPrivate {
        /// The address in the call.
        asked: SocketAddr,
        /// The reason.
        why: PrivateSocketError,
    },
}

impl Remark {
    /// The remark about a bind that a rule has moved from an address to a target, if any.
    pub fn moved(rule: MapRule, asked: SocketAddr, target: SocketAddr) -> Option<Self> {
        let is_v4 = |ip: IpAddr| ip.to_canonical().is_ipv4();
        let both = asked.is_ipv6() && asked.ip().is_unspecified();
        if rule.to.ip.is_some_and(|ip| is_v4(ip) != is_v4(target.ip())) {
            return Some(Self::Counterpart { asked, target, rule });
        }
        (both && is_v4(target.ip())).then_some(Self::OneFamily { asked, target })
    }
}

/// Trouble with the answer to a worker's call. Other workers are answered all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerTrouble {
    /// The answer has taken this long and is not there. Most often the worker's memory or descriptor
    /// belongs to a file system that does not respond.
    Slow(Duration),
    /// The answer panicked: an error of this program. The worker's calls are answered without a look
    /// at its sockets.
    Panicked,
    /// A system call failed; it is repeated.
    Failed(String),
}

/// Why the supervisor cannot reach a worker's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfReach {
    /// ptrace(2) permissions: the process is not dumpable, or Yama forbids it.
    PtraceDenied,
    /// The thread has a descriptor table of its own, which pidfds reach since Linux 6.9.
    OwnDescriptorTable,
    /// The supervisor is at its descriptor limit.
    DescriptorLimit,
    /// The worker did not load the preload library.
    LibraryNotLoaded,
}
