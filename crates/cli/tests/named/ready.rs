//! When a worker counts as ready, and what becomes of a replacement that does not get there.

use crate::harness::named_run::{
    NamedRun, RunSetup, responder, rogue_command, while_clients_served,
};
use crate::harness::{User, c_program, eventually, in_test_dir, kill, spawn_process};

/// A named run of a server that says what a folder tells it to.
fn told(user: User, options: &[&str]) -> NamedRun {
    let setup = RunSetup::new(user);
    let program = c_program("named_ready", &[]);
    let command = [program.to_str(), Some("{port}"), setup.folder.to_str()];
    let command: Vec<String> = command.into_iter().flatten().map(str::to_owned).collect();
    setup.run(options, &command)
}

fn say(run: &NamedRun, what: &str, text: &str) {
    std::fs::write(run.setup.folder.join(what), text).unwrap();
}

fn unsay(run: &NamedRun, what: &str) {
    std::fs::remove_file(run.setup.folder.join(what)).unwrap();
}

/// A restart that fails: the old worker stays and serves, and the reason is told on both sides.
#[track_caller]
fn keeps_the_old_one(run: &NamedRun, verb: &str, rest: &[&str], why: &str) {
    let before = run.wait_for_ready(1);
    let exited = while_clients_served(run, run.setup.address(), || run.try_verb(verb, rest));
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("worker 1 did not get ready"), "{exited:?}");
    assert!(exited.stderr.contains(why), "{why}: {exited:?}");
    assert!(exited.stderr.contains("\nhint: "), "{exited:?}");
    run.supervisor.wait_for_stderr(why);
    assert_eq!(run.wait_for_ready(1), before, "{}", run.supervisor.stderr());
    let pid = before.first().unwrap().to_string();
    assert_eq!(responder(run.setup.address()).unwrap(), pid);
}

const SHORT: &str = "2s";

#[test]
fn by_http() {
    for user in User::all() {
        let options = ["--ready", "http:/healthz", "--ready-timeout", SHORT, "--grace", "1s"];
        let run = told(*user, &options);
        run.wait_for_ready(1);
        for status in ["404", "500", "wrong", "never"] {
            say(&run, "status", status);
            keeps_the_old_one(&run, "restart", &[], "it listens, and was not ready in time");
        }
        say(&run, "status", "302");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

#[test]
fn by_notification() {
    for user in User::all() {
        let run = told(*user, &["--ready", "notify", "--ready-timeout", SHORT, "--grace", "1s"]);
        run.wait_for_ready(1);
        say(&run, "quiet", "");
        keeps_the_old_one(&run, "restart", &[], "it listens, and was not ready in time");
        unsay(&run, "quiet");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

#[test]
fn by_a_command() {
    for user in User::all() {
        let send_request = in_test_dir(format!("asked-{}-{user:?}", std::process::id()));
        let check = format!("exec:test ! -e {} && kill -0 $SAMEPORT_PID", send_request.display());
        let options = ["--ready", &check, "--ready-timeout", SHORT, "--grace", "1s"];
        let run = told(*user, &options);
        run.wait_for_ready(1);
        std::fs::write(&send_request, "").unwrap();
        keeps_the_old_one(&run, "restart", &[], "it listens, and was not ready in time");
        std::fs::remove_file(&send_request).unwrap();
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// A command that never ends is ended with the run, and none of its kind piles up.
#[test]
fn a_command_that_never_ends_is_no_yes() {
    let options = ["--ready", "exec:sleep 600", "--ready-timeout", "1s", "--grace", "1s"];
    let run = told(User::Current, &options);
    run.supervisor.wait_for_stderr("was not ready in time");
    run.supervisor.signal(libc::SIGTERM);
    run.wait_for_exit(0);
}

#[test]
fn by_accepting() {
    for user in User::all() {
        let options = ["--ready", "tcp", "--ready-timeout", SHORT, "--grace", "1s"];
        let run = RunSetup::new(*user).run(&options, &rogue_command("good"));
        run.wait_for_ready(1);
        for (how, why) in [
            ("stuck", "it listens, and was not ready in time"),
            ("silent", "it listened on 0 of 1 addresses in time"),
        ] {
            let words = rogue_command(how);
            let port = run.setup.port.to_string();
            keeps_the_old_one(&run, "upgrade", &["--", &words[0], how, &port], why);
        }
        keeps_the_old_one(&run, "upgrade", &["--", "false"], "it ended with code 1");
        run.stop();
    }
}

#[test]
fn whoever_listens_on_less_is_not_ready() {
    for user in User::all() {
        let run = told(*user, &["--ready", "tcp", "--ready-timeout", SHORT, "--grace", "1s"]);
        run.wait_for_ready(1);
        // It has opened the second address only now, perhaps.
        let both = || run.status()["addresses"].as_array().map(Vec::len) == Some(2);
        assert!(eventually(|| both().then_some(())).is_some(), "{}", run.status());
        say(&run, "less", "");
        keeps_the_old_one(&run, "restart", &[], "it listened on 1 of 2 addresses in time");
        unsay(&run, "less");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// Whoever ignores SIGTERM is killed after the grace period, and that is told.
#[test]
fn grace_ends() {
    for user in User::all() {
        let run = RunSetup::new(*user).run(&["--grace", "300ms"], &rogue_command("deaf"));
        let before = run.wait_for_ready(1);
        let told = run.verb("restart", &[]).stderr;
        assert!(told.contains("it did not end in time, and is killed"), "{told}");
        assert!(told.contains("it ended by signal 9"), "{told}");
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// With no surge the old one ends first, and what comes in between waits in the held socket.
#[test]
fn surge() {
    for (surge, copies) in [("0", 1), ("2", 3)] {
        for user in User::all() {
            let setup = RunSetup::new(*user);
            let program = c_program("drains", &[]);
            let command = [program.to_str().unwrap(), "{port}"];
            let options = ["--ready", "tcp", "--surge", surge, "-n", &copies.to_string()];
            let run = setup.run(&options, &command);
            let before = run.wait_for_ready(copies);
            while_clients_served(&run, run.setup.address(), || run.verb("restart", &[]));
            assert!(run.wait_for_ready(copies).is_disjoint(&before), "{surge}");
            let before = run.wait_for_ready(copies);
            while_clients_served(&run, run.setup.address(), || {
                run.verb("restart", &["--surge", "0"])
            });
            assert!(run.wait_for_ready(copies).is_disjoint(&before), "{surge}");
            run.stop();
        }
    }
}

/// The worker that serves dies while its replacement is under way.
#[test]
fn the_old_one_dies_meanwhile() {
    let run = told(User::Current, &["--ready", "notify", "--grace", "1s"]);
    let before = run.wait_for_ready(1);
    say(&run, "quiet", "");
    let name = run.setup.name.clone();
    let mut restart = spawn_process(run.setup.command(&["restart", &name]));
    let coming = eventually(|| {
        let status = run.status();
        status["workers"].as_array()?.iter().any(|it| it["state"] == "starting").then_some(())
    });
    assert!(coming.is_some(), "{}", run.status());
    kill(*before.first().unwrap(), libc::SIGKILL);
    run.supervisor.wait_for_stderr("it ended by signal 9");
    assert!(restart.is_running(), "the new one is not ready");
    unsay(&run, "quiet");
    let exited = restart.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(run.wait_for_ready(1).is_disjoint(&before));
    run.stop();
}
