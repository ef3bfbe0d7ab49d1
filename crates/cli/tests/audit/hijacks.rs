//! Hijacks: each is found, with its process.

use serde_json::Value;

use crate::harness::{Process, is_root, skip};
use crate::network::{NOBODY, Network, actual_uid, has_python};

const ANN: u32 = 60_001;
const BOB: u32 = 60_002;
const PORT: &str = "8443";

/// One hijack. `{victim}` becomes the pid of the first program.
struct Hijack {
    what: &'static str,
    victim: (u32, &'static [&'static str]),
    culprit: (u32, &'static [&'static str]),
    found: &'static str,
    severity: &'static str,
    /// Whether a user without privileges finds it: the process among its own programs, the user of
    /// others.
    by_nobody: bool,
    arguments: &'static [&'static str],
}

/// In the order of their numbers in `docs/audit.md`, from 1.
const PLANTS: [Hijack; 19] = [
    Hijack {
        what: "SO_REUSEPORT, TCP",
        victim: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        found: "shared-with-stranger",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "SO_REUSEPORT, UDP",
        victim: (NOBODY, &["udp", "rp", "bind=0.0.0.0:8443"]),
        culprit: (NOBODY, &["udp", "rp", "bind=0.0.0.0:8443"]),
        found: "shared-with-stranger",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "a joiner that steers",
        victim: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8", "steer=1"]),
        found: "steered-by-stranger",
        severity: "danger",
        by_nobody: false,
        arguments: &[],
    },
    Hijack {
        what: "SO_REUSEADDR, UDP, another user",
        victim: (ANN, &["udp", "ra", "bind=0.0.0.0:8443"]),
        culprit: (BOB, &["udp", "ra", "bind=0.0.0.0:8443"]),
        found: "newest-takes-all",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "SO_REUSEADDR and SO_REUSEPORT, UDP, another user",
        victim: (ANN, &["udp", "ra", "rp", "bind=127.0.0.1:8443"]),
        culprit: (BOB, &["udp", "ra", "rp", "bind=127.0.0.1:8443"]),
        found: "newest-takes-all",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "SO_REUSEADDR, UDP, one user",
        victim: (NOBODY, &["udp", "ra", "bind=127.0.0.1:8443"]),
        culprit: (NOBODY, &["udp", "ra", "bind=127.0.0.1:8443"]),
        found: "newest-takes-all",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "SO_REUSEADDR between bind and listen, another user",
        victim: (ANN, &["tcp", "ra", "bind=0.0.0.0:8443"]),
        culprit: (BOB, &["tcp", "ra", "bind=0.0.0.0:8443", "listen=8"]),
        found: "overtaken-before-listen",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "one address under the wildcard, TCP",
        victim: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp", "rp", "bind=127.0.0.1:8443", "listen=8"]),
        found: "narrower-address",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "IPv4 under a dual-stack listener",
        victim: (NOBODY, &["tcp6", "rp", "bind=[::]:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        found: "narrower-address",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "an IPv4-mapped IPv6 address under a dual-stack listener",
        victim: (NOBODY, &["tcp6", "rp", "bind=[::]:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp6", "rp", "bind=[::ffff:127.0.0.1]:8443", "listen=8"]),
        found: "narrower-address",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "bound to a device",
        victim: (NOBODY, &["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["tcp", "rp", "device=lo", "bind=0.0.0.0:8443", "listen=8"]),
        found: "narrower-address",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "one address under the wildcard, UDP, another user",
        victim: (ANN, &["udp", "ra", "bind=0.0.0.0:8443"]),
        culprit: (BOB, &["udp", "ra", "bind=127.0.0.1:8443"]),
        found: "narrower-address",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "[::1] beside 127.0.0.1, another user",
        victim: (ANN, &["tcp", "bind=127.0.0.1:8443", "listen=8"]),
        culprit: (BOB, &["tcp6", "bind=[::1]:8443", "listen=8"]),
        found: "sibling-address",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "a connection from the port",
        victim: (ANN, &["tcp", "bind=127.0.0.1:9000", "listen=8"]),
        culprit: (BOB, &["tcp", "bind=127.0.0.1:8443", "connect=127.0.0.1:9000"]),
        found: "taken-by-connection",
        severity: "warning",
        by_nobody: true,
        arguments: &[PORT],
    },
    Hijack {
        what: "bound, and never listens",
        victim: (ANN, &["tcp", "bind=127.0.0.1:9000", "listen=8"]),
        culprit: (BOB, &["tcp", "bind=0.0.0.0:8443"]),
        found: "bound-not-listening",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "a socket taken by pidfd_getfd",
        victim: (NOBODY, &["tcp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["steal={victim}"]),
        found: "held-by-stranger",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "a taken socket that is shut down",
        victim: (NOBODY, &["tcp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (NOBODY, &["steal={victim}", "shutdown"]),
        found: "held-by-stranger",
        severity: "warning",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "TCP_REPAIR",
        victim: (ANN, &["tcp", "bind=0.0.0.0:8443", "listen=8"]),
        culprit: (0, &["tcp", "repair", "bind=0.0.0.0:8443", "listen=8"]),
        found: "duplicate-listener",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
    Hijack {
        what: "beside a v6-only listener, and then above it, another user",
        victim: (ANN, &["tcp6", "v6only", "bind=[::]:8443", "listen=8"]),
        culprit: (
            BOB,
            &[
                "tcp",
                "rp",
                "bind=0.0.0.0:8443",
                "listen=8",
                "tcp6",
                "rp",
                "device=lo",
                "bind=[::]:8443",
                "listen=8",
            ],
        ),
        found: "narrower-address",
        severity: "danger",
        by_nobody: true,
        arguments: &[],
    },
];

impl Hijack {
    /// Whether the user of the tests can cause it.
    fn is_possible(&self) -> bool {
        is_root() || (self.victim.0 == NOBODY && self.culprit.0 == NOBODY)
    }

    /// Starts the program, then its hijacker.
    fn start(&self, network: &Network) -> [Process; 2] {
        let victim = network.actor(self.victim.0, "api", self.victim.1);
        let pid = victim.pid().to_string();
        let steps: Vec<_> =
            self.culprit.1.iter().map(|step| step.replace("{victim}", &pid)).collect();
        let steps: Vec<_> = steps.iter().map(String::as_str).collect();
        [victim, network.actor(self.culprit.0, "x", &steps)]
    }

    /// Asserts that this is the only finding of `audit` on the port for this user.
    #[track_caller]
    fn is_found(&self, network: &Network, [_, culprit]: &[Process; 2], by: u32) {
        let (code, report) = network.audit(by, self.arguments);
        let context = format!("{}, by {by}: {report:#}", self.what);
        let found = find_finding(&report, self.found).unwrap_or_else(|| panic!("{context}"));
        assert_eq!(found["severity"], self.severity, "{context}");
        assert_eq!(found["port"].to_string(), PORT, "{context}");
        let user = actual_uid(self.socket_user());
        if by == 0 || by == self.culprit.0 {
            assert_eq!(found["culprit"]["uid"], user, "{context}");
            assert_eq!(found["culprit"]["pid"], culprit.pid(), "{context}");
        } else {
            // Without the process, the later one is unknown.
            let users = [&found["culprit"]["uid"], &found["victim"]["uid"]];
            assert!(users.contains(&&user.into()), "{context}");
        }
        assert!(!found["fix"].as_str().unwrap().is_empty(), "{context}");
        assert_eq!(code, 1, "{context}");
    }

    /// A stolen socket still belongs to its creator.
    fn socket_user(&self) -> u32 {
        if self.culprit.1[0].starts_with("steal") { self.victim.0 } else { self.culprit.0 }
    }
}

/// The finding of this kind.
pub(crate) fn find_finding<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    report["findings"].as_array()?.iter().find(|finding| finding["id"] == id)
}

#[test]
fn nineteen_hijacks_are_found() {
    if !has_python() {
        return skip("audit-planted", "no python3");
    }
    let own = if is_root() { 0 } else { NOBODY };
    for start in PLANTS.iter().filter(|start| start.is_possible()) {
        if own != 0 && !start.by_nobody {
            continue;
        }
        let Some(network) = Network::new() else {
            return skip("audit-planted", "no network namespace can be made");
        };
        let planted = start.start(&network);
        start.is_found(&network, &planted, own);
        if own == 0 && start.by_nobody {
            start.is_found(&network, &planted, NOBODY);
        }
    }
}

#[test]
fn nothing_is_found_before_the_hijack() {
    if !has_python() {
        return skip("audit-before", "no python3");
    }
    let own = if is_root() { 0 } else { NOBODY };
    for start in PLANTS.iter().filter(|start| start.is_possible()) {
        if start.victim.1.last().is_some_and(|step| step.starts_with("bind=0")) {
            // The socket is bound and does not listen.
            continue;
        }
        let Some(network) = Network::new() else {
            return skip("audit-before", "no network namespace can be made");
        };
        let _victim = network.actor(start.victim.0, "api", start.victim.1);
        let (code, report) = network.audit(own, start.arguments);
        assert_eq!((code, &report["findings"]), (0, &serde_json::json!([])), "{}", start.what);
    }
}

/// 21: a stolen socket whose queue is closed.
#[test]
fn closed_queue_is_found() {
    let test = "audit-closed-queue";
    if !has_python() {
        return skip(test, "no python3");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let own = if is_root() { 0 } else { NOBODY };
    let victim = network.actor(NOBODY, "api", &["tcp", "bind=127.0.0.1:8443", "listen=8"]);
    let steal = format!("steal={}", victim.pid());
    let culprit = network.actor(NOBODY, "x", &[&steal, "listen=0"]);
    let _client = network.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    let (code, report) = network.audit(own, &[]);
    let held = find_finding(&report, "held-by-stranger").unwrap_or_else(|| panic!("{report:#}"));
    let closed = find_finding(&report, "queue-closed").unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!((code, &held["culprit"]["pid"]), (1, &culprit.pid().into()), "{report:#}");
    assert_eq!(closed["victim"]["pid"], victim.pid(), "{report:#}");
}
