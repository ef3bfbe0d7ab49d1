//! Workers that crash again and again.

use crate::room::{Room, Run, connect, rogue, who};
use crate::stage::{User, eventually};

const GIVEN_UP: &str = "worker 1 crashed again and again and is not started any more";

/// One is given up, told of, and seen; the others serve, and a restart gives it another chance.
#[test]
fn a_crash_loop_is_given_up_and_the_others_serve() {
    for user in User::all() {
        for (how, why) in [("fails", "it ended with code 4"), ("crashes", "it ended with code 3")] {
            let run = Run::of_rogue(*user, &[], how);
            let address = run.room.address();
            let told = eventually(|| run.started.stderr().contains(GIVEN_UP).then_some(()));
            assert!(told.is_some(), "{how}: {}", run.started.stderr());
            run.started.wait_for_stderr(&format!("{GIVEN_UP}: {why}"));
            let status = run.status();
            let worker = &status["workers"][0];
            assert_eq!(worker["state"], "given-up", "{status}");
            let other = run.worker(2).to_string();
            for _ in 0..20 {
                assert_eq!(who(address).unwrap(), other, "{how}");
            }
            let ended = run.ask("restart", &[]);
            // One that listens before it crashes has been ready.
            if how == "fails" {
                assert_eq!(ended.code, 1, "{ended:?}");
                assert!(ended.stderr.contains("worker 1 did not get ready"), "{ended:?}");
            }
            who(address).unwrap();
            run.stop();
        }
    }
}

/// Nobody is left: the run ends, with the code of the last.
#[test]
fn when_all_are_given_up_the_run_ends_with_their_code() {
    for user in User::all() {
        for (how, code) in [("fails", 4), ("crashes", 3)] {
            let run = Room::new(*user).run(&[], &rogue(how));
            let ended = run.ended(code);
            assert!(ended.stderr.contains(GIVEN_UP), "{ended:?}");
        }
    }
}

/// A worker that ends well though nobody asked it to is started again, and not without end.
#[test]
fn ending_well_again_and_again_is_a_crash_loop_too() {
    let run = Room::new(User::Ourselves).run(&[], &["true"]);
    let ended = run.ended(1);
    assert!(ended.stderr.contains(GIVEN_UP), "{ended:?}");
    assert!(ended.stderr.contains("it ended with code 0"), "{ended:?}");
}

/// While a crash loop pauses, nobody is refused: who comes waits for the next process.
#[test]
fn nobody_is_refused_while_it_pauses() {
    for user in User::all() {
        let room = Room::new(*user);
        let command = rogue("crashes");
        let run = room.run(&[], &command);
        let address = run.room.address();
        let first = eventually(|| run.started.stderr().contains("has ended").then_some(()));
        assert!(first.is_some(), "{}", run.started.stderr());
        let mut connected = 0;
        while !run.started.stderr().contains(GIVEN_UP) {
            match connect(address) {
                Ok(_) => connected += 1,
                Err(error) => assert!(
                    eventually(|| run.started.stderr().contains(GIVEN_UP).then_some(())).is_some(),
                    "{error}: {}",
                    run.started.stderr()
                ),
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(connected > 0);
        run.ended(3);
    }
}
