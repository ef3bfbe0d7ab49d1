//! Every known call that binds a guarded port: refused, or documented as open in `docs/guard.md`.

use std::collections::BTreeMap;

use crate::fixture::{GuardFixture, PORT, RESERVED};

/// The expected result of a call.
enum Expected {
    /// The hooks refuse the bind.
    Refused,
    /// The kernel picks a port, and cannot pick the guarded one.
    NotPicked,
    /// The call succeeds, as documented.
    Open,
}
use Expected::{NotPicked, Open, Refused};

const WAYS: &[(&str, Expected)] = &[
    ("tcp/0.0.0.0", Refused),
    ("tcp/127.0.0.1", Refused),
    ("tcp/127.0.0.2", Refused),
    ("tcp/::", Refused),
    ("tcp/::1", Refused),
    ("tcp/::ffff:127.0.0.1", Refused),
    ("tcp/::ffff:0.0.0.0", Refused),
    ("udp/0.0.0.0", Refused),
    ("udp/127.0.0.1", Refused),
    ("udp/::", Refused),
    ("udp/::1", Refused),
    ("udp/::ffff:127.0.0.1", Refused),
    ("udp/224.0.0.1", Refused),
    ("udp/ff0e::1", Refused),
    ("udp/255.255.255.255", Refused),
    ("reuseaddr", Refused),
    ("reuseport", Refused),
    ("udp reuseport", Refused),
    ("udp reuseaddr", Refused),
    ("udp both", Refused),
    ("v6only", Refused),
    ("udp v6only", Refused),
    ("freebind", Refused),
    ("v6 freebind", Refused),
    ("transparent", Refused),
    ("udp transparent", Refused),
    ("device", Refused),
    ("unspecified", Refused),
    ("mptcp", Refused),
    ("v6 mptcp", Refused),
    ("udplite", Refused),
    ("smc", Refused),
    ("repair", Refused),
    ("ring", Refused),
    ("udp ring", Refused),
    ("ring thread", Refused),
    ("int80 bind", Refused),
    ("int80 socketcall", Refused),
    ("fast open", Refused),
    ("thread", Refused),
    ("passed", Refused),
    ("carried", Refused),
    ("another user", Refused),
    ("user namespace", Refused),
    ("late port", NotPicked),
    ("auto tcp option listen", NotPicked),
    ("auto tcp option bind", NotPicked),
    ("auto tcp option connect", NotPicked),
    ("auto udp option bind", NotPicked),
    ("auto udp option connect", NotPicked),
    ("auto udp option sendto", NotPicked),
    ("auto tcp range listen", NotPicked),
    ("auto tcp range bind", NotPicked),
    ("auto tcp range connect", NotPicked),
    ("auto udp range bind", NotPicked),
    ("auto udp range connect", NotPicked),
    ("auto udp range sendto", NotPicked),
    ("sctp", Open),
    ("dccp", Open),
    ("raw", Open),
    ("network namespace", Open),
];

#[test]
fn every_call_is_refused_or_documented_as_open() {
    let Some(fixture) = GuardFixture::new("guard-ways") else { return };
    let calls = |fixture: &GuardFixture| -> BTreeMap<&str, String> {
        let one = |call: &'static str| {
            // The ephemeral range belongs to the network namespace; other calls need the original
            // one.
            let set = |range| {
                fixture.shell(&format!("echo {range} > /proc/sys/net/ipv4/ip_local_port_range"))
            };
            let cgroup = if call == "carried" { "in" } else { "out" };
            let result = fixture.bind_call(cgroup, call, PORT);
            if call.contains(" range ") {
                set("32768 60999");
            }
            (call, result)
        };
        WAYS.iter().map(|(call, _)| one(call)).collect()
    };
    // Without a guard each call binds the port, or this kernel lacks the call.
    let open = calls(&fixture);
    let inside = fixture.path("in");
    fixture.guard_ok(&format!("{PORT} --allow uid=65534 --allow cgroup={inside}"));
    let guarded = calls(&fixture);

    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guard.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (mut closed, mut absent) = (0, vec![]);
    for (call, then) in WAYS {
        assert!(document.contains(&format!("`{call}`")), "docs/guard.md does not tell of `{call}`");
        let (before, after) = (&open[call], &guarded[call]);
        if before.starts_with("absent") {
            absent.push(*call);
            continue;
        }
        let raw = *call == "raw";
        assert!(raw || *before == format!("given {PORT}"), "{call} without a guard: {before}");
        match then {
            Refused => assert_eq!(*after, format!("refused bind {}", libc::EPERM), "{call}"),
            NotPicked => assert_ne!(*after, format!("given {PORT}"), "{call}"),
            Open => assert_eq!(after, before, "{call}"),
        }
        closed += u32::from(!matches!(then, Open));
    }
    let none = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{closed} ways closed; not in this kernel: {absent:?}\n").as_bytes(),
    );
    assert!(none.is_ok() && closed >= 40, "only {closed}: {absent:?}");
}

#[test]
fn post_bind_hook_refuses_a_picked_port() {
    let Some(fixture) = GuardFixture::new("guard-picked") else { return };
    fixture.guard_ok(&format!("{PORT} --allow uid=65534"));
    fixture.shell(&format!("echo > {RESERVED}"));
    let list = fixture.guard("--list");
    assert_eq!(list.code, 1, "{list:?}");
    assert!(list.stderr.contains("ip_local_reserved_ports has lost it"), "{list:?}");
    for protocol in ["tcp", "udp"] {
        let result = fixture.bind_call("out", &format!("auto {protocol} option bind"), PORT);
        assert_eq!(result, format!("refused bind {}", libc::EPERM), "{protocol}");
    }
    // These calls pass no hook: only the reserved port stops them.
    for call in ["auto tcp option listen", "auto udp option connect"] {
        assert_eq!(fixture.bind_call("out", call, PORT), format!("given {PORT}"), "{call}");
    }
    fixture.guard_ok("--restore");
    assert_ne!(fixture.bind_call("out", "auto tcp option listen", PORT), format!("given {PORT}"));
    assert_eq!(fixture.list()["in_force"], true);
}

#[test]
fn named_subjects_can_bind() {
    let Some(fixture) = GuardFixture::new("guard-allowed") else { return };
    let bound = format!("given {PORT}");
    let refused = format!("refused bind {}", libc::EPERM);
    let (inside, program) = (fixture.path("in"), crate::fixture::bind_calls_program());
    let program = program.to_str().unwrap();
    // Per case: the allowed subject, the cgroup, the call, and whether it succeeds.
    let cases = [
        (format!("cgroup={inside}"), "in", "tcp/0.0.0.0", true),
        (format!("cgroup={inside}"), "in/sub", "udp/::", true),
        (format!("cgroup={inside}"), "out", "tcp/0.0.0.0", false),
        (format!("cgroup={inside}/sub"), "in", "tcp/0.0.0.0", false),
        (format!("cgroup={}", fixture.path("i")), "in", "tcp/0.0.0.0", false),
        (format!("cgroup={inside}/sub/x"), "in/sub", "tcp/0.0.0.0", false),
        ("uid=0".to_owned(), "out", "tcp/0.0.0.0", true),
        ("uid=root".to_owned(), "out", "another user", false),
        ("uid=65533".to_owned(), "out", "another user", true),
        ("uid=65533".to_owned(), "out", "user namespace", false),
        ("uid=0".to_owned(), "out", "user namespace", true),
        (format!("exe={program}"), "out", "tcp/0.0.0.0", true),
        (format!("exe={program}"), "out", "ring thread", true),
        (format!("exe={program}"), "out", "thread", true),
        ("exe=/bin/sh".to_owned(), "out", "tcp/0.0.0.0", false),
        // Not covered, and documented: any user can claim this about itself.
        ("exe=/bin/sh".to_owned(), "out", "claims /bin/sh", true),
    ];
    for (allow, cgroup, call, is_let) in cases {
        fixture.guard_ok(&format!("{PORT} --allow {allow}"));
        let result = fixture.bind_call(cgroup, call, PORT);
        let expected = if is_let { &bound } else { &refused };
        assert!(
            result == *expected || result.starts_with("absent"),
            "{allow} {cgroup} {call}: {result}"
        );
    }
    // A guard covers one protocol, one port and one network namespace.
    fixture.guard_ok(&format!("{PORT} --off"));
    fixture.guard_ok(&format!("{PORT}/tcp --allow uid=65533"));
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused);
    assert_eq!(fixture.bind_call("out", "udp/0.0.0.0", PORT), bound);
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", "40444"), "given 40444");
    assert_eq!(fixture.bind_call("out", "network namespace", PORT), bound);
}
