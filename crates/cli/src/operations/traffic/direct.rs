//! Groups that no supervisor has whole: programs that sameport did not start, and several runs.

use std::collections::BTreeSet;

use sameport_policy::holder::HolderClass;

use super::error::{Error, NeedOfRights};
use super::port::{MemberSocket, PortMembers};

/// Why the kernel's state cannot be changed.
pub(super) fn no_rights(port: &PortMembers, why: &str) -> Error {
    Error::Rights { port: port.name(), why: why.to_owned(), needs: need(port) }
}

/// Why no supervisor can do it.
fn need(port: &PortMembers) -> NeedOfRights {
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
