//! Different programs on one port of the two IP versions. `localhost`, or the machine's host name,
//! can resolve to either version, and clients try IPv6 first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::finding::{Finding, FindingKind};
use super::fix;
use super::port_view::PortView;
use super::precedence::precedence;
use super::shared_by_design::is_shared_by_design;
use crate::model::Address;

pub(super) fn findings(view: &PortView<'_>) -> Option<Finding> {
    let of_family = |v6| view.waiting().filter(move |it| has_host_name(it.address(), v6));
    let ipv6: Vec<_> = of_family(true).collect();
    let (four, six) = of_family(false).find_map(|four| {
        let six = ipv6.iter().find(|six| six.is_stranger_to(&four))?;
        Some((four, *six))
    })?;
    let (owner, intruder) = match precedence(four.member) <= precedence(six.member) {
        true => (four, six),
        false => (six, four),
    };
    let severity = owner.severity(&intruder);
    let fix = fix::guard(view, &owner, &intruder);
    Some(view.finding(FindingKind::SiblingAddress, severity, &owner, &intruder, fix))
}

/// Whether host names resolve to this address: the loopback address, or the wildcard of one IP
/// version.
fn has_host_name(address: &Address, v6: bool) -> bool {
    let plain = address.device.is_none() && !is_shared_by_design(address);
    plain
        && match address.socket.ip().to_canonical() {
            IpAddr::V4(ip) => !v6 && (ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) => {
                v6 && (address.v6only || ip == Ipv6Addr::LOCALHOST) && !address.is_dual_stack()
            }
        }
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp};
    use crate::model::Address;

    #[test]
    fn two_programs_behind_one_host_name() {
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
        for (one, other, is_found) in cases {
            let expected = |severity| match is_found {
                true => vec![("sibling-address", severity, 2, 200, 1)],
                false => vec![],
            };
            let port = PortFixture::default().with(one.clone(), &[&api()]);
            port.clone().with(other.clone(), &[&stranger()]).finds(&expected("warning"));
            port.clone().of(1001, other.clone(), &[&stranger()]).finds(&expected("danger"));
            port.with(other.clone(), &[&api()]).finds(&[]);
            let unseen =
                PortFixture::default().of(1000, one.clone(), &[]).of(1001, other.clone(), &[]);
            assert_eq!(unseen.found().len(), usize::from(is_found));
            PortFixture::default().with(one, &[]).with(other, &[]).finds(&[]);
        }
    }

    #[test]
    fn a_private_group_counts_as_its_user() {
        const PRIVATE: u32 = 0x7000_0001;
        let (one, other) = (tcp("127.0.0.1:80"), tcp("[::1]:80"));
        let port = PortFixture::default().of(PRIVATE, one, &[&api()]);
        port.clone().with(other.clone(), &[&api()]).finds(&[]);
        let warning = [("sibling-address", "warning", 2, 200, 1)];
        port.with(other, &[&stranger()]).finds(&warning);
    }
}
