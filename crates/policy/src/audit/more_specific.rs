//! Different programs on a more specific address, which the kernel prefers for common traffic.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding::{Finding, FindingKind};
use super::fix;
use super::port_view::{Participant, PortView};
use super::precedence::precedence;
use super::shared_by_design::is_shared_by_design;

pub(super) fn findings(view: &PortView<'_>) -> Vec<Finding> {
    let participants: Vec<_> = view.waiting().collect();
    // A wildcard contains every address, an address only itself on one device.
    let (mut wildcards, mut by_ip) = (Vec::new(), BTreeMap::<IpAddr, Vec<_>>::new());
    for participant in &participants {
        match participant.address().socket.ip().to_canonical() {
            ip if ip.is_unspecified() => wildcards.push(participant),
            ip => by_ip.entry(ip).or_default().push(participant),
        }
    }
    let none = Vec::new();
    let finding_about = |narrow: &Participant<'_>| {
        let ip = narrow.address().socket.ip().to_canonical();
        let same_ip = narrow.address().device.as_ref().and_then(|_| by_ip.get(&ip));
        finding(view, narrow, wildcards.iter().chain(same_ip.unwrap_or(&none)).copied())
    };
    participants.iter().filter_map(finding_about).collect()
}

/// A finding about the first program that loses traffic to `narrow`.
fn finding<'a>(
    view: &PortView<'_>,
    narrow: &Participant<'_>,
    mut wider: impl Iterator<Item = &'a Participant<'a>>,
) -> Option<Finding> {
    let address = narrow.address();
    if is_shared_by_design(address) {
        return None;
    }
    let wide =
        wider.find(|wide| address.is_within(wide.address()) && wide.is_stranger_to(narrow))?;
    // Between one device and all devices, no socket always wins: that on the device can have the wider
    // address.
    let is_above = wide.address().device.is_some() && address.device.is_none();
    let (owner, intruder) = match address.socket == wide.address().socket || is_above {
        true if precedence(narrow.member) < precedence(wide.member) => (narrow, wide),
        _ => (wide, narrow),
    };
    let severity = narrow.severity(wide);
    let fix = fix::guard(view, owner, intruder);
    Some(view.finding(FindingKind::NarrowerAddress, severity, owner, intruder, fix))
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp, udp};
    use crate::model::Address;

    #[test]
    fn the_more_specific_address_takes_its_traffic() {
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
            (on_lo(tcp("[::]:80")), tcp("0.0.0.0:80"), true),
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
            let port = PortFixture::default().with(wide.clone(), &[&api()]);
            port.clone().with(narrow.clone(), &[&stranger()]).finds(&warning);
            port.clone().of(1001, narrow.clone(), &[&stranger()]).finds(&danger);
            if expected && (narrow.device.is_some() || wide.device.is_some()) {
                // On a device, the older program is the owner.
                let port = PortFixture::default().with(wide.clone(), &[&stranger()]);
                let warning = [("narrower-address", "warning", 1, 200, 2)];
                port.with(narrow.clone(), &[&api()]).finds(&warning);
            }
            // The same program.
            port.with(narrow.clone(), &[&api()]).finds(&[]);
            let unseen = PortFixture::default().of(1000, wide, &[]).of(1001, narrow, &[]);
            assert_eq!(unseen.found().len(), usize::from(expected));
        }
    }
}
