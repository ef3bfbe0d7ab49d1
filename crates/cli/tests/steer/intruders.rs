//! Another program on a group that `steer` has set.

use crate::fixture::{PORT, TrafficFixture};
use crate::harness::script;

/// The program is named with its user, and the printed command sets the policy again.
#[test]
fn steer_names_the_program_and_sets_the_policy_again() {
    let Some(fixture) = TrafficFixture::new("steer-intruder") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} random"));
    let file = script("intruder.py").into_os_string().into_string().unwrap();
    for (kind, named) in [("cbpf", "a program of classic BPF"), ("ebpf", "(intruder) of uid 0")] {
        fixture
            .start("/usr/bin/env", &["python3", &file, PORT, "127.0.0.1", kind, "0", "leave"])
            .wait_for_stdout("attached");
        assert_eq!(fixture.connect(60, "127.0.0.1").len(), 1, "{kind}");
        let port = fixture.port();
        let why = port["not_in_force"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains(named) && why.contains("selects on 127.0.0.1"), "{port}");
        let advice = why.split('`').nth(1).unwrap().strip_prefix("sameport ").unwrap().to_owned();
        assert_eq!(advice, format!("steer {PORT}/tcp random"));
        fixture.ok(&advice);
        assert!(fixture.port()["not_in_force"].is_null(), "{kind}");
        let served = fixture.connect(60, "127.0.0.1");
        assert!(served.keys().eq(members.pids.iter()), "{kind}: {served:?}");
    }
}
