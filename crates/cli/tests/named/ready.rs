//! When a worker is ready, and the fate of a replacement that never is.

use crate::harness::named_run::{
    NamedRun, RunSetup, responder, rogue_command, while_clients_served,
};
use crate::harness::{User, c_program, eventually, in_test_dir, kill, spawn_process};

/// A named run of a server that the files of a directory control.
fn controlled_run(user: User, options: &[&str]) -> NamedRun {
    RunSetup::new(user).controlled_run(options)
}

fn write_control(run: &NamedRun, what: &str, text: &str) {
    std::fs::write(run.setup.dir.join(what), text).unwrap();
}

fn remove_control(run: &NamedRun, what: &str) {
    std::fs::remove_file(run.setup.dir.join(what)).unwrap();
}

/// A failed restart keeps the old worker, and both sides report the reason.
#[track_caller]
fn failed_restart_keeps_the_old_worker(run: &NamedRun, verb: &str, rest: &[&str], why: &str) {
    let before = run.wait_for_ready(1);
    let exited = while_clients_served(run, run.setup.address(), || run.try_verb(verb, rest));
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("worker 1 was not replaced"), "{exited:?}");
    assert!(exited.stderr.contains(why), "{why}: {exited:?}");
    assert!(exited.stderr.contains("\nhint: "), "{exited:?}");
    run.supervisor.wait_for_stderr(why);
    assert_eq!(run.wait_for_ready(1), before, "{}", run.supervisor.stderr());
    let pid = before.first().unwrap().to_string();
    assert_eq!(responder(run.setup.address()).unwrap(), pid);
}

const SHORT: &str = "2s";

#[test]
fn ready_by_http() {
    for user in User::all() {
        let options = ["--ready", "http:/healthz", "--ready-timeout", SHORT, "--grace", "1s"];
        let run = controlled_run(*user, &options);
        run.wait_for_ready(1);
        for (status, answer) in [
            ("404", "404 from"),
            ("500", "500 from"),
            ("wrong", "no HTTP from"),
            ("never", "no answer from"),
        ] {
            write_control(&run, "status", status);
            let why = format!("not ready in time: {answer} {}", run.setup.address());
            failed_restart_keeps_the_old_worker(&run, "restart", &[], &why);
        }
        write_control(&run, "status", "302");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

#[test]
fn ready_by_notification() {
    for user in User::all() {
        let run = controlled_run(
            *user,
            &["--ready", "notify", "--ready-timeout", SHORT, "--grace", "1s"],
        );
        run.wait_for_ready(1);
        write_control(&run, "quiet", "");
        let why = "not ready in time: no READY=1 on NOTIFY_SOCKET";
        failed_restart_keeps_the_old_worker(&run, "restart", &[], why);
        remove_control(&run, "quiet");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

#[test]
fn ready_by_command() {
    for user in User::all() {
        let send_request = in_test_dir(format!("asked-{}-{user:?}", std::process::id()));
        let check = format!("exec:test ! -e {} && kill -0 $SAMEPORT_PID", send_request.display());
        let options = ["--ready", &check, "--ready-timeout", SHORT, "--grace", "1s"];
        let run = controlled_run(*user, &options);
        run.wait_for_ready(1);
        std::fs::write(&send_request, "").unwrap();
        let why = "not ready in time: exec: exited with 1";
        failed_restart_keeps_the_old_worker(&run, "restart", &[], why);
        std::fs::remove_file(&send_request).unwrap();
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// A readiness command that hangs is killed with the run, and at most one exists.
#[test]
fn hanging_command_is_not_ready() {
    let options = ["--ready", "exec:sleep 600", "--ready-timeout", "1s", "--grace", "1s"];
    let run = controlled_run(User::Current, &options);
    run.supervisor.wait_for_stderr("not ready in time: exec: has not exited");
    run.supervisor.signal(libc::SIGTERM);
    run.wait_for_exit(0);
}

#[test]
fn ready_by_accepting() {
    for user in User::all() {
        let options = ["--ready", "tcp", "--ready-timeout", SHORT, "--grace", "1s"];
        let run = RunSetup::new(*user).run(&options, &rogue_command("good"));
        run.wait_for_ready(1);
        let address = run.setup.address();
        for (how, why) in [
            ("stuck", format!("not ready in time: no accept on {address}")),
            ("silent", format!("{address} is missing; the worker listens on no address")),
        ] {
            let words = rogue_command(how);
            let port = run.setup.port.to_string();
            failed_restart_keeps_the_old_worker(
                &run,
                "upgrade",
                &["--", &words[0], how, &port],
                &why,
            );
        }
        failed_restart_keeps_the_old_worker(&run, "upgrade", &["--", "false"], "exited with 1");
        run.stop();
    }
}

#[test]
fn worker_with_fewer_addresses_is_not_ready() {
    for user in User::all() {
        let run =
            controlled_run(*user, &["--ready", "tcp", "--ready-timeout", SHORT, "--grace", "1s"]);
        run.wait_for_ready(1);
        // The second address may have appeared only now.
        let both = || run.status()["addresses"].as_array().map(Vec::len) == Some(2);
        assert!(eventually(|| both().then_some(())).is_some(), "{}", run.status());
        write_control(&run, "less", "");
        let port = run.setup.port;
        let why =
            format!("127.0.0.1:{} is missing; the worker listens on 127.0.0.1:{port}", port + 1);
        failed_restart_keeps_the_old_worker(&run, "restart", &[], &why);
        remove_control(&run, "less");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// A worker that ignores SIGTERM is killed after the grace period, and a message says so.
#[test]
fn grace_period_ends_with_sigkill() {
    for user in User::all() {
        let run = RunSetup::new(*user).run(&["--grace", "300ms"], &rogue_command("deaf"));
        let before = run.wait_for_ready(1);
        let controlled_run = run.verb("restart", &[]).stderr;
        assert!(controlled_run.contains("did not exit in time and is killed"), "{controlled_run}");
        assert!(controlled_run.contains("killed by SIGKILL"), "{controlled_run}");
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        run.stop();
    }
}

/// Without surge the old worker stops first, and connections wait in the held socket.
#[test]
fn restart_without_surge() {
    for (restart_without_surge, copies) in [("0", 1), ("2", 3)] {
        for user in User::all() {
            let setup = RunSetup::new(*user);
            let program = c_program("drains", &[]);
            let command = [program.to_str().unwrap(), "{port}"];
            let options =
                ["--ready", "tcp", "--surge", restart_without_surge, "-n", &copies.to_string()];
            let run = setup.run(&options, &command);
            let before = run.wait_for_ready(copies);
            while_clients_served(&run, run.setup.address(), || run.verb("restart", &[]));
            assert!(run.wait_for_ready(copies).is_disjoint(&before), "{restart_without_surge}");
            let before = run.wait_for_ready(copies);
            while_clients_served(&run, run.setup.address(), || {
                run.verb("restart", &["--surge", "0"])
            });
            assert!(run.wait_for_ready(copies).is_disjoint(&before), "{restart_without_surge}");
            run.stop();
        }
    }
}

/// The serving worker dies while its replacement starts.
#[test]
fn old_worker_dies_during_the_restart() {
    let run = controlled_run(User::Current, &["--ready", "notify", "--grace", "1s"]);
    let before = run.wait_for_ready(1);
    write_control(&run, "quiet", "");
    let name = run.setup.name.clone();
    let mut restart = spawn_process(run.setup.command(&["restart", &name]));
    let coming = eventually(|| {
        let status = run.status();
        status["workers"].as_array()?.iter().any(|it| it["state"] == "starting").then_some(())
    });
    assert!(coming.is_some(), "{}", run.status());
    kill(*before.first().unwrap(), libc::SIGKILL);
    run.supervisor.wait_for_stderr("killed by SIGKILL");
    assert!(restart.is_running(), "the new one is not ready");
    remove_control(&run, "quiet");
    let exited = restart.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(run.wait_for_ready(1).is_disjoint(&before));
    run.stop();
}
