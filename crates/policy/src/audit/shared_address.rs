//! Strangers on one address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::port_view::{Participant, PortView};
use super::shared_by_design::is_shared_by_design;
use super::{Finding, FindingKind, Severity};
use crate::model::{Address, Protocol};

pub(super) fn findings(scene: &PortView<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(IpAddr, Option<&str>), Vec<Participant<'_>>> = BTreeMap::new();
    for actor in scene.waiting() {
        groups.entry(traffic(actor.address())).or_default().push(actor);
    }
    groups.values().flat_map(|group| of_group(scene, group)).collect()
}

/// What two sockets have in common that the kernel chooses between. Both kinds of the IPv6 wildcard
/// take IPv6, and `::ffff:127.0.0.1` is 127.0.0.1.
fn traffic(address: &Address) -> (IpAddr, Option<&str>) {
    (address.socket.ip().to_canonical(), address.device.as_deref())
}

/// Everybody is compared with the one who was there first.
fn of_group(scene: &PortView<'_>, group: &[Participant<'_>]) -> Vec<Finding> {
    let by_design = group.iter().all(|actor| is_shared_by_design(actor.address()));
    let Some((owner, others)) = group.split_first().filter(|_| !by_design) else {
        return Vec::new();
    };
    let mut told = Vec::new();
    let mut findings = Vec::new();
    for other in others {
        let Some((kind, severity)) = verdict(scene.protocol, owner, other) else { continue };
        // One finding a program is enough.
        let who = (other.program, other.member.socket.uid, kind);
        if told.contains(&who) {
            continue;
        }
        told.push(who);
        findings.push(scene.finding(kind, severity, owner, other));
    }
    findings
}

fn verdict(
    protocol: Protocol,
    owner: &Participant<'_>,
    other: &Participant<'_>,
) -> Option<(FindingKind, Severity)> {
    let steered =
        [owner, other].iter().any(|actor| actor.member.position.is_some_and(|it| it.steered));
    if owner.is_stranger_to(other) {
        if owner.has_other_user_than(other) {
            return match protocol {
                Protocol::Tcp => Some((FindingKind::DuplicateListener, Severity::Danger)),
                Protocol::Udp => Some((FindingKind::NewestTakesAll, Severity::Danger)),
            };
        }
        return Some(match protocol {
            _ if steered => (FindingKind::SteeredByStranger, Severity::Danger),
            Protocol::Udp if newest_takes_all(owner, other) => {
                (FindingKind::NewestTakesAll, Severity::Danger)
            }
            _ => (FindingKind::SharedWithStranger, Severity::Warning),
        });
    }
    let one_is_unseen = owner.program.is_some() != other.program.is_some();
    let unseen =
        one_is_unseen && !owner.has_other_user_than(other) && !owner.shares_cgroup_with(other);
    unseen.then_some(match steered {
        true => (FindingKind::SteeredByStranger, Severity::Danger),
        false => (FindingKind::SharedWithUnseen, Severity::Warning),
    })
}

/// `SO_REUSEADDR` on both lets a UDP socket in, and only `SO_REUSEPORT` on both makes them share.
fn newest_takes_all(owner: &Participant<'_>, other: &Participant<'_>) -> bool {
    let both = [owner.member.options, other.member.options];
    let known = both.iter().all(Option::is_some);
    known && !both.iter().flatten().all(|options| options.reuse_port)
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, actor, api, stranger, tcp, udp};
    use crate::model::{GroupPosition, Member, SocketOptions};

    const AT: &str = "0.0.0.0:8443";

    fn reuse_address(member: &mut Member) {
        member.options = Some(SocketOptions { reuse_address: true, ..SocketOptions::default() });
    }

    fn reuse_port(member: &mut Member) {
        member.options = Some(SocketOptions { reuse_port: true, ..SocketOptions::default() });
    }

    #[test]
    fn a_stranger_of_the_same_user() {
        let (api, stranger) = (api(), stranger());
        let shared = ("shared-with-stranger", "warning", 2, 200, 1);
        for at in [tcp(AT), udp(AT), tcp("[::1]:8443")] {
            PortFixture::default()
                .with(at.clone(), &[&api])
                .with(at, &[&stranger])
                .finds(&[shared]);
        }
        // Many sockets of each are one finding.
        let many = PortFixture::default().with(tcp(AT), &[&api]).with(tcp(AT), &[&stranger]);
        many.with(tcp(AT), &[&api]).with(tcp(AT), &[&stranger]).finds(&[shared]);
        // A service is at home, however late it came.
        let late = actor(900, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        PortFixture::default().with(tcp(AT), &[&stranger]).with(tcp(AT), &[&late]).finds(&[(
            "shared-with-stranger",
            "warning",
            1,
            200,
            2,
        )]);
        // However it is written.
        PortFixture::default()
            .with(tcp("127.0.0.1:8443"), &[&api])
            .with(tcp("[::ffff:127.0.0.1]:8443"), &[&stranger])
            .finds(&[shared]);
    }

    #[test]
    fn whoever_steers_gets_all() {
        let steered = |member: &mut Member| {
            member.position = Some(GroupPosition { index: 1, of: 2, steered: true });
        };
        let danger = [("steered-by-stranger", "danger", 2, 200, 1)];
        PortFixture::default()
            .with_but(tcp(AT), &[&api()], steered)
            .with_but(tcp(AT), &[&stranger()], steered)
            .finds(&danger);
        let worker = actor(101, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        PortFixture::default()
            .with_but(tcp(AT), &[&api()], steered)
            .with_but(tcp(AT), &[&worker], steered)
            .finds(&[]);
    }

    #[test]
    fn users_on_one_udp_address() {
        let bob = stranger().of_user(1001);
        let danger = [("newest-takes-all", "danger", 2, 200, 1)];
        PortFixture::default()
            .of(1000, udp(AT), &[&api()])
            .of(1001, udp(AT), &[&bob])
            .finds(&danger);
        // Nobody's processes can be seen, and that is enough to know.
        let unseen = [("newest-takes-all", "danger", 2, 0, 1)];
        PortFixture::default().of(1000, udp(AT), &[]).of(1001, udp(AT), &[]).finds(&unseen);
        let listeners = [("duplicate-listener", "danger", 2, 200, 1)];
        PortFixture::default()
            .of(1000, tcp(AT), &[&api()])
            .of(1001, tcp(AT), &[&bob])
            .finds(&listeners);
        // A service that gives up root has sockets of both.
        let as_root = api().of_user(0);
        PortFixture::default().of(0, udp(AT), &[&as_root]).of(1000, udp(AT), &[&api()]).finds(&[]);
        let beside = |uid| {
            move |member: &mut Member| {
                member.socket.uid = uid;
                member.socket.cgroup = Some(77);
            }
        };
        PortFixture::default()
            .with_but(udp(AT), &[], beside(0))
            .with_but(udp(AT), &[], beside(1000))
            .finds(&[]);
    }

    #[test]
    fn one_user_on_one_udp_address() {
        let danger = [("newest-takes-all", "danger", 2, 200, 1)];
        let warning = [("shared-with-stranger", "warning", 2, 200, 1)];
        PortFixture::default()
            .with_but(udp(AT), &[&api()], reuse_address)
            .with_but(udp(AT), &[&stranger()], reuse_address)
            .finds(&danger);
        PortFixture::default()
            .with_but(udp(AT), &[&api()], reuse_port)
            .with_but(udp(AT), &[&stranger()], reuse_port)
            .finds(&warning);
        for multicast in ["0.0.0.0:5353", "224.0.0.251:5353", "239.0.0.1:9999"] {
            PortFixture::default()
                .of(0, udp(multicast), &[&api()])
                .of(1000, udp(multicast), &[&stranger()])
                .finds(&[]);
        }
        PortFixture::default()
            .of(0, udp("127.0.0.1:5353"), &[&api()])
            .of(1000, udp("127.0.0.1:5353"), &[&stranger()])
            .finds(&danger);
    }

    #[test]
    fn a_member_that_nobody_is_seen_to_have() {
        let unseen = [("shared-with-unseen", "warning", 2, 0, 1)];
        PortFixture::default().with(tcp(AT), &[&api()]).with(tcp(AT), &[]).finds(&unseen);
        let nobody = PortFixture::default().with(tcp(AT), &[]).with(tcp(AT), &[]);
        nobody.finds(&[]);
        let made_beside = |member: &mut Member| member.socket.cgroup = Some(77);
        PortFixture::default()
            .with_but(tcp(AT), &[&api()], made_beside)
            .with_but(tcp(AT), &[], made_beside)
            .finds(&[]);
    }

    #[test]
    fn one_program_may_be_there_as_often_as_it_likes() {
        let worker = |pid| actor(pid, "/usr/bin/server", &[]);
        let (one, two, three) = (worker(1000), worker(1001), worker(1002));
        PortFixture::default()
            .with(tcp(AT), &[&one, &two])
            .with(tcp(AT), &[&two])
            .with(tcp(AT), &[&three])
            .finds(&[]);
    }
}
