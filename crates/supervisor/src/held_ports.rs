//! Addresses that other programs hold, for workers that wait for them.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::holder::Holder;
use sameport_policy::membership::NotAMember;
use sameport_policy::model::{Address, Member, Process};
use sameport_policy::refusal::Refusal;
use sameport_sys::inspect::SocketQuery;
use sameport_sys::{inspect, process, users};

use crate::pool::SocketPool;

/// Interval at which awaited addresses are checked.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// The most addresses that are remembered.
pub(crate) const MOST: usize = 64;

/// The addresses that other programs hold.
#[derive(Debug, Default)]
pub(crate) struct PortWaits {
    pub(crate) held: BTreeMap<String, HeldAddress>,
    pub(crate) next_check: Duration,
}

#[derive(Debug)]
pub(crate) struct HeldAddress {
    pub(crate) address: Address,
    /// The socket of the other program, if known.
    pub(crate) inode: Option<u64>,
}

impl HeldAddress {
    /// Whether another program's socket is on the address. Without a list it is unknown, and the worker
    /// waits.
    pub(crate) fn is_held(&self, pool: &SocketPool) -> bool {
        let Self { address, inode } = self;
        let query = SocketQuery::only(address.protocol).on(address.port());
        let Ok(sockets) = inspect::list_without_owners(&query) else { return true };
        let in_the_way = |other: &u64| match inode {
            Some(inode) => inode == other,
            None => !pool.holds(*other),
        };
        let overlapping = sockets.iter().filter(|socket| socket.address.overlaps(address));
        overlapping.map(|socket| socket.inode).any(|inode| in_the_way(&inode))
    }
}

/// The other program in the words of messages, and its socket; `None` if no other program is the
/// reason.
pub(crate) fn other_holder(refusal: &Refusal) -> Option<(String, Option<u64>)> {
    match refusal {
        Refusal::InUse(socket) => {
            let own = |process: &Process| {
                process.pid == std::process::id().cast_signed()
                    || process::is_descendant(process.pid)
            };
            let is_own = socket.holder.servers().any(own)
                || socket
                    .holder
                    .keepers
                    .iter()
                    .any(|keeper| keeper.pid() == std::process::id().cast_signed());
            let inode = Some(socket.inode).filter(|inode| *inode != 0);
            (!is_own).then(|| (text_of(&socket.holder), inode))
        }
        Refusal::OutsideGroup(NotAMember::OtherGroup(holder, _) | NotAMember::NoRun(holder, _)) => {
            Some((text_of(holder), None))
        }
        Refusal::OutsideGroup(NotAMember::Unseen) => Some(("a hidden program".into(), None)),
        _ => None,
    }
}

/// A process chooses its name.
fn text_of(holder: &Holder) -> String {
    holder.description().escape_debug().to_string()
}

/// The holder of a socket in the words of messages: `nginx (pid 4121, user root)`.
pub(crate) fn holder_of(member: &Member) -> String {
    let user = member.user.clone().unwrap_or_else(|| member.socket.uid.to_string());
    match member.processes.first() {
        Some(process) => of_process(process, Some(user)),
        None => format!("a program of user {user}"),
    }
}

/// `nginx (pid 4121, user root)`.
fn of_process(process: &Process, user: Option<String>) -> String {
    let uid = process.details.as_ref().and_then(|details| details.uid);
    let name = |uid: u32| users::user_name(uid).unwrap_or_else(|| uid.to_string());
    let user = user.or_else(|| uid.map(name));
    let user = user.map(|user| format!(", user {user}")).unwrap_or_default();
    // A process chooses its name.
    format!("{} (pid {}{user})", process.program.escape_debug(), process.pid)
}
