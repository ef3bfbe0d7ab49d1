//! `--private`: the group's sockets get an owner of their own, so that the kernel refuses all others.

use sameport_policy::bind::plan::NewOwner;
use sameport_policy::bind::private;
use sameport_policy::launch;
use sameport_policy::membership::RunIdentity;
use sameport_sys::Errno;
use sameport_sys::proc;
use sameport_sys::socket::WorkerSocket;
use sameport_sys::socket::private_owner;

use crate::error::{PrivateGroupError, RunError};
use crate::plan::RunPlan;

impl RunPlan {
    /// The identity of the run, which decides its group.
    pub(crate) fn belonging(&self) -> RunIdentity {
        RunIdentity {
            group: self.scope.group.clone(),
            command: self.command.clone(),
            directory: launch::working_directory(
                proc::working_directory(std::process::id().cast_signed()).as_deref(),
                self.launch.directory.as_deref(),
            ),
        }
    }

    /// The owner of its group's sockets, if the group is private.
    pub(crate) fn owner(&self) -> Option<u32> {
        let user = sameport_sys::effective_user();
        self.scope.private.then(|| private::owner(user, &self.belonging()))
    }
}

/// Checks that the group can be private.
pub(crate) fn check(plan: &RunPlan) -> Result<(), RunError> {
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

/// Gives a socket to a private group, before its bind.
pub(crate) fn take_over(socket: &mut WorkerSocket, owner: NewOwner) -> Result<(), Errno> {
    socket.set_reuse_address(owner.reuse_address)?;
    socket.set_owner(owner.uid)
}
