//! Sockets outside a run that take a part of its traffic, because their address is more specific.

use std::collections::BTreeSet;

use sameport_policy::model::{Address, Member, Process};
use sameport_sys::inspect::SocketQuery;
use sameport_sys::{inspect, process};

use crate::held_ports::holder_of;

/// The limit of ports that are inspected: `status` is answered between other work.
const MOST_PORTS: usize = 16;

/// A remark for each socket of another program whose address is within one of these. `is_held`: whether the
/// run holds the socket with this inode.
pub(crate) fn remarks(addresses: &[Address], is_held: impl Fn(u64) -> bool) -> Vec<String> {
    // The kernel prefers a narrower address only to a wildcard, as far as IP addresses go.
    let wide: Vec<&Address> =
        addresses.iter().filter(|address| address.socket.ip().is_unspecified()).collect();
    let ports: BTreeSet<_> =
        wide.iter().map(|address| (address.protocol, address.port())).collect();
    let mut remarks = Vec::new();
    for (protocol, port) in ports.into_iter().take(MOST_PORTS) {
        let query = SocketQuery::only(protocol).on(port);
        let is_narrower = |address: &Address| wide.iter().any(|wide| address.is_within(wide));
        let sockets = inspect::list_without_owners(&query).unwrap_or_default();
        let found: BTreeSet<u64> = sockets
            .iter()
            .filter(|socket| is_narrower(&socket.address) && !is_held(socket.inode))
            .map(|socket| socket.inode)
            .collect();
        // Owners cost a look at every process.
        if found.is_empty() {
            continue;
        }
        let Ok(snapshot) = inspect::list_sockets(&query) else { continue };
        let others = snapshot.members.iter().filter(|it| found.contains(&it.socket.inode));
        remarks.extend(others.filter(|member| !is_own(member)).map(remark));
    }
    remarks
}

/// Whether only processes of this run have the socket open.
fn is_own(member: &Member) -> bool {
    let is_own = |process: &Process| process::is_descendant(process.pid);
    !member.processes.is_empty() && member.processes.iter().all(is_own)
}

fn remark(member: &Member) -> String {
    let (address, holder) = (&member.socket.address, holder_of(member));
    format!("{address} is bound by {holder}, which takes its traffic")
}
