//! Workers that crash again and again.

use crate::harness::named_run::{NamedRun, RunSetup, connect, responder, rogue_command};
use crate::harness::{User, eventually};

/// Six crashes in a row end a worker.
const LIMIT: [&str; 2] = ["--max-restarts", "5"];

const GIVEN_UP: &str = "worker 1 crashed repeatedly and is not started again";

/// A crashing worker is given up and reported. The others serve, and a restart tries it again.
#[test]
fn crash_loop_is_given_up_and_others_serve() {
    for user in User::all() {
        for (how, why) in [("fails", "exited with 4"), ("crashes", "exited with 3")] {
            let run = NamedRun::start_rogue(*user, &LIMIT, how);
            let address = run.setup.address();
            let message = eventually(|| run.supervisor.stderr().contains(GIVEN_UP).then_some(()));
            assert!(message.is_some(), "{how}: {}", run.supervisor.stderr());
            run.supervisor.wait_for_stderr(&format!("{GIVEN_UP}: {why}"));
            let status = run.status();
            let worker = &status["workers"][0];
            assert_eq!(worker["state"], "given-up", "{status}");
            let other = run.wait_for_worker(2).to_string();
            for _ in 0..20 {
                assert_eq!(responder(address).unwrap(), other, "{how}");
            }
            let exited = run.try_verb("restart", &[]);
            // A worker that listens before it crashes counts as ready.
            if how == "fails" {
                assert_eq!(exited.code, 1, "{exited:?}");
                assert!(exited.stderr.contains("worker 1 was not replaced"), "{exited:?}");
            }
            responder(address).unwrap();
            run.stop();
        }
    }
}

/// No worker is left: the run exits with the code of the last one.
#[test]
fn run_exits_with_the_code_of_the_last_worker() {
    for user in User::all() {
        for (how, code) in [("fails", 4), ("crashes", 3)] {
            let run = RunSetup::new(*user).run(&LIMIT, &rogue_command(how));
            let exited = run.wait_for_exit(code);
            assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
        }
    }
}

/// A worker that exits with 0 unasked is started again, but not forever.
#[test]
fn repeated_exit_0_is_a_crash_loop() {
    let run = RunSetup::new(User::Current).run(&LIMIT, &["true"]);
    let exited = run.wait_for_exit(1);
    assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
    assert!(exited.stderr.contains("exited with 0"), "{exited:?}");
}

/// During the pause of a crash loop, connections wait for the next process.
#[test]
fn no_connection_is_refused_during_the_pause() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let command = rogue_command("crashes");
        let run = setup.run(&LIMIT, &command);
        let address = run.setup.address();
        let first = eventually(|| run.supervisor.stderr().contains("has ended").then_some(()));
        assert!(first.is_some(), "{}", run.supervisor.stderr());
        let mut connected = 0;
        while !run.supervisor.stderr().contains(GIVEN_UP) {
            match connect(address) {
                Ok(_) => connected += 1,
                Err(error) => assert!(
                    eventually(|| run.supervisor.stderr().contains(GIVEN_UP).then_some(()))
                        .is_some(),
                    "{error}: {}",
                    run.supervisor.stderr()
                ),
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(connected > 0);
        run.wait_for_exit(3);
    }
}

/// Without a limit a worker starts again for ever; `status` has the reason and the next start.
#[test]
fn a_crashing_worker_starts_again_without_limit() {
    for user in User::all() {
        let run = RunSetup::new(*user).run(&[], &["sh", "-c", "kill -SEGV $$"]);
        run.supervisor.wait_for_stderr("starts again in 2 s: killed by SIGSEGV");
        let waiting = eventually(|| {
            let worker = run.status()["workers"][0].clone();
            (worker["state"] == "waiting" && worker["restarts"].as_u64()? > 5).then_some(worker)
        });
        let worker = waiting.unwrap_or_else(|| panic!("{}", run.status()));
        assert_eq!(worker["why"], "killed by SIGSEGV");
        assert_eq!(worker["last_exit"], "killed by SIGSEGV");
        let next = worker["next_start"].as_u64().zip(worker["last_exit_at"].as_u64());
        assert!(next.is_some_and(|(next, last)| next >= last), "{worker}");
        let text = run.try_verb("status", &[]).stdout;
        assert!(text.contains("note: worker 1: killed by SIGSEGV"), "{text}");
        // A request does not wait for the end of the pause.
        let exited = run.try_verb("restart", &[]);
        assert_eq!(exited.code, 1, "{exited:?}");
        run.stop();
    }
}

/// `--max-restarts 0`: the first crash is the last.
#[test]
fn no_restart_at_all() {
    let run = RunSetup::new(User::Current).run(&["--max-restarts", "0"], &["sh", "-c", "exit 9"]);
    let exited = run.wait_for_exit(9);
    assert!(!exited.stderr.contains("starts again"), "{exited:?}");
}
