//! Why the kernel refused an address: facts in, a reason that a person can act on out.

use crate::membership::NotAMember;
use crate::model::{Address, Member};

/// The facts after a bind or listen was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalFacts<'a> {
    /// The address asked for.
    pub address: &'a Address,
    /// Every listening TCP and bound UDP socket with that port.
    pub members: &'a [Member],
    /// The user whose socket was refused: the socket's owner, not the process's.
    pub uid: u32,
    /// Whether that socket had `SO_REUSEPORT`.
    pub shared: bool,
    /// Whether the IP belongs to this machine (or is a wildcard).
    pub is_local: bool,
    /// Whether the port is below `net.ipv4.ip_unprivileged_port_start` and the worker lacks
    /// CAP_NET_BIND_SERVICE.
    pub needs_privilege: bool,
}

/// The reason, in the order in which the kernel checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// EADDRNOTAVAIL: no interface has this IP.
    NotLocal,
    /// EACCES: a low port and no CAP_NET_BIND_SERVICE.
    NeedsPrivilege,
    /// EADDRINUSE: this member belongs to another user; only one user's sockets can share.
    OtherUser(Member),
    /// EADDRINUSE: this member belongs to a private group, and the caller does not.
    Private(Member),
    /// EADDRINUSE: the caller belongs to a private group, and this member does not.
    CallerIsPrivate(Member),
    /// EADDRINUSE: this member, of the same user, has no `SO_REUSEPORT`.
    NotShared(Member),
    /// EADDRINUSE: the refused socket itself had no `SO_REUSEPORT`, this member may.
    CallerNotShared(Member),
    /// EADDRINUSE from the supervisor, not the kernel: this member is outside the run's group.
    OutsideGroup(NotAMember),
    /// No visible socket explains it: a connection may still hold the port, or a socket that is bound
    /// and does not listen.
    Unexplained,
}

/// Decides. Of several members in the way, one of another user is named first: the others could
/// be restarted, that one cannot.
#[must_use]
pub fn explain(facts: &RefusalFacts<'_>) -> Refusal {
    if !facts.is_local {
        return Refusal::NotLocal;
    }
    if facts.needs_privilege {
        return Refusal::NeedsPrivilege;
    }
    let in_the_way = || facts.members.iter().filter(|m| m.socket.address.overlaps(facts.address));
    if let Some(other) = in_the_way().find(|member| member.socket.uid != facts.uid) {
        return match (other.socket.is_private(), crate::model::is_private_uid(facts.uid)) {
            (true, _) => Refusal::Private(other.clone()),
            (false, true) => Refusal::CallerIsPrivate(other.clone()),
            (false, false) => Refusal::OtherUser(other.clone()),
        };
    }
    if !facts.shared {
        return in_the_way().next().cloned().map_or(Refusal::Unexplained, Refusal::CallerNotShared);
    }
    // A member that surely shares cannot be the reason; one that may not is the likeliest.
    in_the_way()
        .find(|member| member.shared == Some(false))
        .or_else(|| in_the_way().find(|member| member.shared.is_none()))
        .cloned()
        .map_or(Refusal::Unexplained, Refusal::NotShared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Socket};

    fn member(address: &str, uid: u32, shared: Option<bool>) -> Member {
        let address = Address::new(Protocol::Tcp, address.parse().unwrap());
        Member { shared, ..Member::new(Socket::new(address, 1, uid)) }
    }

    #[test]
    fn facts_to_reason() {
        let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse().unwrap());
        let unshared = member("0.0.0.0:80", 7, Some(false));
        let unknown = member("0.0.0.0:80", 7, None);
        let sharing = member("127.0.0.1:80", 7, Some(true));
        let foreign = member("[::]:80", 9, Some(true));
        let elsewhere = member("127.0.0.2:80", 9, Some(false));

        let facts = |members: &'static [Member]| RefusalFacts {
            address: Box::leak(Box::new(address.clone())),
            members,
            uid: 7,
            shared: true,
            is_local: true,
            needs_privilege: false,
        };
        let members = |list: &[&Member]| -> &'static [Member] {
            list.iter().map(|m| (*m).clone()).collect::<Vec<_>>().leak()
        };

        assert_eq!(explain(&facts(members(&[]))), Refusal::Unexplained);
        assert_eq!(explain(&facts(members(&[&elsewhere]))), Refusal::Unexplained);
        assert_eq!(explain(&facts(members(&[&sharing]))), Refusal::Unexplained);
        assert_eq!(explain(&facts(members(&[&unshared]))), Refusal::NotShared(unshared.clone()));
        assert_eq!(
            explain(&facts(members(&[&sharing, &unknown, &unshared]))),
            Refusal::NotShared(unshared.clone())
        );
        assert_eq!(
            explain(&facts(members(&[&sharing, &unknown]))),
            Refusal::NotShared(unknown.clone())
        );
        assert_eq!(
            explain(&facts(members(&[&unshared, &foreign]))),
            Refusal::OtherUser(foreign.clone())
        );
        let reserved = member("[::]:80", 0x7000_0001, Some(true));
        assert_eq!(
            explain(&facts(members(&[&unshared, &reserved]))),
            Refusal::Private(reserved.clone())
        );
        let from_within =
            |uid, list: &[&Member]| explain(&RefusalFacts { uid, ..facts(members(list)) });
        assert_eq!(
            from_within(0x7000_0001, &[&reserved, &unshared]),
            Refusal::CallerIsPrivate(unshared.clone())
        );
        assert_eq!(from_within(0x7000_0002, &[&reserved]), Refusal::Private(reserved.clone()));
        assert_eq!(from_within(0x7000_0001, &[&reserved]), Refusal::Unexplained);
        let alone = RefusalFacts { shared: false, ..facts(members(&[&sharing])) };
        assert_eq!(explain(&alone), Refusal::CallerNotShared(sharing.clone()));
        let low = RefusalFacts { needs_privilege: true, ..facts(members(&[&foreign])) };
        assert_eq!(explain(&low), Refusal::NeedsPrivilege);
        let away = RefusalFacts { is_local: false, ..low };
        assert_eq!(explain(&away), Refusal::NotLocal);
    }
}
