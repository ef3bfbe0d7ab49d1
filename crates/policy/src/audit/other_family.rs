//! Strangers on one port of the other IP version: `localhost`, and the name of the machine, can mean
//! either, and clients try IPv6 first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::port_view::{Participant, PortView};
use super::shared_by_design::is_shared_by_design;
use super::{Finding, FindingKind};
use crate::model::Address;

pub(super) fn findings(scene: &PortView<'_>) -> Vec<Finding> {
    let on = |v6: bool| move |actor: &Participant<'_>| is_for_a_name(actor.address(), v6);
    let (four, six): (Vec<_>, Vec<_>) =
        (scene.waiting().filter(on(false)).collect(), scene.waiting().filter(on(true)).collect());
    let pair = four.iter().find_map(|four| {
        let stranger = six.iter().find(|six| six.is_stranger_to(four))?;
        Some((four, stranger))
    });
    pair.map(|(four, six)| of_pair(scene, four, six)).into_iter().collect()
}

/// The loopback address, or the wildcard of this version alone.
fn is_for_a_name(address: &Address, v6: bool) -> bool {
    let plain = address.device.is_none() && !is_shared_by_design(address);
    plain
        && match address.socket.ip().to_canonical() {
            IpAddr::V4(ip) => !v6 && (ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) => {
                v6 && (address.v6only || ip == Ipv6Addr::LOCALHOST) && !address.is_dual_stack()
            }
        }
}

fn of_pair(scene: &PortView<'_>, four: &Participant<'_>, six: &Participant<'_>) -> Finding {
    let precedence = |actor: &Participant<'_>| super::port_view::precedence(actor.member);
    let (owner, other) =
        if precedence(four) <= precedence(six) { (four, six) } else { (six, four) };
    scene.finding(FindingKind::SiblingAddress, owner.severity(other), owner, other)
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp};
    use crate::model::Address;

    #[test]
    fn one_name_and_two_programs() {
        let only6 = Address { v6only: true, ..tcp("[::]:80") };
        let cases = [
            (tcp("127.0.0.1:80"), tcp("[::1]:80"), true),
            (tcp("0.0.0.0:80"), tcp("[::1]:80"), true),
            (tcp("127.0.0.1:80"), only6.clone(), true),
            (tcp("0.0.0.0:80"), only6, true),
            (tcp("[::1]:80"), tcp("127.0.0.1:80"), true),
            (tcp("127.0.0.1:80"), tcp("127.0.0.53:80"), false),
            (tcp("192.0.2.1:80"), tcp("[::1]:80"), false),
            (tcp("127.0.0.1:80"), tcp("[2001:db8::1]:80"), false),
        ];
        for (one, other, expected) in cases {
            let tell = |severity| match expected {
                true => vec![("sibling-address", severity, 2, 200, 1)],
                false => vec![],
            };
            let stage = PortFixture::default().with(one.clone(), &[&api()]);
            stage.clone().with(other.clone(), &[&stranger()]).finds(&tell("warning"));
            stage.clone().of(1001, other.clone(), &[&stranger()]).finds(&tell("danger"));
            stage.with(other.clone(), &[&api()]).finds(&[]);
            let unseen =
                PortFixture::default().of(1000, one.clone(), &[]).of(1001, other.clone(), &[]);
            assert_eq!(unseen.found().len(), usize::from(expected));
            PortFixture::default().with(one, &[]).with(other, &[]).finds(&[]);
        }
    }

    #[test]
    fn a_private_group_is_its_users() {
        const PRIVATE: u32 = 0x7000_0001;
        let (one, other) = (tcp("127.0.0.1:80"), tcp("[::1]:80"));
        let stage = PortFixture::default().of(PRIVATE, one, &[&api()]);
        stage.clone().with(other.clone(), &[&api()]).finds(&[]);
        let warning = [("sibling-address", "warning", 2, 200, 1)];
        stage.with(other, &[&stranger()]).finds(&warning);
    }
}
