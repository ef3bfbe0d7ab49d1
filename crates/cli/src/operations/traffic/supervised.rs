//! Traffic by the supervisor of a named run: requests to its control socket.

use std::collections::BTreeSet;

use sameport_policy::model::Protocol;
use sameport_policy::model::name::RunName;
use sameport_policy::traffic::{
    MemberSelector, SteeringTier, TrafficPolicy, TrafficRules, TrafficStatus,
};
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{ControlRequest, FaultKind, TrafficPort};
use sameport_sys::users::effective_uid;

use super::error::Error;
use super::port::PortMembers;
use crate::operations::runtime_dir::runtime_dir;

/// The run that every member of a port belongs to, with a living supervisor.
#[derive(Debug)]
pub(super) struct OnlyRun {
    name: RunName,
    client: Client,
    port: TrafficPort,
}

impl OnlyRun {
    /// `None` where a member is of another run, of none, or of one whose supervisor was killed.
    pub(super) fn of(port: &PortMembers) -> Option<Self> {
        let first = port.sockets.first()?;
        let name = first.run.clone()?;
        let (supervisor, uid) = first.supervisor?;
        let is_same = port.sockets.iter().all(|it| it.supervisor == Some((supervisor, uid)));
        is_same.then(|| Self { name, client: client(uid), port: traffic_port(port) })
    }

    /// The name of the run.
    pub(super) fn name(&self) -> &RunName {
        &self.name
    }

    /// What holds.
    pub(super) fn status(&self) -> Result<TrafficStatus, Error> {
        self.client.traffic(&self.name, self.port).map(|it| *it).map_err(|error| self.error(error))
    }

    /// Sets the rules; `None`: the hash of the kernel.
    pub(super) fn steer(&self, rules: Option<TrafficRules>) -> Result<(), Error> {
        self.request(ControlRequest::Steer { port: self.port, rules })
            .map_err(|error| self.error(error))
    }

    /// Sets the default policy of the tier that the supervisor has.
    pub(super) fn steer_by_default(&self) -> Result<(), Error> {
        let protocol = if self.port.udp { Protocol::Udp } else { Protocol::Tcp };
        let request = |tier| {
            let rules = Some(TrafficRules::new(TrafficPolicy::default_of(tier, protocol)));
            self.request(ControlRequest::Steer { port: self.port, rules })
        };
        let done = match request(SteeringTier::Extended) {
            Err(ClientError::Failed {
                fault: FaultKind::Unsupported | FaultKind::Usage, ..
            }) => request(SteeringTier::Classic),
            done => done,
        };
        done.map_err(|error| self.error(error))
    }

    /// Gives workers no new connections, or gives them new ones again.
    pub(super) fn drain(&self, member: &MemberSelector, undo: bool) -> Result<(), Error> {
        let member = member.clone();
        self.request(ControlRequest::DrainWorker { port: self.port, member, undo })
            .map_err(|error| self.error(error))
    }

    fn request(&self, request: ControlRequest) -> Result<(), ClientError> {
        self.client.change(&self.name, request, &mut |_| {})
    }

    fn error(&self, error: ClientError) -> Error {
        Error::Supervisor(self.name.clone(), Box::new(error))
    }
}

/// Lets the supervisors of the members look at the port again: they admit their workers in the state of the
/// port, if they have the rights. One that does not answer is none of the caller's business.
pub(super) fn tell_supervisors(port: &PortMembers) {
    let runs = port.sockets.iter().filter_map(|it| Some((it.run.clone()?, it.supervisor?.1)));
    for (name, uid) in runs.collect::<BTreeSet<_>>() {
        let _ = client(uid).traffic(&name, traffic_port(port));
    }
}

fn traffic_port(port: &PortMembers) -> TrafficPort {
    TrafficPort { udp: port.protocol == Protocol::Udp, port: port.port }
}

fn client(uid: u32) -> Client {
    if uid == effective_uid() { Client::new(runtime_dir()) } else { Client::of_user(uid) }
}
