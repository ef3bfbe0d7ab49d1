//! What `steer PORT` shows of a group that nobody steers.

use serde_json::Value;

use crate::harness::{User, free_port, script, start, start_command};

fn json(words: &[&str]) -> Value {
    let exited = start(User::Current, words).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    serde_json::from_str(&exited.stdout).unwrap()
}

#[test]
fn a_group_with_the_hash_of_the_kernel_is_shown_with_its_members() {
    let port = free_port().to_string();
    let file = script("traffic.py");
    let file = file.to_str().unwrap();
    let words = [file, "members", &port, "2", "127.0.0.1", "::1"];
    let members = start_command(User::Current, "python3", &words);
    members.wait_for_stdout("ready");
    let clients = start_command(User::Current, "python3", &[file, "hold", &port, "5", "127.0.0.1"]);
    clients.wait_for_stdout("ready");

    let all = json(&["steer", &port, "--json"]);
    let shown = &all["ports"][0];
    assert_eq!((&all["version"], &shown["rules"]["policy"]), (&1.into(), &"hash".into()), "{all}");
    assert_eq!(shown["addresses"].as_array().unwrap().len(), 2, "{all}");
    // The sockets of one process on two addresses are one member.
    let rows = shown["members"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{all}");
    assert_eq!(rows.iter().filter_map(|row| row["open"].as_u64()).sum::<u64>(), 5, "{all}");
    assert!(
        rows.iter().all(|row| row["share_wanted"] == 0.5 && row["state"] == "serving"),
        "{all}"
    );

    let text = start(User::Current, &["steer", &port]).wait().stdout;
    let first = format!("{port}/tcp: hash: the kernel selects by the addresses and ports");
    assert!(text.starts_with(&first), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("50.0%")).count(), 2, "{text}");

    let other = start(User::Current, &["steer", &format!("{port}/udp")]).wait();
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains(&format!("takes connections on {port}/udp")), "{other:?}");
}
