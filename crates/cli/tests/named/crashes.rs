//! Workers that crash again and again.

use crate::harness::named_run::{NamedRun, RunSetup, connect, responder, rogue_command};
use crate::harness::{User, eventually};

const GIVEN_UP: &str = "worker 1 crashed repeatedly and is not started again";

/// One is given up, told of, and seen; the others serve, and a restart gives it another chance.
#[test]
fn a_crash_loop_is_given_up_and_the_others_serve() {
    for user in User::all() {
        for (how, why) in [("fails", "it ended with code 4"), ("crashes", "it ended with code 3")] {
            let run = NamedRun::start_rogue(*user, &[], how);
            let address = run.setup.address();
            let told = eventually(|| run.supervisor.stderr().contains(GIVEN_UP).then_some(()));
            assert!(told.is_some(), "{how}: {}", run.supervisor.stderr());
            run.supervisor.wait_for_stderr(&format!("{GIVEN_UP}: {why}"));
            let status = run.status();
            let worker = &status["workers"][0];
            assert_eq!(worker["state"], "given-up", "{status}");
            let other = run.wait_for_worker(2).to_string();
            for _ in 0..20 {
                assert_eq!(responder(address).unwrap(), other, "{how}");
            }
            let exited = run.try_verb("restart", &[]);
            // One that listens before it crashes has been ready.
            if how == "fails" {
                assert_eq!(exited.code, 1, "{exited:?}");
                assert!(exited.stderr.contains("worker 1 did not get ready"), "{exited:?}");
            }
            responder(address).unwrap();
            run.stop();
        }
    }
}

/// Nobody is left: the run ends, with the code of the last.
#[test]
fn when_all_are_given_up_the_run_ends_with_their_code() {
    for user in User::all() {
        for (how, code) in [("fails", 4), ("crashes", 3)] {
            let run = RunSetup::new(*user).run(&[], &rogue_command(how));
            let exited = run.wait_for_exit(code);
            assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
        }
    }
}

/// A worker that ends well though nobody asked it to is started again, and not without end.
#[test]
fn ending_well_again_and_again_is_a_crash_loop_too() {
    let run = RunSetup::new(User::Current).run(&[], &["true"]);
    let exited = run.wait_for_exit(1);
    assert!(exited.stderr.contains(GIVEN_UP), "{exited:?}");
    assert!(exited.stderr.contains("it ended with code 0"), "{exited:?}");
}

/// While a crash loop pauses, nobody is refused: who comes waits for the next process.
#[test]
fn nobody_is_refused_while_it_pauses() {
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
