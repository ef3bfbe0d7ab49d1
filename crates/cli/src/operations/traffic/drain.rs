//! `drain`: no new connections for a member, and the wait for those that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sameport_policy::model::Protocol;
use sameport_policy::model::name::RunName;
use sameport_policy::traffic::facts::SocketId;
use sameport_sys::inspect;
use sameport_sys::inspect::{InspectError, SocketQuery};

use super::held::HeldTraffic;
use super::port;
use super::port::PortMembers;

/// Interval of readings.
const INTERVAL: Duration = Duration::from_millis(20);

/// The interval is at least this multiple of the time that a reading takes.
const COST: u32 = 8;

/// Readings without a waiting connection, after which the queue counts as empty: a handshake that began
/// before the drain ends in between.
const EMPTY_READINGS: u32 = 3;

/// A member that is drained, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrainedMember {
    /// Every process that serves it, the main one first.
    pub(crate) pids: Vec<i32>,
    pub(crate) program: String,
    pub(crate) run: Option<RunName>,
    pub(crate) worker: Option<u16>,
    pub(crate) sockets: Vec<SocketId>,
    /// Whether a socket is still open.
    pub(crate) is_there: bool,
    /// Connections that it has not accepted.
    pub(crate) queue: u32,
    /// Connections that it has accepted and that are open; `None` if they cannot be counted, as for UDP.
    pub(crate) open: Option<u32>,
}

/// Until when to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainWait {
    /// Until the last open connection has ended, not only until the queues are empty.
    pub(crate) connections: bool,
    /// The longest wait.
    pub(crate) timeout: Option<Duration>,
}

/// The end of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrainEnd {
    pub(crate) members: Vec<DrainedMember>,
    /// Whether nothing is left to wait for.
    pub(crate) complete: bool,
}

/// Open and pending connections of a member, as the kernel's counters have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemberCounts {
    pub(crate) open: u32,
    /// Chosen, and not established yet.
    pub(crate) pending: u32,
}

/// What reads the counters of the kernel for a port.
pub(crate) fn counters(
    port: &PortMembers,
) -> impl Fn() -> Option<BTreeMap<u64, MemberCounts>> + use<> {
    let held = HeldTraffic::find(port).ok().flatten();
    let inodes: Vec<(u64, u64)> =
        port.sockets.iter().map(|it| (it.member.socket.inode, it.member.socket.cookie)).collect();
    move || {
        let (counts, _) = held.as_ref()?.counts();
        let mut seen = BTreeSet::new();
        let of = |(inode, cookie): &(u64, u64)| {
            let counts = counts.get(cookie)?;
            // Several sockets of one member have the same counts.
            let is_first = seen.insert(counts.number);
            let open = if is_first { counts.open } else { 0 };
            Some((*inode, MemberCounts { open, pending: counts.pending }))
        };
        Some(inodes.iter().filter_map(of).collect())
    }
}

/// Waits until the members of `drained` have what `wait` says. `counts`: the counters of the kernel by inode,
/// where it has them. `report` gets each reading that differs from the one before.
///
/// # Errors
///
/// See [`InspectError`].
pub(crate) fn wait(
    port: &PortMembers,
    mut drained: Vec<DrainedMember>,
    wait: DrainWait,
    counts: &dyn Fn() -> Option<BTreeMap<u64, MemberCounts>>,
    report: &mut dyn FnMut(&[DrainedMember]),
) -> Result<DrainEnd, InspectError> {
    let begun = Instant::now();
    let (mut empty, mut last) = (0, Vec::new());
    loop {
        let reading = Instant::now();
        let now = counts();
        read(port, &mut drained, now.as_ref())?;
        let is_pending = |member: &DrainedMember| {
            let of = |id: &SocketId| now.as_ref().and_then(|now| now.get(&id.inode));
            member.sockets.iter().filter_map(of).any(|counts| counts.pending > 0)
        };
        let is_queued = drained.iter().any(|it| it.is_there && (it.queue > 0 || is_pending(it)));
        empty = if is_queued { 0 } else { empty + 1 };
        let is_open = |it: &DrainedMember| it.is_there && it.open.is_some_and(|open| open > 0);
        let none_left = !wait.connections || !drained.iter().any(is_open);
        if empty >= EMPTY_READINGS && none_left {
            return Ok(DrainEnd { members: drained, complete: true });
        }
        if wait.timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            return Ok(DrainEnd { members: drained, complete: false });
        }
        if drained != last {
            report(&drained);
            last.clone_from(&drained);
        }
        let pause = INTERVAL.max(reading.elapsed() * COST);
        let left = wait.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        sleep(left.map_or(pause, |left| pause.min(left)));
    }
}

/// Reads the queues and connections of these members.
fn read(
    port: &PortMembers,
    drained: &mut [DrainedMember],
    counts: Option<&BTreeMap<u64, MemberCounts>>,
) -> Result<(), InspectError> {
    let query = SocketQuery::only(port.protocol).on(port.port);
    let queues: BTreeMap<u64, u32> = inspect::list_without_owners(&query)?
        .into_iter()
        .map(|socket| (socket.inode, socket.queue))
        .collect();
    let by_process = port::of_protocol(port.protocol, port.port, None)?.and_then(|port| port.open);
    for member in drained {
        let inodes: BTreeSet<u64> = member.sockets.iter().map(|id| id.inode).collect();
        let of_sockets = inodes.iter().filter_map(|inode| queues.get(inode));
        member.is_there = of_sockets.clone().next().is_some();
        member.queue = of_sockets.sum();
        let of = |inode: &u64| counts.and_then(|counts| counts.get(inode)).map(|it| it.open);
        let counted = inodes.iter().filter_map(of).reduce(|one, other| one + other);
        let counted = counted.map(|open| open.saturating_sub(member.queue));
        let of =
            |open: &BTreeMap<i32, u32>| member.pids.iter().filter_map(|pid| open.get(pid)).sum();
        // A connection that is older than the counters, or is with another process, is in one of the two.
        member.open = match port.protocol {
            Protocol::Tcp => counted.max(by_process.as_ref().map(of)),
            Protocol::Udp => None,
        };
    }
    Ok(())
}
