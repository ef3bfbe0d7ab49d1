//! A table for each kind of evidence.

use super::*;
use crate::audit::fixtures::{ProcessFixture, process};
use crate::membership::RunIdentity;

const PYTHON: &str = "/usr/bin/python3.11";

fn verdict(
    one: &ProcessFixture,
    other: &ProcessFixture,
    between: EvidenceSource,
    facts: &AuditFacts,
) -> bool {
    let mut facts = facts.clone();
    for process in [one, other] {
        facts.evidence.insert(process.process.pid, process.evidence.clone());
    }
    let verdict = are_one_program(&one.process, &other.process, between, &facts);
    let reversed = are_one_program(&other.process, &one.process, between, &facts);
    assert_eq!(verdict, reversed, "{one:?} {other:?}");
    verdict
}

#[track_caller]
fn are_one(one: &ProcessFixture, other: &ProcessFixture, expected: bool) {
    let found = verdict(one, other, EvidenceSource::OneUser, &AuditFacts::default());
    assert_eq!(found, expected, "{one:?} {other:?}");
}

#[test]
fn a_native_executable_identifies_the_program() {
    let nginx = |pid, arguments: &[&str]| process(pid, "/usr/sbin/nginx", arguments);
    are_one(&nginx(10, &[]), &nginx(20, &["-c", "other.conf"]), true);
    are_one(&nginx(10, &[]), &process(20, "/usr/sbin/haproxy", &[]), false);
    // The same path, another file.
    let mut fake = nginx(20, &[]);
    fake.evidence.executable = Some((1, 2));
    are_one(&nginx(10, &[]), &fake, false);
    // An unknown file is no evidence.
    fake.evidence.executable = None;
    are_one(&nginx(10, &[]), &fake, false);
    are_one(
        &fake.clone(),
        &ProcessFixture { process: Process { pid: 30, ..fake.process.clone() }, ..fake },
        false,
    );
}

#[test]
fn a_script_identifies_the_program() {
    let python = |pid, arguments: &[&str]| process(pid, PYTHON, arguments);
    let cases: [(&[&str], &[&str], bool); 12] = [
        (&["/srv/api.py"], &["/srv/api.py"], true),
        (&["/srv/api.py", "1"], &["/srv/api.py", "2"], true),
        (&["/srv/api.py"], &["/srv/x.py"], false),
        (&["api.py"], &["api.py"], true),
        (&["-m", "http.server", "80"], &["-m", "http.server", "81"], true),
        (&["-m", "http.server"], &["-m", "pdb"], false),
        (&["-W", "ignore", "api.py"], &["-W", "ignore", "x.py"], false),
        (&["-W", "ignore", "api.py"], &["-W", "ignore", "api.py"], true),
        (&["-c", "a"], &["-c", "b"], false),
        (&[], &[], false),
        (&["-"], &["-"], true),
        (&["/srv/api.py"], &[], false),
    ];
    for (one, other, expected) in cases {
        are_one(&python(10, one), &python(20, other), expected);
    }
    // A relative name in two directories is two scripts.
    let there = |pid, name| process(pid, PYTHON, &[name]).at(Some("/tmp"));
    are_one(&python(10, &["api.py"]), &there(20, "api.py"), false);
    are_one(&python(10, &["/srv/api.py"]), &there(20, "/srv/api.py"), true);
    let nowhere = |pid| process(pid, PYTHON, &["api.py"]).at(None);
    are_one(&nowhere(10), &nowhere(20), false);
    for tool in ["/usr/bin/socat", "/bin/nc.openbsd", "/lib64/ld-linux-x86-64.so.2"] {
        let tool_process = |pid, arguments: &[&str]| process(pid, tool, arguments);
        are_one(
            &tool_process(10, &["TCP-LISTEN:80", "EXEC:a"]),
            &tool_process(20, &["TCP-LISTEN:80", "EXEC:b"]),
            false,
        );
        are_one(&tool_process(10, &["TCP-LISTEN:80"]), &tool_process(20, &["TCP-LISTEN:80"]), true);
    }
}

#[test]
fn ancestors_are_evidence() {
    let master = process(10, "/usr/bin/master", &[]);
    let worker = process(20, "/usr/bin/worker", &[]).below(&[10, 1]);
    let helper = process(30, "/usr/bin/helper", &[]).below(&[20, 10, 1]);
    are_one(&master, &worker, true);
    are_one(&master, &helper, true);
    // A shell started both scripts.
    let shell = process(5, "/bin/bash", &[]);
    let scripts = [20, 30].map(|pid| {
        process(pid, PYTHON, &[&format!("/srv/{pid}.py")]).below(&[shell.process.pid, 1])
    });
    let mut facts = AuditFacts::default();
    facts.evidence.insert(5, shell.evidence.clone());
    assert!(!verdict(&scripts[0], &scripts[1], EvidenceSource::OneUser, &facts));
    // A master in the same language; its workers overwrite their arguments with a title.
    facts.evidence.insert(5, process(5, PYTHON, &["/srv/master.py"]).evidence);
    assert!(
        !verdict(&scripts[0], &scripts[1], EvidenceSource::OneUser, &facts),
        "as supervisord does"
    );
    let workers = [20, 30].map(|pid| process(pid, PYTHON, &[]).below(&[5, 1]));
    assert!(verdict(&workers[0], &workers[1], EvidenceSource::OneUser, &facts));
}

#[test]
fn process_1_is_an_ancestor_of_every_process() {
    let first = process(1, "/usr/lib/systemd/systemd", &[]).below(&[]);
    let someone = process(20, "/usr/bin/someone", &[]);
    are_one(&first, &someone, true);
    let mut facts = AuditFacts::default();
    facts.kernel.init_passes_sockets = true;
    assert!(!verdict(&first, &someone, EvidenceSource::OneUser, &facts));
    let service = someone.in_cgroup("/system.slice/someone.service");
    assert!(verdict(&first, &service, EvidenceSource::OneUser, &facts));
}

#[test]
fn a_unit_and_a_container_are_stronger_than_the_file() {
    let number = "3f".repeat(32);
    let container = format!("/system.slice/docker-{number}.scope");
    let other_container = format!("/system.slice/docker-{}.scope", "4a".repeat(32));
    let unit = |pid, file: &str, unit: &str| {
        process(pid, file, &[]).in_cgroup(&format!("/system.slice/{unit}"))
    };
    let server = |pid| process(pid, "/usr/bin/server", &[]);
    let cases = [
        (unit(10, "/a", "x.service"), unit(20, "/b", "x.service"), true),
        (unit(10, "/a", "x@1.service"), unit(20, "/b", "x@2.service"), true),
        (unit(10, "/a", "x.service"), unit(20, "/a", "y.service"), false),
        (unit(10, "/a", "x.service"), process(20, "/a", &[]), true),
        (server(10).in_cgroup(&container), server(20), false),
        (server(10).in_cgroup(&container), server(20).in_cgroup(&other_container), false),
        (server(10).in_cgroup(&container), process(20, "/b", &[]).in_cgroup(&container), true),
        (server(10).in_cgroup(&container), unit(20, "/usr/bin/server", "x.service"), false),
    ];
    for (one, other, expected) in cases {
        are_one(&one, &other, expected);
    }
}

#[test]
fn runs_of_one_group_are_one_program() {
    let run = |group: &str| RunIdentity {
        group: Some(group.parse().unwrap()),
        command: vec!["server".into()],
        directory: None,
    };
    let in_run = |pid, file: &str, group| {
        let mut process = process(pid, file, &[]);
        process.evidence.runs = vec![run(group)];
        process
    };
    are_one(&in_run(10, "/a", "web"), &in_run(20, "/b", "web"), true);
    are_one(&in_run(10, "/a", "web"), &in_run(20, "/b", "api"), false);
}

#[test]
fn command_lines_are_no_evidence_between_users() {
    let script = |pid| process(pid, PYTHON, &["/srv/api.py"]);
    let facts = AuditFacts::default();
    assert!(!verdict(&script(10), &script(20), EvidenceSource::Users, &facts));
    let native = |pid| process(pid, "/usr/bin/server", &[]);
    assert!(!verdict(&native(10), &native(20), EvidenceSource::Users, &facts));
    assert!(verdict(&native(10), &native(20).below(&[10]), EvidenceSource::Users, &facts));
    // A login session of sshd runs any program.
    let sshd = process(10, "/usr/sbin/sshd", &[]);
    assert!(!verdict(&sshd, &native(20).below(&[15, 10]), EvidenceSource::Users, &facts));
    assert!(verdict(&sshd, &native(20).below(&[15, 10]), EvidenceSource::OneUser, &facts));
    assert!(!verdict(&script(10), &script(20).below(&[10]), EvidenceSource::Users, &facts));
    let served = |pid| native(pid).in_cgroup("/system.slice/x.service");
    assert!(verdict(&served(10), &served(20), EvidenceSource::Users, &facts));
}
