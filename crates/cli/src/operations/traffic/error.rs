//! Why traffic cannot be shown or changed.

use std::io;

use sameport_policy::addr::{AddrSpec, PortSpec};
use sameport_policy::holder::Holder;
use sameport_policy::model::name::RunName;
use sameport_policy::traffic::{MemberSelector, TrafficRefusal};
use sameport_supervisor::control::client::ClientError;
use sameport_sys::bpf::traffic::TrafficError;
use sameport_sys::inspect::InspectError;

use super::port::PortError;

/// Why traffic cannot be shown or changed. `port` is such as `8080/tcp`.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The kernel did not list sockets.
    Look(InspectError),
    /// No socket takes connections there; whether a policy is left.
    NoSocket { on: PortSpec, rest: bool },
    /// Both protocols have members there.
    TwoProtocols(AddrSpec),
    /// The rules cannot hold.
    Refused { port: String, refusal: Box<TrafficRefusal> },
    /// The process has no socket there, or does not exist. `known` are the members.
    NoMember { port: String, pid: i32, exists: bool, known: Vec<String> },
    /// The only socket does not let others join.
    NotShared { port: String, holder: Box<Holder> },
    /// eBPF is needed and not possible.
    Rights { port: String, why: String, needs: NeedOfRights, is_mount: bool },
    /// The members have ended meanwhile.
    Vanished(String),
    /// Other commands change the policy all the time.
    Changed(String),
    /// The state of the port in the kernel could not be read or changed.
    State { port: String, error: Box<TrafficError> },
    /// The supervisor did not do it.
    Supervisor(RunName, Box<ClientError>),
    /// The member is the last one that gets connections.
    LastMember { port: String, member: MemberSelector },
    /// Nothing is to be undone.
    NotDrained { port: String, member: MemberSelector },
}

/// Why the supervisor of a run cannot do it without eBPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NeedOfRights {
    /// These programs are in no named run.
    OtherPrograms(Vec<String>),
    /// The members are of these runs.
    SeveralRuns(Vec<RunName>),
    /// Programs of other users, which this user does not see.
    Unseen,
}

impl From<PortError> for Error {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Name { name, source } => Self::Name { name, source },
            PortError::Look(error) => Self::Look(error),
        }
    }
}

impl From<InspectError> for Error {
    fn from(error: InspectError) -> Self {
        Self::Look(error)
    }
}
