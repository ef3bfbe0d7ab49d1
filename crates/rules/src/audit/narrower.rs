//! Strangers on a part of an address, which the kernel prefers for all that could be for both.

use super::fix::guard;
use super::normal::is_shared_by_design;
use super::scene::{Actor, Scene};
use super::{Finding, Kind, Severity};

pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let actors: Vec<_> = scene.waiting().collect();
    // Only a wildcard has parts, and any address those that are confined to a device.
    let has_devices = actors.iter().any(|actor| actor.address().device.is_some());
    let has_parts = |actor: &&Actor<'_>| {
        has_devices || actor.address().socket.ip().to_canonical().is_unspecified()
    };
    let wide: Vec<_> = actors.iter().filter(has_parts).collect();
    actors.iter().filter_map(|narrow| of_actor(scene, narrow, &wide)).collect()
}

/// The first that it takes from.
fn of_actor(scene: &Scene<'_>, narrow: &Actor<'_>, wide: &[&Actor<'_>]) -> Option<Finding> {
    let at = narrow.address();
    if is_shared_by_design(at) {
        return None;
    }
    let victim =
        wide.iter().find(|wide| at.is_within(wide.address()) && wide.is_stranger_to(narrow))?;
    let severity = match narrow.is_of_another_user_than(victim) {
        true => Severity::Danger,
        false => Severity::Warning,
    };
    Some(Finding {
        kind: Kind::Narrower,
        severity,
        at: Some((scene.protocol, scene.port)),
        fix: guard(scene, victim, narrow),
        culprit: Some(narrow.party()),
        victim: Some(victim.party()),
        program: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::cast::{Stage, api, stranger, tcp, udp};
    use crate::sockets::Address;

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
            let stage = Stage::default().with(wide.clone(), &[&api()]);
            stage.clone().with(narrow.clone(), &[&stranger()]).finds(&warning);
            stage.clone().of(1001, narrow.clone(), &[&stranger()]).finds(&danger);
            // Its own.
            stage.with(narrow.clone(), &[&api()]).finds(&[]);
            let unseen = Stage::default().of(1000, wide, &[]).of(1001, narrow, &[]);
            assert_eq!(unseen.found().len(), usize::from(expected));
        }
    }
}
