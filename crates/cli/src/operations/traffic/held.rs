//! The state that the kernel has of a port, and what is recorded with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;

use sameport_policy::traffic::{SocketId, TrafficFacts};
use sameport_supervisor::TrafficRecord;
use sameport_sys::bpf::traffic::{MemberCounts, TrafficError, TrafficKey, TrafficState};
use sameport_sys::netns;

use super::error::Error;
use super::facts::{facts, socket_id};
use super::port::PortMembers;
use super::rights::{no_rights, state_error};

/// The name of the state of a port, in this network namespace.
pub(super) fn key(port: &PortMembers) -> Result<TrafficKey, Error> {
    let netns = netns::own_cookie().map_err(|error| no_rights(port, &error.to_string()))?;
    Ok(TrafficKey { netns, protocol: port.protocol, port: port.port })
}

/// Whether a port has a state, readable or not; `None`: this user cannot see that.
pub(super) fn is_held(port: &PortMembers) -> Option<bool> {
    // A kernel without the cookie has no states.
    let Ok(key) = key(port) else { return Some(false) };
    match key.path().symlink_metadata() {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// What the kernel has of a port.
#[derive(Debug)]
pub(super) struct HeldTraffic {
    pub(super) state: TrafficState,
    pub(super) record: TrafficRecord,
    /// The record as it was read.
    pub(super) text: String,
}

impl HeldTraffic {
    /// `None` if the port has no state.
    pub(super) fn find(port: &PortMembers) -> Result<Option<Self>, Error> {
        let failed = |error| state_error(port, error);
        let Some(state) = TrafficState::find(key(port)?).map_err(failed)? else { return Ok(None) };
        let text = state.record().map_err(failed)?;
        let not_ours = || failed(TrafficError::NotOurs(state.key().path()));
        let record = TrafficRecord::read(&text).ok_or_else(not_ours)?;
        Ok(Some(Self { state, record, text }))
    }

    /// The counts of each socket's member, by cookie.
    pub(super) fn counts(&self) -> (BTreeMap<u64, MemberCounts>, u64) {
        let counts = self.state.snapshot();
        let of = |member: MemberCounts| {
            let cookies = member.cookies.clone();
            cookies.into_iter().map(move |cookie| (cookie, member.clone()))
        };
        (counts.members.into_iter().flat_map(of).collect(), counts.missed)
    }

    /// The facts about the members, by which the rules that hold name them.
    pub(super) fn facts(&self, port: &PortMembers, drained: &BTreeSet<u64>) -> TrafficFacts {
        let mut facts = facts(port, drained);
        self.record.name_earlier_owners(&mut facts);
        let (counts, _) = self.counts();
        for member in &mut facts.members {
            // The canaries are those of a run.
            let counts = member.socket.cookie.and_then(|cookie| counts.get(&cookie));
            member.canary = counts.is_some_and(|counts| counts.canary);
        }
        facts
    }

    /// What selects the members in place of the state, by address; empty also without the rights to see it.
    pub(super) fn replaced(&self, port: &PortMembers) -> Vec<(IpAddr, String)> {
        let sockets: Vec<SocketId> = port.sockets.iter().map(socket_id).collect();
        let groups = self.state.replaced(&sockets).unwrap_or_default().into_iter();
        groups.filter_map(|group| Some((group.ip, group.program?.to_string()))).collect()
    }

    /// The inodes of the sockets that are drained.
    pub(super) fn drained(&self, port: &PortMembers) -> BTreeSet<u64> {
        let sockets = port.sockets.iter().map(|it| &it.member.socket);
        let drained = sockets.filter(|it| self.record.drained.contains(&it.cookie));
        drained.map(|it| it.inode).collect()
    }
}
