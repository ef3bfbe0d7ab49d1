//! `ls` and `doctor` show attachments that another process made.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::fixture::TestCgroup;
use crate::harness::{User, c_program, free_port, move_process, start, wait_until_answering};

fn json(user: User, words: &[&str]) -> Value {
    let exited = start(user, words).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    serde_json::from_str(&exited.stdout).unwrap()
}

/// The only member of a port in `ls --json`.
fn member(user: User, port: u16) -> Value {
    let json = json(user, &["ls", "--json", &port.to_string()]);
    assert_eq!(json["groups"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["groups"][0]["members"].as_array().map(Vec::len), Some(1), "{json}");
    json["groups"][0]["members"][0].clone()
}

#[test]
fn ls_lists_attachments_of_a_socket() {
    let Some(cgroup) = TestCgroup::new("cgroup-seen-ls") else { return };
    let who = c_program("who", &[]);
    let serve = |port: u16| {
        let words = ["tcp", "127.0.0.1", &port.to_string()].map(str::to_owned);
        let server = cgroup.start(&who, &words);
        wait_until_answering(([127, 0, 0, 1], port).into());
        server
    };
    let (early, late, outside) = (free_port(), free_port(), free_port());
    let before = serve(early);
    assert_eq!(member(User::Current, early)["attached"], serde_json::json!([]));

    // The attachment is at a parent of the programs' cgroup.
    let inner = cgroup.dir().join("inner");
    fs::create_dir(&inner).unwrap();
    assert_eq!(cgroup.attach(&[]).code, 0);
    let after = serve(late);
    move_process(&inner, before.pid());
    let words = ["tcp".into(), "127.0.0.1".into(), outside.to_string()];
    let outside_process = crate::harness::start_command(User::Current, &who, &words);
    wait_until_answering(([127, 0, 0, 1], outside).into());

    // A socket keeps the cgroup in which it was created when its process moves.
    let path = serde_json::json!([cgroup.path()]);
    let listed = member(User::Current, early);
    assert_eq!((&listed["shared"], &listed["attached"]), (&false.into(), &path));
    let listed = member(User::Current, late);
    assert_eq!((&listed["shared"], &listed["attached"]), (&true.into(), &path));
    assert_eq!(member(User::Current, outside)["attached"], serde_json::json!([]));
    let enter = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", inner.display());
    let words = ["-c", &enter, "sh", who.to_str().unwrap(), "tcp", "127.0.0.2", &early.to_string()];
    let nested = cgroup.start("/bin/sh", &words);
    wait_until_answering(([127, 0, 0, 2], early).into());
    let there = json(User::Current, &["ls", "--json", &format!("127.0.0.2:{early}")]);
    assert_eq!(there["groups"][0]["members"][0]["attached"], path, "{there}");
    // Only root can read the pins.
    assert_eq!(member(User::Nobody, late)["attached"], Value::Null);

    let table = |port: u16| start(User::Current, &["ls", &port.to_string()]).wait().stdout;
    let (with, without) = (table(late), table(outside));
    assert!(with.lines().next().unwrap().ends_with("  QUEUE  ATTACHED"), "{with}");
    assert!(with.trim_end().ends_with(&format!("  {}", cgroup.path())), "{with}");
    assert!(without.lines().next().unwrap().ends_with("  QUEUE"), "{without}");

    assert_eq!(cgroup.detach().code, 0);
    assert_eq!(member(User::Current, late)["attached"], serde_json::json!([]));
    assert!(table(late).lines().next().unwrap().ends_with("  QUEUE"));
    for server in [before, after, outside_process, nested] {
        server.terminate();
    }
    fs::remove_dir(inner).unwrap();
}

#[test]
fn doctor_lists_attachments() {
    let Some(cgroup) = TestCgroup::new("cgroup-seen-doctor") else { return };
    let fact = |user| {
        let json = json(user, &["doctor", "--json"]);
        let facts = json["facts"].as_array().unwrap();
        let fact = facts.iter().find(|fact| fact["name"] == "attachments").unwrap();
        let text = |key: &str| fact[key].as_str().unwrap().to_owned();
        (text("answer"), text("detail"))
    };
    let names = |(answer, detail): (String, String)| {
        assert_eq!(answer, "yes", "{detail}");
        detail.split(", ").map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let cgroup = cgroup.attached(&[]);
    let named = names(fact(User::Current));
    // Parallel tests attach too, and `doctor` names only the first few.
    assert!(named.contains(&cgroup.path()) || named.len() == 5, "{named:?}");
    let (answer, detail) = fact(User::Nobody);
    assert_eq!(answer, "unknown", "{detail}");
    assert!(detail.starts_with("not permitted here: "), "{detail}");

    assert_eq!(cgroup.detach().code, 0);
    let (answer, detail) = fact(User::Current);
    assert!(!detail.split(", ").any(|name| name == cgroup.path()), "{answer}: {detail}");
}
