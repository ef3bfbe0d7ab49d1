//! The owner of a socket in the words of messages and tables.

use sameport_policy::holder::{Holder, HolderClass};
use sameport_policy::model::Member;

use super::text::printable;

/// The login name of the socket's owner, else the uid. The owner of a private group is no user.
pub(crate) fn owner(member: &Member) -> String {
    match (member.socket.is_private(), member.user.as_deref()) {
        (true, _) => "private".to_owned(),
        (false, Some(name)) => printable(name),
        (false, None) => member.socket.uid.to_string(),
    }
}

/// `pid 4121 (python3)`, `pid 4121 (node, run web, worker 1)`, `pid 777 (nginx, nginx.service)`, or the
/// part of it that is known.
pub(crate) fn holder_label(holder: &Holder) -> String {
    let Some(process) = &holder.process else { return printable(&holder.description()) };
    let place = match &holder.class {
        HolderClass::Run { of, .. } => Some(of.description()),
        HolderClass::UnitProcess(unit) => Some(unit.name.clone()),
        HolderClass::ContainerProxy(name) | HolderClass::Container(name) => {
            Some(name.description())
        }
        _ => None,
    };
    let words = [Some(process.program.clone()), place];
    let words: Vec<_> = words.into_iter().flatten().map(|word| printable(&word)).collect();
    format!("pid {} ({})", process.pid, words.join(", "))
}
