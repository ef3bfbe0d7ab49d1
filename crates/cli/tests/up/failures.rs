//! What fails leaves the runs as they were.

use std::collections::BTreeMap;

use crate::fixture::Project;
use crate::harness::load::{Client, while_served};
use crate::harness::{User, eventually, spawn_process};

/// A new version that crashes, options that cannot hold, a file with an error: the old workers serve on, with
/// the old options, and another service is changed all the same.
#[test]
fn a_service_that_fails_is_as_before() {
    let Some(project) = Project::new(User::Current, "a_service_that_fails_is_as_before") else {
        return;
    };
    let other = project.other("api");
    let second = crate::harness::free_port().to_string();
    let api = |workers: u16| {
        format!("\n[{other}]\nSERVER]\nmap = [\"PORT={second}\"]\nworkers = {workers}\n")
    };
    project.write(&format!("[NAME]\nSERVER]\nready-timeout = \"10s\"{}", api(1)));
    project.up(&[]);
    let before = project.pids(&project.name);
    let cases = [
        // The same as an upgrade, and with other options, which go back.
        ("SERVER, \"bad\"]\nready-timeout = \"10s\"", "worker 1 was not replaced"),
        ("SERVER, \"bad\"]\nready-timeout = \"9s\"", "worker 1 was not replaced"),
        ("SERVER]\nready-timeout = \"10s\"\ndirectory = \"/no/such\"", "/no/such"),
    ];
    for (index, (service, message)) in cases.into_iter().enumerate() {
        let workers = 2 + u16::try_from(index % 2).unwrap();
        project.write(&format!("[NAME]\n{service}{}", api(workers)));
        let ((), tally) = while_served(&[Client::OneShot; 2], project.address(), || {
            let failed = project.sameport(&["up"]);
            let code = if message.starts_with('/') { 2 } else { 1 };
            assert!(failed.code == 1 || failed.code == code, "{service}: {failed:?}");
            assert!(failed.stderr.contains(message), "{service}: {failed:?}");
        });
        assert_eq!(tally.kinds(), BTreeMap::new(), "{service}: {tally:?}");
        assert_eq!(project.pids(&project.name), before, "{service}");
    }
    assert_eq!(project.pids(&other).0.len(), 3);
    // The options of before hold: the file as it was is what runs.
    project.write(&format!("[NAME]\nSERVER]\nready-timeout = \"10s\"{}", api(3)));
    project.up_says("NAME: as written, 1 worker");
    project.write("[NAME]\ncommand = [\n");
    let broken = project.sameport(&["up"]);
    assert_eq!(broken.code, 2, "{broken:?}");
    assert_eq!(project.pids(&project.name), before);
    project.down();
}

/// What cannot change while a run serves is asked for, and done with --restart.
#[test]
fn a_stop_and_start_is_asked_for() {
    let Some(project) = Project::new(User::Current, "a_stop_and_start_is_asked_for") else {
        return;
    };
    project.write("[NAME]\nSERVER]\n");
    project.up(&[]);
    let before = project.pids(&project.name);
    project.write("[NAME]\nSERVER]\nqueue = \"shared\"\n");
    let dry = project.up(&["--dry-run"]);
    let planned = "stop and start (queue cannot change while it runs), 1 worker; clients are refused meanwhile";
    assert!(dry.stdout.contains(planned), "{dry:?}");
    let refused = project.sameport(&["up"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("--restart"), "{refused:?}");
    assert_eq!(project.pids(&project.name), before);
    project.up(&["--restart"]);
    assert_ne!(project.pids(&project.name).1, before.1);
    project.up_says("NAME: as written, 1 worker");
    project.down();
}

/// A run that was started by hand is taken over on request.
#[test]
fn a_run_by_hand_is_adopted_on_request() {
    let Some(project) = Project::new(User::Current, "a_run_by_hand_is_adopted_on_request") else {
        return;
    };
    let server = project.dir.join("app/server.py").display().to_string();
    let port = project.port.to_string();
    let words = ["run", "--name", &project.name, "--", "python3", &server, &port];
    let by_hand = spawn_process(project.command(&words));
    project.wait_for_answer(" 1");
    let is_ready = eventually(|| (!project.pids(&project.name).0.is_empty()).then_some(()));
    assert!(is_ready.is_some(), "{}", project.status(&project.name));
    project.write("[NAME]\nSERVER]\n");
    let refused = project.sameport(&["up"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("by hand") && refused.stderr.contains("--adopt"),
        "{refused:?}"
    );
    // `down` leaves it alone too.
    project.sameport(&["down"]);
    let before = project.pids(&project.name);
    let ((), tally) = while_served(&[Client::OneShot; 2], project.address(), || {
        project.up(&["--adopt"]);
    });
    assert_eq!(tally.kinds(), BTreeMap::new(), "{tally:?}");
    assert_eq!(project.pids(&project.name), before);
    project.up_says("NAME: as written, 1 worker");
    project.down();
    assert_eq!(by_hand.wait().code, 0);
}

/// Two at once: the second waits for the first.
#[test]
fn two_at_once_go_one_after_the_other() {
    let Some(project) = Project::new(User::Current, "two_at_once_go_one_after_the_other") else {
        return;
    };
    project.write("[NAME]\nSERVER]\nworkers = 2\n");
    let both: Vec<_> = (0..3).map(|_| project.start(&["up"])).collect();
    let ends: Vec<_> = both.into_iter().map(crate::harness::Process::wait).collect();
    assert!(ends.iter().all(|end| end.code == 0), "{ends:?}");
    let started = ends.iter().filter(|end| end.stdout.contains(": start, 2 workers"));
    assert_eq!(started.count(), 1, "{ends:?}");
    project.down();
}

#[test]
fn wrong_command_lines_change_nothing() {
    let Some(project) = Project::new(User::Current, "wrong_command_lines_change_nothing") else {
        return;
    };
    let none = project.sameport(&["up"]);
    assert_eq!(none.code, 2, "{none:?}");
    project.write("[NAME]\nSERVER]\n");
    let near = format!("{}0", project.name);
    for (words, text) in [
        (&["up", &near][..], &*project.name),
        (&["up", "--watch", "/no/such"], "/no/such"),
        (&["down", "other"], "no run of"),
    ] {
        let refused = project.sameport(words);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
    assert_eq!(project.sameport(&["down"]).code, 0);
    project.down();
}
