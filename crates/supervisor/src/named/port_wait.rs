//! Workers that wait for an address which another program holds.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::lifecycle::HeldPort;
use sameport_policy::membership::NotAMember;
use sameport_policy::model::{Address, Member, Process};
use sameport_policy::refusal::Refusal;
use sameport_sys::inspect::SocketQuery;
use sameport_sys::{inspect, process, users};

use super::NamedRun;
use crate::monitor::Monitor;

/// Interval at which awaited addresses are checked.
const INTERVAL: Duration = Duration::from_millis(250);

/// The most addresses that are remembered.
const MOST: usize = 64;

/// The addresses that other programs hold.
#[derive(Debug, Default)]
pub(super) struct PortWaits {
    held: BTreeMap<String, HeldAddress>,
    next_check: Duration,
}

#[derive(Debug)]
struct HeldAddress {
    address: Address,
    /// The socket of the other program, if known.
    inode: Option<u64>,
}

impl NamedRun<'_> {
    /// When to call [`Self::check_ports`] next.
    pub(super) fn next_port_check(&self) -> Option<Duration> {
        let waits = !self.lifecycle.awaited_ports().is_empty();
        waits.then_some(self.schedule.ports.next_check)
    }

    /// Reports to the lifecycle the refusals of binds that another program causes.
    pub(super) fn take_refusals(&mut self, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        for (address, refusal) in monitor.take_refusals() {
            let Some((holder, inode)) = other_holder(&refusal) else { continue };
            let port = HeldPort { address: address.to_string(), holder };
            let ports = &mut self.schedule.ports;
            if ports.held.len() < MOST {
                ports.held.insert(port.address.clone(), HeldAddress { address, inode });
            }
            let actions = self.lifecycle.port_held(&port, now);
            self.execute(actions, now);
        }
    }

    /// Starts the workers whose address is free.
    pub(super) fn check_ports(&mut self, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        if now < self.schedule.ports.next_check {
            return;
        }
        let awaited = self.lifecycle.awaited_ports();
        self.schedule.ports.next_check = now + INTERVAL;
        for name in &awaited {
            let held = self.schedule.ports.held.get(name);
            if held.is_some_and(|held| self.is_held(held)) {
                continue;
            }
            if let Some(held) = self.schedule.ports.held.remove(name) {
                // The next refusal has another reason.
                monitor.forget_refusal(&held.address);
            }
            let actions = self.lifecycle.port_free(name, now);
            self.execute(actions, now);
        }
    }

    /// Whether another program's socket is on the address. Without a list it is unknown, and the worker
    /// waits.
    fn is_held(&self, HeldAddress { address, inode }: &HeldAddress) -> bool {
        let query = SocketQuery::only(address.protocol).on(address.port());
        let Ok(sockets) = inspect::list_without_owners(&query) else { return true };
        let in_the_way = |other: &u64| match inode {
            Some(inode) => inode == other,
            None => !self.pool.holds(*other),
        };
        let overlapping = sockets.iter().filter(|socket| socket.address.overlaps(address));
        overlapping.map(|socket| socket.inode).any(|inode| in_the_way(&inode))
    }
}

/// The other program in the words of messages, and its socket; `None` if no other program is the
/// reason.
fn other_holder(refusal: &Refusal) -> Option<(String, Option<u64>)> {
    match refusal {
        Refusal::OtherUser(member)
        | Refusal::Private(member)
        | Refusal::CallerIsPrivate(member)
        | Refusal::NotShared(member)
        | Refusal::CallerNotShared(member) => of_member(member),
        Refusal::OutsideGroup(
            NotAMember::OtherGroup(process, _) | NotAMember::NoRun(process, _),
        ) => Some((of_process(process, None), None)),
        Refusal::OutsideGroup(NotAMember::Unseen) => Some(("a hidden program".into(), None)),
        _ => None,
    }
}

fn of_member(member: &Member) -> Option<(String, Option<u64>)> {
    let own = |process: &Process| {
        process.pid == std::process::id().cast_signed() || process::is_descendant(process.pid)
    };
    if member.processes.iter().any(own) {
        return None;
    }
    let user = member.user.clone().unwrap_or_else(|| member.socket.uid.to_string());
    let holder = match member.processes.first() {
        Some(process) => of_process(process, Some(user)),
        None => format!("a program of user {user}"),
    };
    Some((holder, Some(member.socket.inode)))
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
