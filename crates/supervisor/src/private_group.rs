//! `--private`: the group's sockets get an owner of their own, so that the kernel lets nobody else join.

use sameport_policy::bind::private as group;
use sameport_policy::membership::RunIdentity;
use sameport_policy::model::{Address, Protocol};
use sameport_sys::Errno;
use sameport_sys::inspect;
use sameport_sys::inspect::SocketQuery;
use sameport_sys::proc;
use sameport_sys::socket::WorkerSocket;
use sameport_sys::socket::private_owner;

use crate::error::{PrivateGroupError, PrivateSocketError, RunError};
use crate::plan::RunPlan;

impl RunPlan {
    /// To whom this run belongs.
    pub(crate) fn belonging(&self) -> RunIdentity {
        RunIdentity {
            group: self.scope.group.clone(),
            command: self.command.clone(),
            directory: proc::working_directory(std::process::id().cast_signed()),
        }
    }

    /// Who owns the sockets of its group, if that is private.
    pub(crate) fn owner(&self) -> Option<u32> {
        let user = sameport_sys::effective_user();
        self.private.then(|| group::owner(user, &self.belonging()))
    }
}

/// A group that would not be private is none.
pub(crate) fn refuse_what_cannot_be(plan: &RunPlan) -> Result<(), RunError> {
    let Some(owner) = plan.owner() else { return Ok(()) };
    private_owner::check_owner_change(owner).map_err(|errno| {
        RunError::NotPrivate(match errno {
            Errno::PERM => PrivateGroupError::NeedsCapability,
            Errno::INVAL => PrivateGroupError::NotMapped(owner),
            errno => PrivateGroupError::Refused(errno),
        })
    })?;
    match private_owner::registered_user(owner) {
        None => Ok(()),
        Some(name) => Err(RunError::NotPrivate(PrivateGroupError::OwnerExists(owner, name))),
    }
}

/// Makes a socket the group's before its bind.
pub(crate) fn take(
    socket: &mut WorkerSocket,
    owner: u32,
    address: &Address,
) -> Result<(), PrivateSocketError> {
    if address.device.is_some() {
        return Err(PrivateSocketError::OnDevice);
    }
    let query = SocketQuery::only(address.protocol).on(address.port());
    let listed = match (address.protocol, address.port()) {
        (Protocol::Udp, _) | (_, 0) => Vec::new(),
        // What cannot be looked at is no reason to open a gap.
        _ => inspect::list_without_owners(&query).unwrap_or_default(),
    };
    let beside = listed.iter().any(|listener| group::stands_beside(owner, address, listener));
    socket.set_reuse_address(beside)?;
    Ok(socket.set_owner(owner)?)
}
