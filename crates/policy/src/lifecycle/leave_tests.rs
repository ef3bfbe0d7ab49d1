//! A run that is announced as leaving.

use std::time::Duration;

use super::exit::Exit;
use super::tests::{at, settings};
use super::*;

/// A run with one ready worker.
fn ready_run() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    lifecycle.listening(1, "tcp *:80".into(), at(0));
    lifecycle.ready(1, at(0));
    lifecycle
}

/// The same, announced at 1 s as leaving after 5 s.
fn leaving_run() -> Lifecycle {
    let mut lifecycle = ready_run();
    assert_eq!(lifecycle.request(leave(5_000), at(1_000)), Ok(vec![]));
    lifecycle
}

fn leave(milliseconds: u64) -> RunRequest {
    RunRequest::Leave { after: Duration::from_millis(milliseconds) }
}

#[test]
fn the_workers_serve_until_the_time_is_over() {
    let mut lifecycle = leaving_run();
    assert_eq!(lifecycle.stops_at(), Some(at(6_000)));
    assert_eq!(lifecycle.next_deadline(), Some(at(6_000)));
    assert_eq!(lifecycle.tick(at(5_999)), []);
    assert!(!lifecycle.is_stopping());
    assert!(lifecycle.serving().contains(&1));
    let actions = lifecycle.tick(at(6_000));
    assert_eq!(actions.first(), Some(&Action::StopAccepting), "{actions:?}");
    assert!(lifecycle.is_stopping());
    assert_eq!(lifecycle.stops_at(), None);
}

#[test]
fn the_earlier_announcement_counts() {
    for (second, stops_at) in [(100, 1_600), (60_000, 6_000)] {
        let mut lifecycle = leaving_run();
        assert_eq!(lifecycle.request(leave(second), at(1_500)), Ok(vec![]));
        assert_eq!(lifecycle.stops_at(), Some(at(stops_at)));
    }
}

#[test]
fn changes_are_refused_and_a_stop_is_not() {
    let mut lifecycle = leaving_run();
    let changes = [
        RunRequest::Restart { surge: None, now: false },
        RunRequest::Scale { copies: 2 },
        RunRequest::Upgrade { command: 0 },
    ];
    for change in changes {
        assert_eq!(lifecycle.request(change, at(2_000)), Err(RequestRefusal::Leaving));
    }
    assert!(!lifecycle.accepts_request());
    assert_eq!(lifecycle.snapshot(), None, "a reexec would forget the announcement");
    let actions = lifecycle.request(RunRequest::Stop { now: false }, at(2_000)).unwrap();
    assert!(actions.contains(&Action::StopAccepting), "{actions:?}");
    assert_eq!(lifecycle.request(leave(1), at(3_000)), Err(RequestRefusal::Stopping));
}

#[test]
fn a_worker_that_crashes_meanwhile_starts_again() {
    let mut lifecycle = leaving_run();
    lifecycle.exited(1, Exit::Signal(11), at(2_000));
    let next = lifecycle.next_deadline().unwrap();
    assert!(next < at(6_000), "{next:?}");
    let actions = lifecycle.tick(next);
    assert!(actions.iter().any(|it| matches!(it, Action::Start { .. })), "{actions:?}");
}

#[test]
fn the_client_of_a_change_under_way_hears_of_the_stop() {
    let mut lifecycle = ready_run();
    lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(10)).unwrap();
    lifecycle.request(leave(100), at(20)).unwrap();
    let actions = lifecycle.tick(at(120));
    let stopped = Action::RequestDone(Err(RequestFailure::Stopping));
    assert!(actions.contains(&stopped), "{actions:?}");
}
