//! Different programs on one address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding::{Finding, FindingKind, Severity};
use super::fix;
use super::port_view::{Participant, PortView};
use super::shared_by_design::is_shared_by_design;
use crate::model::{Address, Protocol};

pub(super) fn findings(view: &PortView<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(IpAddr, Option<&str>), Vec<Participant<'_>>> = BTreeMap::new();
    for participant in view.waiting() {
        groups.entry(traffic(participant.address())).or_default().push(participant);
    }
    groups.values().flat_map(|group| group_findings(view, group)).collect()
}

/// The kernel chooses between two sockets if this is equal. Both kinds of the IPv6 wildcard receive
/// IPv6, and `::ffff:127.0.0.1` is 127.0.0.1.
fn traffic(address: &Address) -> (IpAddr, Option<&str>) {
    (address.socket.ip().to_canonical(), address.device.as_deref())
}

/// Compares each member with the owner: one finding for each other program, user and kind.
fn group_findings(view: &PortView<'_>, group: &[Participant<'_>]) -> Vec<Finding> {
    let by_design = group.iter().all(|participant| is_shared_by_design(participant.address()));
    let Some((owner, others)) = group.split_first().filter(|_| !by_design) else {
        return Vec::new();
    };
    let mut reported = Vec::new();
    let mut findings = Vec::new();
    for other in others {
        let Some((kind, severity)) = verdict(view.protocol, owner, other) else { continue };
        let key = (other.program, other.member.socket.uid, kind);
        if !reported.contains(&key) {
            reported.push(key);
            let fix = fix::guard(view, owner, other);
            findings.push(view.finding(kind, severity, owner, other, fix));
        }
    }
    findings
}

fn verdict(
    protocol: Protocol,
    owner: &Participant<'_>,
    other: &Participant<'_>,
) -> Option<(FindingKind, Severity)> {
    let is_steered = |it: &Participant<'_>| it.member.position.is_some_and(|it| it.steered);
    let steered = is_steered(owner) || is_steered(other);
    let other_user = owner.has_other_user_than(other);
    if owner.is_stranger_to(other) {
        return Some(match protocol {
            Protocol::Tcp if other_user => (FindingKind::DuplicateListener, Severity::Danger),
            Protocol::Udp if other_user => (FindingKind::NewestTakesAll, Severity::Danger),
            _ if steered => (FindingKind::SteeredByStranger, Severity::Danger),
            Protocol::Udp if newest_takes_all(owner, other) => {
                (FindingKind::NewestTakesAll, Severity::Danger)
            }
            _ => (FindingKind::SharedWithStranger, Severity::Warning),
        });
    }
    let one_is_hidden = owner.program.is_some() != other.program.is_some();
    let unexplained = one_is_hidden && !other_user && !owner.shares_cgroup_with(other);
    unexplained.then_some(match steered {
        true => (FindingKind::SteeredByStranger, Severity::Danger),
        false => (FindingKind::SharedWithUnseen, Severity::Warning),
    })
}

/// `SO_REUSEADDR` on both UDP sockets allows the second bind; only `SO_REUSEPORT` on both makes them
/// share.
fn newest_takes_all(owner: &Participant<'_>, other: &Participant<'_>) -> bool {
    let options = owner.member.options.zip(other.member.options);
    options.is_some_and(|(one, other)| !(one.reuse_port && other.reuse_port))
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, process, stranger, tcp, udp};
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
        // More sockets of the same programs are no more findings.
        let many = PortFixture::default().with(tcp(AT), &[&api]).with(tcp(AT), &[&stranger]);
        many.with(tcp(AT), &[&api]).with(tcp(AT), &[&stranger]).finds(&[shared]);
        // A service is the owner, even if it started later.
        let late = process(900, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        PortFixture::default().with(tcp(AT), &[&stranger]).with(tcp(AT), &[&late]).finds(&[(
            "shared-with-stranger",
            "warning",
            1,
            200,
            2,
        )]);
        // The same address in IPv4-mapped form.
        PortFixture::default()
            .with(tcp("127.0.0.1:8443"), &[&api])
            .with(tcp("[::ffff:127.0.0.1]:8443"), &[&stranger])
            .finds(&[shared]);
    }

    #[test]
    fn a_program_on_the_group_is_dangerous() {
        let steered = |member: &mut Member| {
            member.position = Some(GroupPosition { index: 1, of: 2, steered: true });
        };
        let danger = [("steered-by-stranger", "danger", 2, 200, 1)];
        PortFixture::default()
            .with_changed(tcp(AT), &[&api()], steered)
            .with_changed(tcp(AT), &[&stranger()], steered)
            .finds(&danger);
        let worker = process(101, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        PortFixture::default()
            .with_changed(tcp(AT), &[&api()], steered)
            .with_changed(tcp(AT), &[&worker], steered)
            .finds(&[]);
    }

    #[test]
    fn two_users_on_one_address() {
        let other_user = stranger().of_user(1001);
        let danger = [("newest-takes-all", "danger", 2, 200, 1)];
        PortFixture::default()
            .of(1000, udp(AT), &[&api()])
            .of(1001, udp(AT), &[&other_user])
            .finds(&danger);
        // Hidden processes: the users are evidence enough.
        let unseen = [("newest-takes-all", "danger", 2, 0, 1)];
        PortFixture::default().of(1000, udp(AT), &[]).of(1001, udp(AT), &[]).finds(&unseen);
        let listeners = [("duplicate-listener", "danger", 2, 200, 1)];
        PortFixture::default()
            .of(1000, tcp(AT), &[&api()])
            .of(1001, tcp(AT), &[&other_user])
            .finds(&listeners);
        // A service that drops root privileges has sockets of both users.
        let as_root = api().of_user(0);
        PortFixture::default().of(0, udp(AT), &[&as_root]).of(1000, udp(AT), &[&api()]).finds(&[]);
        let in_cgroup = |uid| {
            move |member: &mut Member| {
                member.socket.uid = uid;
                member.socket.cgroup = Some(77);
            }
        };
        PortFixture::default()
            .with_changed(udp(AT), &[], in_cgroup(0))
            .with_changed(udp(AT), &[], in_cgroup(1000))
            .finds(&[]);
    }

    #[test]
    fn one_user_on_one_udp_address() {
        let danger = [("newest-takes-all", "danger", 2, 200, 1)];
        let warning = [("shared-with-stranger", "warning", 2, 200, 1)];
        PortFixture::default()
            .with_changed(udp(AT), &[&api()], reuse_address)
            .with_changed(udp(AT), &[&stranger()], reuse_address)
            .finds(&danger);
        PortFixture::default()
            .with_changed(udp(AT), &[&api()], reuse_port)
            .with_changed(udp(AT), &[&stranger()], reuse_port)
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
    fn a_member_with_hidden_processes() {
        let unseen = [("shared-with-unseen", "warning", 2, 0, 1)];
        PortFixture::default().with(tcp(AT), &[&api()]).with(tcp(AT), &[]).finds(&unseen);
        let hidden = PortFixture::default().with(tcp(AT), &[]).with(tcp(AT), &[]);
        hidden.finds(&[]);
        let in_cgroup = |member: &mut Member| member.socket.cgroup = Some(77);
        PortFixture::default()
            .with_changed(tcp(AT), &[&api()], in_cgroup)
            .with_changed(tcp(AT), &[], in_cgroup)
            .finds(&[]);
    }

    #[test]
    fn one_program_with_several_members() {
        let worker = |pid| process(pid, "/usr/bin/server", &[]);
        let (one, two, three) = (worker(1000), worker(1001), worker(1002));
        PortFixture::default()
            .with(tcp(AT), &[&one, &two])
            .with(tcp(AT), &[&two])
            .with(tcp(AT), &[&three])
            .finds(&[]);
    }
}
