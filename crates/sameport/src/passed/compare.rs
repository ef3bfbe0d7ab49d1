//! Compares a passed socket with the request.

use std::net::SocketAddr;

use socket2::SockRef;

use crate::endpoint::ResolvedAddr;
use crate::options::Options;
use crate::socket_facts::SocketFacts;
use crate::system::{Here, System};

/// The facts about a passed socket. An option is `None` where the system does not tell.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) facts: SocketFacts,
    /// Whether an IPv6 socket excludes IPv4; false for other sockets.
    v6only: bool,
    /// The device, or an empty name.
    device: Option<String>,
    transparent: Option<bool>,
    freebind: Option<bool>,
}

impl Found {
    /// The facts about a socket; `None` if the descriptor is something else.
    pub(super) fn of(socket: &SockRef<'_>) -> Option<Self> {
        let facts = SocketFacts::of(socket).ok()?;
        let ipv6 = facts.local.is_some_and(|local| local.is_ipv6());
        Some(Self {
            v6only: ipv6 && socket.only_v6().unwrap_or(false),
            device: Here::device(socket).ok(),
            transparent: Here::is_transparent(socket, ipv6).ok(),
            freebind: Here::is_freebind(socket, ipv6).ok(),
            facts,
        })
    }

    /// Whether the socket has one of these addresses. Port 0 is any port.
    pub(super) fn is_at(&self, asked: &[ResolvedAddr]) -> bool {
        let Some(local) = self.facts.local else { return false };
        asked
            .iter()
            .flat_map(|one| match one {
                // One socket for both families, as `Options::listen` opens it.
                ResolvedAddr::Any(_) => one.addresses()[..1].to_vec(),
                _ => one.addresses(),
            })
            .any(|asked| is_same(asked, local))
    }

    /// The differences from the request; empty if there is no difference. `backlog` and `nonblocking` are
    /// not compared: the first cannot be read, and the second can still be set.
    pub(super) fn differences(&self, options: &Options, asked: &[ResolvedAddr]) -> Vec<String> {
        let mut all = Vec::new();
        match self.facts.local {
            None => all.push("it is not bound to an IP address".to_owned()),
            Some(local) if !self.is_at(asked) => all.push(format!("it is bound to {local}")),
            Some(local) => all.extend(self.v6only_differs(options, local)),
        }
        if let Some(peer) = self.facts.peer {
            all.push(format!("it is connected to {peer}"));
        } else if self.facts.local.is_some() {
            match (self.facts.stream, self.facts.listening) {
                (Some(true), Some(false)) => all.push("it does not listen".to_owned()),
                (None, _) => all.push("it is neither a TCP nor a UDP socket".to_owned()),
                _ => {}
            }
        }
        match (options.shared, self.facts.shared) {
            (true, Some(false)) => {
                all.push("it is not shared (a socket unit shares it by ReusePort=yes)".to_owned());
            }
            (false, Some(true)) => all.push("it is shared, not exclusive".to_owned()),
            _ => {}
        }
        let device = options.device.as_deref().unwrap_or_default();
        match self.device.as_deref() {
            Some(found) if found == device => {}
            Some("") => all.push(format!("it is not on the device {device}")),
            Some(found) => all.push(format!("it is on the device {found}")),
            None if device.is_empty() => {}
            None => all.push("this system does not tell its device".to_owned()),
        }
        for (asked, found, name) in [
            (options.transparent, self.transparent, "transparent"),
            (options.freebind, self.freebind, "freebind"),
        ] {
            if asked && found != Some(true) {
                all.push(format!("it has not the option {name}"));
            }
        }
        all
    }

    fn v6only_differs(&self, options: &Options, local: SocketAddr) -> Option<String> {
        let asked = options.v6only.or(local.ip().is_unspecified().then_some(false))?;
        match (local.is_ipv6(), asked, self.v6only) {
            (true, true, false) => {
                Some("it has IPv4 addresses too (BindIPv6Only= of a socket unit)".to_owned())
            }
            (true, false, true) => {
                Some("it has IPv6 addresses only (BindIPv6Only= of a socket unit)".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether the addresses are the same. A scope that is not asked for does not matter.
fn is_same(asked: SocketAddr, local: SocketAddr) -> bool {
    let scope = match (asked, local) {
        (SocketAddr::V6(asked), SocketAddr::V6(local)) => {
            asked.scope_id() == 0 || asked.scope_id() == local.scope_id()
        }
        _ => true,
    };
    asked.ip() == local.ip() && (asked.port() == 0 || asked.port() == local.port()) && scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket_facts::Family;

    fn found(local: &str) -> Found {
        let local = local.parse().ok();
        let facts = SocketFacts {
            family: Family::Ipv4,
            stream: Some(true),
            local,
            peer: None,
            listening: Some(true),
            shared: Some(true),
        };
        let (transparent, freebind) = (Some(false), Some(false));
        Found { facts, v6only: false, device: Some(String::new()), transparent, freebind }
    }

    fn asked(text: &str) -> ResolvedAddr {
        match text.strip_prefix("*:") {
            Some(port) => ResolvedAddr::Any(port.parse().unwrap()),
            None => ResolvedAddr::Socket(text.parse().unwrap()),
        }
    }

    #[test]
    fn what_differs() {
        let v4 = "127.0.0.1:80";
        let exclusive =
            Found { facts: SocketFacts { shared: Some(false), ..found(v4).facts }, ..found(v4) };
        let with = |change: fn(&mut SocketFacts)| {
            let mut socket = found(v4);
            change(&mut socket.facts);
            socket
        };
        let silent = with(|facts| facts.listening = Some(false));
        let raw = with(|facts| facts.stream = None);
        let connected = with(|facts| {
            (facts.stream, facts.listening) = (Some(false), Some(false));
            facts.peer = "127.0.0.2:9".parse().ok();
        });
        let v6only = Found { v6only: true, ..found("[::]:80") };
        let device = |name: &str| Found { device: Some(name.into()), ..found(v4) };
        let untold = Found { device: None, transparent: None, freebind: None, ..found(v4) };
        let untold =
            Found { facts: SocketFacts { shared: None, ..untold.facts.clone() }, ..untold };
        let on = |name| Options::shared().device(name);
        let shared = Options::shared;
        for (options, address, socket, expected) in [
            (shared(), v4, found(v4), ""),
            (shared(), "127.0.0.1:0", found(v4), ""),
            (shared(), "*:80", found("[::]:80"), ""),
            (shared(), "[::]:80", found("[::]:80"), ""),
            (shared().v6only(true), "[::]:80", v6only.clone(), ""),
            (shared().v6only(true), "*:80", v6only.clone(), ""),
            (Options::exclusive(), v4, exclusive.clone(), ""),
            (on("lo"), v4, device("lo"), ""),
            (shared().backlog(1).nonblocking(true), v4, found(v4), ""),
            (shared(), v4, untold.clone(), ""),
            (shared(), "127.0.0.1:81", found(v4), "it is bound to 127.0.0.1:80"),
            (shared(), "*:80", found("0.0.0.0:80"), "it is bound to 0.0.0.0:80"),
            (shared(), "*:80", found(v4), "it is bound to 127.0.0.1:80"),
            (shared(), "[::1]:80", found("[::]:80"), "it is bound to [::]:80"),
            (shared(), v4, found("none"), "it is not bound to an IP address"),
            (shared(), v4, silent, "it does not listen"),
            (shared(), v4, raw, "it is neither a TCP nor a UDP socket"),
            (shared(), v4, connected, "it is connected to 127.0.0.2:9"),
            (
                shared(),
                "*:80",
                v6only.clone(),
                "it has IPv6 addresses only (BindIPv6Only= of a socket unit)",
            ),
            (
                shared().v6only(true),
                "[::]:80",
                found("[::]:80"),
                "it has IPv4 addresses too (BindIPv6Only= of a socket unit)",
            ),
            (
                shared(),
                v4,
                exclusive.clone(),
                "it is not shared (a socket unit shares it by ReusePort=yes)",
            ),
            (Options::exclusive(), v4, found(v4), "it is shared, not exclusive"),
            (on("lo"), v4, found(v4), "it is not on the device lo"),
            (on("lo"), v4, device("eth0"), "it is on the device eth0"),
            (shared(), v4, device("eth0"), "it is on the device eth0"),
            (on("lo"), v4, untold.clone(), "this system does not tell its device"),
            (shared().transparent(true), v4, found(v4), "it has not the option transparent"),
            (shared().freebind(true), v4, untold, "it has not the option freebind"),
            (
                shared(),
                "127.0.0.1:81",
                exclusive,
                "it is bound to 127.0.0.1:80; it is not shared (a socket unit shares it by ReusePort=yes)",
            ),
        ] {
            let found = socket.differences(&options, &[asked(address)]).join("; ");
            assert_eq!(found, expected, "{options:?} {address} {socket:?}");
        }
    }

    #[test]
    fn one_of_several_addresses() {
        let all = [
            asked("127.0.0.1:80"),
            asked("[fe80::1%2]:80"),
            ResolvedAddr::Named(vec!["[::1]:80".parse().unwrap()]),
        ];
        for (local, expected) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("[fe80::1%2]:80", true),
            ("[fe80::1%3]:80", false),
            ("127.0.0.1:81", false),
            ("0.0.0.0:80", false),
        ] {
            assert_eq!(found(local).is_at(&all), expected, "{local}");
        }
        assert!(found("[fe80::1%3]:80").is_at(&[asked("[fe80::1]:80")]));
    }
}
