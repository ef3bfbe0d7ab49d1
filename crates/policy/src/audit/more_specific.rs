//! Strangers on a part of an address, which the kernel prefers for all that could be for both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::port_view::{Participant, PortView, precedence};
use super::shared_by_design::is_shared_by_design;
use super::{Finding, FindingKind};

pub(super) fn findings(scene: &PortView<'_>) -> Vec<Finding> {
    let actors: Vec<_> = scene.waiting().collect();
    // A wildcard has parts, and an address the part that is one device's.
    let (mut wildcards, mut addresses) = (Vec::new(), BTreeMap::<IpAddr, Vec<_>>::new());
    for actor in &actors {
        match actor.address().socket.ip().to_canonical() {
            ip if ip.is_unspecified() => wildcards.push(actor),
            ip => addresses.entry(ip).or_default().push(actor),
        }
    }
    let nobody = Vec::new();
    let finding = |narrow: &Participant<'_>| {
        let ip = narrow.address().socket.ip().to_canonical();
        let same = narrow.address().device.as_ref().and_then(|_| addresses.get(&ip));
        of_actor(scene, narrow, wildcards.iter().chain(same.unwrap_or(&nobody)).copied())
    };
    actors.iter().filter_map(finding).collect()
}

/// The first that it takes from.
fn of_actor<'a>(
    scene: &PortView<'_>,
    narrow: &Participant<'_>,
    mut wide: impl Iterator<Item = &'a Participant<'a>>,
) -> Option<Finding> {
    let at = narrow.address();
    if is_shared_by_design(at) {
        return None;
    }
    let victim = wide.find(|wide| at.is_within(wide.address()) && wide.is_stranger_to(narrow))?;
    // Of a device and all devices, it is not always the device that gets the traffic.
    let (owner, other) = match at.socket == victim.address().socket {
        true if precedence(narrow.member) < precedence(victim.member) => (narrow, victim),
        _ => (victim, narrow),
    };
    Some(scene.finding(FindingKind::NarrowerAddress, narrow.severity(victim), owner, other))
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp, udp};
    use crate::model::Address;

    #[test]
    fn a_part_of_an_address_is_taken_whole() {
        let on_lo = |address: Address| Address { device: Some("lo".into()), ..address };
        let only6 = Address { v6only: true, ..tcp("[::]:80") };
        let cases = [
            (tcp("0.0.0.0:80"), tcp("127.0.0.1:80"), true),
            (tcp("[::]:80"), tcp("0.0.0.0:80"), true),
            (tcp("[::]:80"), tcp("127.0.0.1:80"), true),
            (tcp("[::]:80"), tcp("[::ffff:127.0.0.1]:80"), true),
            (tcp("[::]:80"), tcp("[::1]:80"), true),
            (only6.clone(), tcp("[::1]:80"), true),
            (only6, tcp("192.0.2.1:80"), false),
            (tcp("0.0.0.0:80"), on_lo(tcp("0.0.0.0:80")), true),
            (tcp("127.0.0.1:80"), on_lo(tcp("127.0.0.1:80")), true),
            (tcp("127.0.0.1:80"), tcp("127.0.0.2:80"), false),
            (tcp("0.0.0.0:80"), udp("127.0.0.1:80"), false),
            (udp("0.0.0.0:80"), udp("127.0.0.1:80"), true),
            (udp("0.0.0.0:68"), udp("192.0.2.1:68"), false),
            (udp("0.0.0.0:5353"), udp("224.0.0.251:5353"), false),
            (udp("0.0.0.0:5353"), udp("127.0.0.1:5353"), true),
        ];
        for (wide, narrow, expected) in cases {
            let warning = ("narrower-address", "warning", 2, 200, 1);
            let danger = ("narrower-address", "danger", 2, 200, 1);
            let [warning, danger] =
                [warning, danger].map(|it| if expected { vec![it] } else { vec![] });
            let stage = PortFixture::default().with(wide.clone(), &[&api()]);
            stage.clone().with(narrow.clone(), &[&stranger()]).finds(&warning);
            stage.clone().of(1001, narrow.clone(), &[&stranger()]).finds(&danger);
            if expected && narrow.device.is_some() {
                // The other way round.
                let stage = PortFixture::default().with(wide.clone(), &[&stranger()]);
                let warning = [("narrower-address", "warning", 1, 200, 2)];
                stage.with(narrow.clone(), &[&api()]).finds(&warning);
            }
            // Its own.
            stage.with(narrow.clone(), &[&api()]).finds(&[]);
            let unseen = PortFixture::default().of(1000, wide, &[]).of(1001, narrow, &[]);
            assert_eq!(unseen.found().len(), usize::from(expected));
        }
    }
}
