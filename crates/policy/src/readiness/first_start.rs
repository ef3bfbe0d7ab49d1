//! Whether a starting worker listens on all of its addresses.
//!
//! A worker that replaces another must listen on the addresses of that one, which the lifecycle
//! checks. For a first start the addresses are not known: those that the user named, those of the
//! last run of the same command, or else those that are there after a short quiet period.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{Host, PortSpec};
use crate::model::Address;

/// Without a new listener for this long, an unknown worker listens on all of its addresses.
const QUIET: Duration = Duration::from_millis(200);

/// Without a new listener for this long, a worker will not open the addresses of the last run any
/// more: its configuration has changed.
const LONG_QUIET: Duration = Duration::from_secs(5);

/// The listeners of a starting worker.
#[derive(Debug, Clone, Copy)]
pub struct FirstStartFacts<'a> {
    /// The addresses that the user named (`--expect`).
    pub expect: &'a [PortSpec],
    /// Whether the lifecycle knows the addresses, those of its predecessor.
    pub has_predecessor: bool,
    /// The addresses of the same worker in the last run; empty if unknown. As in
    /// [`listen_key`].
    pub last_run: &'a BTreeSet<String>,
    /// The addresses that it listens on.
    pub listening: &'a BTreeSet<Address>,
    /// The time since it opened the last one.
    pub quiet_for: Duration,
}

/// Whether the listeners are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstStartVerdict {
    /// They are.
    Complete,
    /// Not yet. A change, or the passage of this time, may complete them.
    Wait(Duration),
    /// They are not, and only a change completes them: the addresses that are missing.
    Missing(Vec<String>),
}

impl FirstStartFacts<'_> {
    /// Decides.
    #[must_use]
    pub fn verdict(&self) -> FirstStartVerdict {
        let is_missing = |spec: &&PortSpec| !self.listening.iter().any(|it| serves(it, spec));
        let missing: Vec<String> = self.expect.iter().filter(is_missing).map(name).collect();
        if !missing.is_empty() {
            return FirstStartVerdict::Missing(missing);
        }
        if !self.expect.is_empty() || self.has_predecessor {
            return FirstStartVerdict::Complete;
        }
        let listening: BTreeSet<String> = self.listening.iter().map(listen_key).collect();
        let quiet = match self.last_run {
            last if last.is_empty() => QUIET,
            last if last.is_subset(&listening) => Duration::ZERO,
            _ => LONG_QUIET,
        };
        match quiet.saturating_sub(self.quiet_for) {
            Duration::ZERO => FirstStartVerdict::Complete,
            rest => FirstStartVerdict::Wait(rest),
        }
    }
}

/// An address as the lifecycle knows it.
#[must_use]
pub fn listen_key(address: &Address) -> String {
    format!("{} {address}", address.protocol)
}

/// Whether clients of `spec` reach this listener. A host name is not resolved here, and matches none.
fn serves(listener: &Address, spec: &PortSpec) -> bool {
    let serves_ip = |ip: IpAddr| {
        let wanted = Address::new(listener.protocol, (ip, spec.addr.port).into());
        let listener = Address { device: None, ..listener.clone() };
        ip == listener.socket.ip() || wanted.is_within(&listener)
    };
    listener.port() == spec.addr.port
        && spec.protocol.is_none_or(|protocol| protocol == listener.protocol)
        && match &spec.addr.host {
            Host::Any => true,
            Host::Ip(ip) => serves_ip(*ip),
            Host::Name(_) => false,
        }
}

/// `port 8080`, `127.0.0.1:8080/tcp`.
fn name(spec: &PortSpec) -> String {
    match spec.is_port() {
        true => format!("port {spec}"),
        false => spec.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn addresses(list: &[&str]) -> BTreeSet<Address> {
        let address = |text: &&str| Address::new(Protocol::Tcp, text.parse().unwrap());
        list.iter().map(address).collect()
    }

    fn verdict(
        expect: &[&str],
        last_run: &[&str],
        listening: &[&str],
        quiet_for: u64,
    ) -> FirstStartVerdict {
        let expect: Vec<PortSpec> = expect.iter().map(|text| text.parse().unwrap()).collect();
        FirstStartFacts {
            expect: &expect,
            has_predecessor: false,
            last_run: &last_run.iter().map(|text| format!("tcp {text}")).collect(),
            listening: &addresses(listening),
            quiet_for: Duration::from_millis(quiet_for),
        }
        .verdict()
    }

    #[test]
    fn a_first_start() {
        use FirstStartVerdict::{Complete, Missing, Wait};
        let wait = |milliseconds| Wait(Duration::from_millis(milliseconds));
        let missing = |list: &[&str]| Missing(list.iter().map(|it| (*it).to_owned()).collect());
        let (one, two) = ("127.0.0.1:1", "0.0.0.0:2");
        for (expect, last_run, listening, quiet_for, expected) in [
            // Nothing is known.
            (&[][..], &[][..], &[one][..], 0, wait(200)),
            (&[], &[], &[one], 150, wait(50)),
            (&[], &[], &[one], 200, Complete),
            // The last run is known.
            (&[], &[one, two], &[one], 0, wait(5_000)),
            (&[], &[one, two], &[one], 4_999, wait(1)),
            (&[], &[one, two], &[one], 5_000, Complete),
            (&[], &[one, two], &[one, two], 0, Complete),
            (&[], &[one], &[one, two], 0, Complete),
            // The user named addresses.
            (&["1"], &[two], &[one], 0, Complete),
            (&["1", "2"], &[], &[one], 90_000, missing(&["port 2"])),
            (&["1", "2"], &[], &[one, two], 0, Complete),
            (&["127.0.0.1:2", "[::1]:1"], &[], &[one, two], 0, missing(&["[::1]:1"])),
            (&["127.0.0.2:1"], &[], &[one], 0, missing(&["127.0.0.2:1"])),
            (&["0.0.0.0:2"], &[], &[two], 0, Complete),
            (&["0.0.0.0:1"], &[], &[one], 0, missing(&["0.0.0.0:1"])),
            (&["127.0.0.1:3"], &[], &["[::]:3"], 0, Complete),
            (&["1/tcp"], &[], &[one], 0, Complete),
            (&["1/udp"], &[], &[one], 0, missing(&["port 1/udp"])),
        ] {
            let facts = (expect, last_run, listening, quiet_for);
            assert_eq!(verdict(expect, last_run, listening, quiet_for), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_replacement_does_not_wait() {
        let expect = ["2".parse().unwrap()];
        let facts = FirstStartFacts {
            expect: &[],
            has_predecessor: true,
            last_run: &BTreeSet::new(),
            listening: &addresses(&["127.0.0.1:1"]),
            quiet_for: Duration::ZERO,
        };
        assert_eq!(facts.verdict(), FirstStartVerdict::Complete);
        let facts = FirstStartFacts { expect: &expect, ..facts };
        assert_eq!(facts.verdict(), FirstStartVerdict::Missing(vec!["port 2".into()]));
    }
}
