//! Why the state of a port cannot be changed: the rights that miss, the members that have gone.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use sameport_policy::holder::HolderClass;
use sameport_sys::bpf::traffic::TrafficError;
use sameport_sys::bpf::{AttachError, PinError};

use super::error::{Error, NeedOfRights};
use super::port::{MemberSocket, PortMembers};

/// The error of the kernel's state, as far as this user can do something about it.
pub(super) fn state_error(port: &PortMembers, error: TrafficError) -> Error {
    match error {
        TrafficError::NoMember => Error::Vanished(port.name()),
        TrafficError::Changed => Error::Changed(port.name()),
        TrafficError::Socket(_, _, why) if is_gone(&why) => Error::Vanished(port.name()),
        TrafficError::Cgroup(_)
        | TrafficError::Attach(
            AttachError::NotPermitted(..) | AttachError::Kernel(_) | AttachError::LockedDown,
        )
        | TrafficError::Pin(PinError::NotPermitted(..) | PinError::NoFileSystem(_)) => {
            let is_mount = matches!(
                &error,
                TrafficError::Pin(PinError::NoFileSystem(_) | PinError::NotPermitted("mount", ..))
            );
            Error::Rights { port: port.name(), why: error.to_string(), needs: need(port), is_mount }
        }
        error => Error::State { port: port.name(), error: Box::new(error) },
    }
}

/// Whether a socket has left its group, or was closed, between two calls.
fn is_gone(error: &std::io::Error) -> bool {
    // EINVAL, EOPNOTSUPP: the socket does not listen any more.
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// Why the kernel's state cannot be changed.
pub(super) fn no_rights(port: &PortMembers, why: &str) -> Error {
    Error::Rights { port: port.name(), why: why.to_owned(), needs: need(port), is_mount: false }
}

/// Why no supervisor can do it.
pub(super) fn need(port: &PortMembers) -> NeedOfRights {
    if port.sockets.iter().any(|it| matches!(it.holder.class, HolderClass::Unseen)) {
        return NeedOfRights::Unseen;
    }
    let is_other = |it: &&MemberSocket| it.supervisor.is_none();
    let others = port.sockets.iter().filter(is_other).map(MemberSocket::program);
    let programs: BTreeSet<String> = others.map(str::to_owned).collect();
    if !programs.is_empty() {
        return NeedOfRights::OtherPrograms(programs.into_iter().collect());
    }
    let runs: BTreeSet<_> = port.sockets.iter().filter_map(|it| it.run.clone()).collect();
    NeedOfRights::SeveralRuns(runs.into_iter().collect())
}
