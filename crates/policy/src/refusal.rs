//! Why the kernel refused an address: facts in, a reason that a person can act on out.
//!
//! The kernel has refused. The predictor names the sockets that prevent the bind; of several, one is named
//! that the reader can do something about.

use std::time::Duration;

use crate::guard::AllowSpec;
use crate::holder::{Holder, HolderFacts, classify, time_wait};
use crate::membership::NotAMember;
use crate::model::{Address, Member, Protocol, is_private_uid};
use crate::predict::{
    BindRequest, Conflict, ExistingSocket, PortLimits, PredictedRefusal, PredictedResult,
    SocketUse, conflicts, existing_sockets, predict,
};

/// The facts after a bind or listen was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalFacts<'a> {
    /// The address asked for.
    pub address: &'a Address,
    /// Every socket with that port.
    pub members: &'a [Member],
    /// Closed connections of that port (TIME_WAIT), and the time until each ends.
    pub closing: &'a [(Address, Duration)],
    /// Who holds the sockets.
    pub holders: &'a HolderFacts,
    /// The user whose socket was refused: the socket's owner, not the process's.
    pub uid: u32,
    /// Whether that socket had `SO_REUSEPORT`.
    pub shared: bool,
    /// Whether the IP belongs to this machine (or is a wildcard).
    pub is_local: bool,
    /// Whether the port is below `net.ipv4.ip_unprivileged_port_start` and the worker lacks
    /// CAP_NET_BIND_SERVICE.
    pub needs_privilege: bool,
    /// The guard that refuses the caller the port.
    pub guard: Option<&'a RefusedByGuard>,
}

/// A guard, and what is known of the process that it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedByGuard {
    /// The guard.
    pub guard: GuardRefusal,
    /// Whether every property that the guard compares is known: the executable of a process that has ended
    /// is not.
    pub is_certain: bool,
}

/// A guard that refuses a bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRefusal {
    /// The guarded port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who may bind it.
    pub allow: Vec<AllowSpec>,
    /// The user of the refused process.
    pub uid: u32,
}

/// The reason, in the order in which the kernel checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// EPERM: a guard does not allow the process.
    Guarded(GuardRefusal),
    /// EADDRNOTAVAIL: no interface has this IP.
    NotLocal,
    /// EACCES: a low port and no CAP_NET_BIND_SERVICE.
    NeedsPrivilege,
    /// EADDRINUSE: a socket is in the way.
    InUse(Box<BlockingSocket>),
    /// EADDRINUSE from the supervisor, not the kernel: this member is outside the run's group.
    OutsideGroup(NotAMember),
    /// No visible socket explains it.
    Unexplained,
}

/// A socket that prevents the bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingSocket {
    /// Its address.
    pub address: Address,
    /// Its inode; 0 if no process has it open.
    pub inode: u64,
    /// Who holds it.
    pub holder: Holder,
    /// Why it prevents the bind.
    pub reason: BlockReason,
    /// The owner of the refused socket.
    pub caller: u32,
    /// Whether the refused socket had `SO_REUSEPORT`.
    pub caller_shares: bool,
}

/// Why a socket prevents the bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// It belongs to another user; only one user's sockets can share.
    OtherUser,
    /// It belongs to a private group, and the caller does not.
    Private,
    /// The caller belongs to a private group, and it does not.
    CallerIsPrivate,
    /// It has no `SO_REUSEPORT`.
    NotShared,
    /// The same, most likely: its options cannot be read.
    LikelyNotShared,
    /// The refused socket itself had no `SO_REUSEPORT`.
    CallerNotShared,
    /// It is a connection, not a listener.
    Connection,
    /// It is a closed connection, for at most this time.
    Closing(Duration),
}

/// Decides. Of several sockets in the way, one of another user is named first: the others could be
/// restarted, that one cannot.
#[must_use]
pub fn explain(facts: &RefusalFacts<'_>) -> Refusal {
    // The kernel asks the guard before it looks at the address.
    match facts.guard {
        Some(RefusedByGuard { guard, is_certain: true }) => Refusal::Guarded(guard.clone()),
        Some(RefusedByGuard { guard, .. }) => match explain_by_sockets(facts) {
            Refusal::Unexplained => Refusal::Guarded(guard.clone()),
            other => other,
        },
        None => explain_by_sockets(facts),
    }
}

fn explain_by_sockets(facts: &RefusalFacts<'_>) -> Refusal {
    let request = BindRequest {
        reuse_port: facts.shared,
        // As nearly every TCP server; `run` clears it on UDP.
        reuse_address: facts.address.protocol == Protocol::Tcp,
        ..BindRequest::plain(facts.address.clone(), facts.uid)
    };
    let limits = PortLimits {
        may_bind_low: !facts.needs_privilege,
        may_be_transparent: false,
        unprivileged_port_start: u16::MAX,
        is_local: facts.is_local,
        nonlocal_bind: false,
        device_exists: true,
    };
    let mut sockets = existing_sockets(facts.members);
    sockets.extend(facts.closing.iter().map(|(address, _)| closed(address)));
    let doubts = match predict(&request, &limits, &sockets).result {
        PredictedResult::Refused(PredictedRefusal::NotLocal) => return Refusal::NotLocal,
        PredictedResult::Refused(PredictedRefusal::NeedsPrivilege) => {
            return Refusal::NeedsPrivilege;
        }
        PredictedResult::Uncertain(doubts) => doubts.iter().map(|doubt| doubt.index).collect(),
        _ => vec![],
    };
    let certain = conflicts(&request, &sockets);
    let blocking = certain
        .iter()
        .find(|it| it.share_lacks.same_user)
        .or_else(|| certain.first())
        .map(|conflict| (conflict.index, reason(facts, &sockets, conflict)))
        .or_else(|| doubts.first().map(|index| (*index, doubtful(facts, &sockets, *index))));
    blocking.map_or(Refusal::Unexplained, |(index, reason)| {
        Refusal::InUse(Box::new(blocking_socket(facts, index, reason)))
    })
}

fn closed(address: &Address) -> ExistingSocket {
    ExistingSocket {
        address: address.clone(),
        usage: SocketUse::TimeWait,
        uid: 0,
        reuse_port: None,
        reuse_address: None,
    }
}

fn reason(
    facts: &RefusalFacts<'_>,
    sockets: &[ExistingSocket],
    conflict: &Conflict,
) -> BlockReason {
    let socket = &sockets[conflict.index];
    if conflict.share_lacks.same_user {
        return match (is_private_uid(socket.uid), is_private_uid(facts.uid)) {
            (true, _) => BlockReason::Private,
            (false, true) => BlockReason::CallerIsPrivate,
            (false, false) if socket.usage == SocketUse::Connected => BlockReason::Connection,
            (false, false) => BlockReason::OtherUser,
        };
    }
    match socket.usage {
        SocketUse::TimeWait => BlockReason::Closing(ends_in(facts, conflict.index)),
        SocketUse::Connected => BlockReason::Connection,
        _ if conflict.share_lacks.ours => BlockReason::CallerNotShared,
        _ => BlockReason::NotShared,
    }
}

fn doubtful(facts: &RefusalFacts<'_>, sockets: &[ExistingSocket], index: usize) -> BlockReason {
    match sockets[index].usage {
        SocketUse::TimeWait => BlockReason::Closing(ends_in(facts, index)),
        SocketUse::Connected => BlockReason::Connection,
        _ => BlockReason::LikelyNotShared,
    }
}

fn ends_in(facts: &RefusalFacts<'_>, index: usize) -> Duration {
    let closing = index.checked_sub(facts.members.len()).and_then(|at| facts.closing.get(at));
    closing.map_or(Duration::ZERO, |(_, ends_in)| *ends_in)
}

fn blocking_socket(facts: &RefusalFacts<'_>, index: usize, reason: BlockReason) -> BlockingSocket {
    let all: Vec<&Member> = facts.members.iter().collect();
    let (caller, caller_shares) = (facts.uid, facts.shared);
    match facts.members.get(index) {
        Some(member) => BlockingSocket {
            address: member.socket.address.clone(),
            inode: member.socket.inode,
            holder: classify(member, &all, facts.holders),
            reason,
            caller,
            caller_shares,
        },
        None => BlockingSocket {
            address: facts.address.clone(),
            inode: 0,
            holder: time_wait(None),
            reason,
            caller,
            caller_shares,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Socket, SocketState};

    fn member(address: &str, uid: u32, shared: Option<bool>) -> Member {
        let address = Address::new(Protocol::Tcp, address.parse().unwrap());
        Member { shared, ..Member::new(Socket::new(address, 1, uid)) }
    }

    /// The socket in the way and the reason; `None` if nothing explains the refusal.
    fn blocked_by(facts: &RefusalFacts<'_>) -> Option<(Address, BlockReason)> {
        match explain(facts) {
            Refusal::InUse(socket) => Some((socket.address, socket.reason)),
            Refusal::Unexplained => None,
            other => panic!("{other:?}"),
        }
    }

    fn facts<'a>(
        address: &'a Address,
        holders: &'a HolderFacts,
        members: &'a [Member],
    ) -> RefusalFacts<'a> {
        RefusalFacts {
            address,
            members,
            closing: &[],
            holders,
            uid: 7,
            shared: true,
            is_local: true,
            needs_privilege: false,
            guard: None,
        }
    }

    #[test]
    fn a_guard_is_named_before_the_sockets_if_it_certainly_refuses() {
        let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse().unwrap());
        let holders = HolderFacts::default();
        let unshared = [member("0.0.0.0:80", 7, Some(false))];
        let allow = vec![AllowSpec::Executable("/usr/bin/api".to_owned())];
        let guard = GuardRefusal { port: 80, protocol: Protocol::Tcp, allow, uid: 7 };
        for (is_certain, members, is_guard) in [
            (true, &[][..], true),
            (true, &unshared, true),
            (false, &[], true),
            (false, &unshared, false),
        ] {
            let guard = RefusedByGuard { guard: guard.clone(), is_certain };
            let facts = RefusalFacts { guard: Some(&guard), ..facts(&address, &holders, members) };
            let is_named = explain(&facts) == Refusal::Guarded(guard.guard.clone());
            assert_eq!(is_named, is_guard, "{is_certain} {members:?}");
        }
    }

    #[test]
    fn facts_to_reason() {
        use BlockReason::*;
        let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse().unwrap());
        let holders = HolderFacts::default();
        let unshared = member("0.0.0.0:80", 7, Some(false));
        let unknown = member("0.0.0.0:80", 7, None);
        let sharing = member("127.0.0.1:80", 7, Some(true));
        let foreign = member("[::]:80", 9, Some(true));
        let elsewhere = member("127.0.0.2:80", 9, Some(false));
        let reserved = member("[::]:80", 0x7000_0001, Some(true));
        let mut connection = member("127.0.0.1:80", 7, None);
        connection.socket.state = SocketState::Connected;
        let (ours, private) = (7, 0x7000_0001);
        // The sockets, the caller's owner and SO_REUSEPORT, and the one that is named.
        type Case<'a> = (&'a [&'a Member], u32, bool, Option<(&'a Member, BlockReason)>);
        let cases: [Case<'_>; 14] = [
            (&[], ours, true, None),
            (&[&elsewhere], ours, true, None),
            (&[&sharing], ours, true, None),
            (&[&unshared], ours, true, Some((&unshared, NotShared))),
            (&[&sharing, &unknown, &unshared], ours, true, Some((&unshared, NotShared))),
            (&[&sharing, &unknown], ours, true, Some((&unknown, LikelyNotShared))),
            (&[&unshared, &foreign], ours, true, Some((&foreign, OtherUser))),
            (&[&unshared, &reserved], ours, true, Some((&reserved, Private))),
            (&[&reserved, &unshared], private, true, Some((&unshared, CallerIsPrivate))),
            (&[&reserved], private + 1, true, Some((&reserved, Private))),
            (&[&reserved], private, true, None),
            (&[&sharing], ours, false, Some((&sharing, CallerNotShared))),
            (&[&connection], ours, true, Some((&connection, Connection))),
            (&[&connection, &unshared], ours, true, Some((&unshared, NotShared))),
        ];
        for (list, uid, shared, expected) in cases {
            let members: Vec<Member> = list.iter().map(|member| (*member).clone()).collect();
            let found =
                blocked_by(&RefusalFacts { uid, shared, ..facts(&address, &holders, &members) });
            let expected = expected.map(|(it, reason)| (it.socket.address.clone(), reason));
            assert_eq!(found, expected, "{members:?} {uid} {shared}");
        }
        let low = RefusalFacts {
            needs_privilege: true,
            ..facts(&address, &holders, std::slice::from_ref(&foreign))
        };
        assert_eq!(explain(&low), Refusal::NeedsPrivilege);
        let away = RefusalFacts { is_local: false, ..low };
        assert_eq!(explain(&away), Refusal::NotLocal);
        let second = Duration::from_secs(1);
        let closing = [(address.clone(), second)];
        let closing = RefusalFacts { closing: &closing, ..facts(&address, &holders, &[]) };
        assert_eq!(blocked_by(&closing), Some((address.clone(), Closing(second))));
    }
}
