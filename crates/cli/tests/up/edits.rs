//! An edit of the file, and `up` again, while clients count what they lose.

use crate::fixture::Project;
use crate::harness::User;
use crate::harness::load::{Client, while_served};
use crate::harness::{eventually, kill};

/// Makes each edit while clients connect, and compares the line of the service.
#[track_caller]
fn edits(project: &Project, edits: &[(&str, &str)]) {
    for (text, line) in edits {
        project.write(text);
        let clients = [Client::OneShot; 3];
        let ((), tally) = while_served(&clients, project.address(), || project.up_says(line));
        assert_eq!(tally.kinds(), std::collections::BTreeMap::new(), "{line}: {tally:?}");
        // Twice in a row: nothing changes.
        let before = project.pids(&project.name);
        let again = project.up(&[]);
        assert!(again.stdout.contains(": as written, "), "{line}: {again:?}");
        assert_eq!(project.pids(&project.name), before, "{line}");
        let status = project.status(&project.name);
        let has_policy = status["traffic"].as_array().is_some_and(|it| !it.is_empty());
        assert_eq!(has_policy, text.contains("policy"), "{line}: {status}");
    }
}

/// The number of workers, the command, variables, options of the supervisor and of the workers.
#[test]
fn an_edit_and_up_again_lose_no_connection() {
    for user in User::all() {
        let Some(project) = Project::new(*user, "an_edit_and_up_again_lose_no_connection") else {
            return;
        };
        project.write("[NAME]\nSERVER]\nworkers = 2\n");
        project.up_says("NAME: start, 2 workers");
        let (_, supervisor) = project.pids(&project.name);
        edits(
            &project,
            &[
                ("[NAME]\nSERVER]\nworkers = 3\n", "NAME: 2 to 3 workers, nothing lost"),
                (
                    "[NAME]\nSERVER, \"new\"]\nworkers = 4\n",
                    "NAME: upgrade (command), 3 to 4 workers, nothing lost",
                ),
                (
                    "[NAME]\nSERVER, \"new\"]\nworkers = 2\nready = \"tcp\"\n",
                    "NAME: options (ready), 4 to 2 workers, nothing lost",
                ),
                (
                    "[NAME]\nSERVER, \"new\"]\nworkers = 2\nready = \"tcp\"\nenv = { MODE = \"one\" }\n",
                    "NAME: upgrade (env), 2 workers, nothing lost",
                ),
                (
                    "[NAME]\nSERVER, \"new\"]\nworkers = 2\nenv = { MODE = \"two\" }\n",
                    "NAME: options (ready, env), 2 workers replaced, nothing lost",
                ),
                (
                    "[NAME]\nSERVER]\nworkers = 2\ndrain = \"all\"\nmax-restarts = 5\n",
                    "NAME: options (drain, max-restarts, command, env), 2 workers replaced, nothing lost",
                ),
                (
                    "[NAME]\nSERVER]\nworkers = 2\npolicy = \"random\"\n",
                    "NAME: options (drain, max-restarts, policy), nothing lost",
                ),
                ("[NAME]\nSERVER]\nworkers = 2\n", "NAME: options (policy), nothing lost"),
            ],
        );
        assert_eq!(project.pids(&project.name).1, supervisor);
        assert!(project.answer().contains(" unset 1"), "{}", project.answer());
        project.down();
    }
}

/// `--no-wait` starts a service with variables once: a worker that does not listen yet has them.
#[test]
fn variables_of_a_worker_that_starts_are_as_written() {
    let test = "variables_of_a_worker_that_starts_are_as_written";
    let Some(project) = Project::new(User::Current, test) else { return };
    project.write("[NAME]\ncommand = [\"sleep\", \"1000\"]\nenv = { MODE = \"one\" }\n");
    let line = |text: &str| format!("{}: {text}\n", project.name);
    assert_eq!(project.up(&["--no-wait"]).stdout, line("start, 1 worker"));
    assert_eq!(project.up(&["--no-wait"]).stdout, line("as written, 1 worker"));
    project.down();
}

/// Each of the other options, one after another: the log writer is replaced too, and keeps no socket of the run.
#[test]
fn each_option_changes_without_a_lost_connection() {
    let test = "each_option_changes_without_a_lost_connection";
    let Some(project) = Project::new(User::Current, test) else { return };
    let start = "[NAME]\nSERVER]\nworkers = 2\n";
    project.write(start);
    project.up_says("NAME: start, 2 workers");
    let (directory, group) = (project.dir.join("app"), project.other("group"));
    let keys = [
        ("log-size = \"1M\"".to_owned(), "options (log-size), 2 workers replaced"),
        ("grace = \"9s\"".to_owned(), "options (grace, log-size), 2 workers replaced"),
        ("surge = 2".to_owned(), "options (grace, surge)"),
        ("port = PORT".to_owned(), "options (port, surge), 2 workers replaced"),
        (format!("group = {group:?}"), "options (group, port), 2 workers replaced"),
        (format!("directory = {directory:?}"), "options (group, directory), 2 workers replaced"),
        (String::new(), "upgrade (directory), 2 workers"),
    ];
    let edited =
        keys.map(|(key, line)| (format!("{start}{key}\n"), format!("NAME: {line}, nothing lost")));
    let edited: Vec<_> = edited.iter().map(|(text, line)| (&**text, &**line)).collect();
    edits(&project, &edited);
    // Nobody else has a socket that listens (`proc_net_tcp(5)`: 0A), once those of the former workers are closed.
    let listening = format!(":{:04X} 00000000:0000 0A", project.port);
    let count =
        || std::fs::read_to_string("/proc/net/tcp").map_or(0, |it| it.matches(&listening).count());
    assert!(eventually(|| (count() == 2).then_some(())).is_some(), "{} sockets listen", count());
    project.down();
}

/// What was changed by hand is as it is written again.
#[test]
fn what_was_changed_by_hand_is_set_back() {
    let Some(project) = Project::new(User::Current, "what_was_changed_by_hand_is_set_back") else {
        return;
    };
    project.write("[NAME]\nSERVER]\nworkers = 2\n");
    project.up(&[]);
    let (name, port) = (project.name.clone(), project.port.to_string());
    for (words, line) in [
        (&["scale", &name, "3"][..], "NAME: 3 to 2 workers, nothing lost"),
        (
            &["upgrade", &name, "--env", "MODE=hand"],
            "NAME: options (env), 2 workers replaced, nothing lost",
        ),
        (&["steer", &port, "random"], "NAME: options (policy), nothing lost"),
    ] {
        let changed = project.sameport(words);
        assert_eq!(changed.code, 0, "{changed:?}");
        project.up_says(line);
        project.up_says("NAME: as written, 2 workers");
    }
    assert!(project.answer().contains(" unset 1"), "{}", project.answer());
    // A killed supervisor is replaced, and its workers.
    let (before, supervisor) = project.pids(&name);
    kill(i32::try_from(supervisor).unwrap(), libc::SIGKILL);
    let dry = project.up(&["--dry-run"]);
    assert!(dry.stdout.contains("in the place of a killed supervisor"), "{dry:?}");
    let clients = [Client::OneShot; 3];
    let ((), tally) = while_served(&clients, project.address(), || {
        project.up_says(
            "NAME: start in the place of a killed supervisor, 2 workers replaced, nothing lost",
        );
    });
    assert_eq!(tally.kinds(), std::collections::BTreeMap::new(), "{tally:?}");
    assert!(project.pids(&name).0.iter().all(|pid| !before.contains(pid)));
    project.down();
}

/// Ports move: the new workers listen elsewhere, and the old ones finish.
#[test]
fn a_map_moves_the_workers() {
    let Some(project) = Project::new(User::Current, "a_map_moves_the_workers") else { return };
    project.write("[NAME]\nSERVER]\nmap = [\"9=PORT\"]\n");
    project.up(&[]);
    let moved = crate::harness::free_port();
    project.write(&format!("[NAME]\nSERVER]\nmap = [\"PORT={moved}\"]\n"));
    project.up_says("NAME: options (map), 1 worker replaced, nothing lost");
    let listens = eventually(|| {
        let status = project.status(&project.name);
        let addresses = status["addresses"].as_array()?.clone();
        (addresses.len() == 1 && addresses[0]["address"] == format!("127.0.0.1:{moved}"))
            .then_some(())
    });
    assert!(listens.is_some(), "{}", project.status(&project.name));
    project.up_says("NAME: as written, 1 worker");
    project.down();
}

/// `canary` in the file: it starts, stays, is promoted when the file says so, or ends.
#[test]
fn a_canary_is_written_in_the_file() {
    let Some(project) = Project::new(User::Current, "a_canary_is_written_in_the_file") else {
        return;
    };
    project.write("[NAME]\nSERVER]\nworkers = 2\n");
    project.up(&[]);
    let canary = "[NAME]\nSERVER]\nworkers = 2\n[NAME.canary]\nshare = \"50%\"\nSERVER, \"two\"]\n";
    project.write(canary);
    let clients = [Client::OneShot; 2];
    let ((), tally) = while_served(&clients, project.address(), || {
        project.up_says("NAME: canary, 50% of new connections");
        project.up_says("NAME: as written, 2 workers");
        project.write("[NAME]\nSERVER, \"two\"]\nworkers = 2\n");
        project.up_says("NAME: promotion of the canary, nothing lost");
    });
    assert_eq!(tally.kinds(), std::collections::BTreeMap::new(), "{tally:?}");
    project.down();
}

/// Two services: started side by side, one of them left out later.
#[test]
fn two_services_come_from_a_file() {
    for user in User::all() {
        let Some(project) = Project::new(*user, "two_services_come_from_a_file") else { return };
        let other = project.other("api");
        let second = crate::harness::free_port().to_string();
        let api = format!("[{other}]\nSERVER]\nmap = [\"PORT={second}\"]\n");
        project.write(&format!("[NAME]\nSERVER]\nworkers = 2\n\n{api}"));
        let dry = project.up(&["--dry-run"]);
        assert!(dry.stdout.contains(&format!("{other}: start, 1 worker\n")), "{dry:?}");
        assert_eq!(project.runs(), Vec::<String>::new());
        let up = project.up(&[]);
        for name in [&project.name, &other] {
            assert!(up.stdout.contains(&format!("{name}: start")), "{up:?}");
        }
        // Of another file with a service of the same name nothing changes.
        std::fs::create_dir(project.dir.join("else")).unwrap();
        std::fs::write(
            project.dir.join("else/sameport.toml"),
            format!("[{other}]\ncommand = [\"true\"]\n"),
        )
        .unwrap();
        let foreign = project.sameport(&["up", "-f", "else/sameport.toml"]);
        assert_eq!(foreign.code, 1, "{foreign:?}");
        assert!(foreign.stderr.contains("belongs to"), "{foreign:?}");
        let foreign = project.sameport(&["down", "-f", "else/sameport.toml"]);
        assert!(foreign.stderr.contains("no run of"), "{foreign:?}");
        // It is left out: it runs on, and --prune stops it.
        project.write("[NAME]\nSERVER]\nworkers = 2\n");
        let up = project.up(&[]);
        let line = format!("{other}: not in sameport.toml: runs on; --prune stops it");
        assert!(up.stdout.contains(&line), "{up:?}");
        let up = project.up(&["--prune", "--json"]);
        let stopped = format!(r#"{{"service":"{other}","state":"stopped""#);
        assert!(up.stdout.contains(&stopped), "{up:?}");
        // `down` knows what is gone from the file, and needs no file that can be read.
        project.write(&format!("[NAME]\nSERVER]\nworkers = 2\n\n{api}"));
        project.up(&[&other]);
        project.write("[broken\n");
        assert_eq!(project.sameport(&["down", &other]).code, 0);
        project.down();
    }
}
