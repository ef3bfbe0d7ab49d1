//! Workers that crash again and again.

use crate::harness::named_run::{NamedRun, RunSetup, connect, responder, rogue_command};
use crate::harness::{User, eventually};

const GIVEN_UP: &str = "worker 1 crashed repeatedly and is not started again";

/// A crashing worker is given up and reported. The others serve, and a restart tries it again.
#[test]
fn crash_loop_is_given_up_and_others_serve() {
    for user in User::all() {
        for (how, why) in [("fails", "exited with code 4"), ("crashes", "exited with code 3")] {
            let run = NamedRun::start_rogue(*user, &[], how);
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
                assert!(exited.stderr.contains("worker 1 did not get ready"), "{exited:?}");
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
            let run = RunSetup::new(*user).run(&[], &rogue_command(how));
            let exited = run.wait_for_exit(code);
            assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
        }
    }
}

/// A worker that exits with 0 unasked is started again, but not forever.
#[test]
fn repeated_exit_0_is_a_crash_loop() {
    let run = RunSetup::new(User::Current).run(&[], &["true"]);
    let exited = run.wait_for_exit(1);
    assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
    assert!(exited.stderr.contains("exited with code 0"), "{exited:?}");
}

/// During the pause of a crash loop, connections wait for the next process.
#[test]
fn no_connection_is_refused_during_the_pause() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let command = rogue_command("crashes");
        let run = setup.run(&[], &command);
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
