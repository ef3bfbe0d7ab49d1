//! Drains in the background, refusals, urgent requests, and children that outlive their first process.

use std::time::Duration;

use super::exit::Exit;
use super::tests::{at, settings};
use super::*;
use crate::drain::DrainMode;

/// A run of ready workers.
fn ready_run(copies: u16, surge: u16) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(settings(copies, surge));
    lifecycle.start_all(at(0));
    for id in 1..=u32::from(copies) {
        make_ready(&mut lifecycle, id, at(0));
    }
    lifecycle
}

fn make_ready(lifecycle: &mut Lifecycle, id: InstanceId, now: Duration) -> Vec<Action> {
    lifecycle.listening(id, "tcp *:80".into(), now);
    lifecycle.ready(id, now)
}

fn restart(now: bool) -> RunRequest {
    RunRequest::Restart { surge: None, now }
}

fn starts(actions: &[Action]) -> Vec<InstanceId> {
    let start = |action: &Action| match action {
        Action::Start { instance, .. } => Some(*instance),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

#[test]
fn a_restart_goes_on_while_old_workers_drain() {
    let mut lifecycle = ready_run(2, 1);
    let actions = lifecycle.request(restart(false), at(10_000)).unwrap();
    assert_eq!(starts(&actions), [3]);
    let actions = make_ready(&mut lifecycle, 3, at(10_100));
    assert!(actions.contains(&Action::Drain(1, DrainMode::Busy)), "{actions:?}");
    assert_eq!(starts(&actions), [4], "the next worker does not wait for the drain");
    let actions = make_ready(&mut lifecycle, 4, at(10_200));
    assert!(actions.contains(&Action::Drain(2, DrainMode::Busy)), "{actions:?}");
    let done = Action::RequestDone(Ok(()));
    assert!(!actions.contains(&done), "the request ends with the old workers");
    assert!(lifecycle.is_settled());
    assert_eq!(lifecycle.drained(1, at(10_300)), [Action::Terminate(1)]);
    assert_eq!(lifecycle.drained(2, at(10_300)), [Action::Terminate(2)]);
    assert!(!lifecycle.exited(2, Exit::Code(0), at(10_400)).contains(&done));
    assert!(lifecycle.exited(1, Exit::Code(0), at(10_500)).contains(&done));
}

/// The kernel may prefer an address that the run did not have, so clients may be there.
#[test]
fn a_replacement_on_another_address_that_is_not_ready_drains() {
    for (address, drains) in [("tcp 0.0.0.0:80", true), ("tcp *:80", false)] {
        let mut lifecycle = ready_run(1, 1);
        lifecycle.listening(1, "tcp *:81".into(), at(1));
        lifecycle.request(RunRequest::Upgrade { command: 1 }, at(10_000)).unwrap();
        lifecycle.listening(2, address.into(), at(10_100));
        let actions = lifecycle.tick(lifecycle.next_deadline().unwrap());
        let end = match drains {
            true => Action::Drain(2, DrainMode::Busy),
            false => Action::Terminate(2),
        };
        let position = |of: &Action| actions.iter().position(|action| action == of);
        assert!(position(&Action::Withdraw(2)).is_some(), "{actions:?}");
        assert!(position(&Action::Withdraw(2)) < position(&end), "{actions:?}");
        assert_eq!(lifecycle.serving(), [1].into());
        let now = at(100_000);
        if drains {
            assert_eq!(lifecycle.drained(2, now), [Action::Terminate(2)]);
        }
        let done = lifecycle.exited(2, Exit::Code(0), now);
        assert!(done.iter().any(|it| matches!(it, Action::RequestDone(Err(_)))), "{done:?}");
    }
}

#[test]
fn another_request_begins_while_only_drains_remain() {
    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(restart(false), at(10_000)).unwrap();
    make_ready(&mut lifecycle, 2, at(10_100));
    assert_eq!(lifecycle.release_client(), [Action::RequestDone(Ok(()))]);
    assert_eq!(lifecycle.release_client(), []);
    let actions = lifecycle.request(restart(false), at(11_000)).unwrap();
    assert_eq!(starts(&actions), [3]);
    make_ready(&mut lifecycle, 3, at(11_100));
    lifecycle.drained(2, at(11_200));
    // The drain of the request before does not delay the end of this one.
    let actions = lifecycle.exited(2, Exit::Code(0), at(11_300));
    assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
    assert!(lifecycle.is_leaving(1));
}

#[test]
fn a_refusal_names_the_request_and_its_worker() {
    let wait = |ordinal, instance, state, until: u64| {
        Some(WaitsFor { ordinal, instance: Some(instance), state, until: Some(at(until)) })
    };
    let busy = |lifecycle: &mut Lifecycle| match lifecycle.request(restart(false), at(20_000)) {
        Err(RequestRefusal::Busy(busy)) => (busy.kind, busy.since, busy.waits_for),
        other => panic!("{other:?}"),
    };
    let mut lifecycle = ready_run(2, 1);
    lifecycle.request(restart(false), at(10_000)).unwrap();
    let waits_for = wait(1, 3, WorkerState::Starting, 30_000);
    assert_eq!(busy(&mut lifecycle), (RequestKind::Restart, at(10_000), waits_for));

    // Without surge, the old worker ends first: drain and grace.
    let mut lifecycle = ready_run(1, 0);
    lifecycle.request(restart(false), at(10_000)).unwrap();
    let waits_for = wait(1, 1, WorkerState::Draining, 10_000 + 10_000 + 30_000);
    assert_eq!(busy(&mut lifecycle), (RequestKind::Restart, at(10_000), waits_for));
    lifecycle.drained(1, at(12_000));
    let waits_for = wait(1, 1, WorkerState::Draining, 42_000);
    assert_eq!(busy(&mut lifecycle).2, waits_for);

    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(RunRequest::Upgrade { command: 1 }, at(10_000)).unwrap();
    assert_eq!(busy(&mut lifecycle).0, RequestKind::Upgrade);
    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(RunRequest::Scale { copies: 2 }, at(10_000)).unwrap();
    assert_eq!(busy(&mut lifecycle).0, RequestKind::Scale);
}

#[test]
fn urgent_requests_do_not_wait_for_connections() {
    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(restart(true), at(10_000)).unwrap();
    let actions = make_ready(&mut lifecycle, 2, at(10_100));
    assert!(actions.contains(&Action::Drain(1, DrainMode::None)), "{actions:?}");
    lifecycle.drained(1, at(10_200));
    lifecycle.exited(1, Exit::Code(0), at(10_300));

    let actions = lifecycle.request(RunRequest::Stop { now: false }, at(11_000)).unwrap();
    assert!(actions.contains(&Action::Drain(2, DrainMode::Busy)), "{actions:?}");
    assert!(!actions.contains(&Action::Terminate(2)));
    let actions = lifecycle.request(RunRequest::Stop { now: true }, at(11_100)).unwrap();
    assert_eq!(actions, [Action::Terminate(2)]);

    let mut lifecycle = ready_run(1, 1);
    let actions = lifecycle.request(RunRequest::Stop { now: true }, at(11_100)).unwrap();
    assert!(actions.contains(&Action::Terminate(1)), "{actions:?}");
}

/// A worker that listens, and is not ready, has clients unless another one serves in its place.
#[test]
fn a_worker_that_is_not_ready_drains_if_it_may_have_clients() {
    let mut lifecycle = Lifecycle::new(settings(2, 1));
    lifecycle.start_all(at(0));
    lifecycle.listening(1, "tcp *:80".into(), at(1));
    let actions = lifecycle.request(RunRequest::Stop { now: false }, at(2)).unwrap();
    assert!(actions.contains(&Action::Drain(1, DrainMode::Busy)), "{actions:?}");
    // It does not listen yet.
    assert!(actions.contains(&Action::Terminate(2)), "{actions:?}");

    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(restart(false), at(10_000)).unwrap();
    lifecycle.listening(2, "tcp *:80".into(), at(10_100));
    let actions = lifecycle.request(RunRequest::Stop { now: false }, at(10_200)).unwrap();
    assert!(actions.contains(&Action::Drain(1, DrainMode::Busy)), "{actions:?}");
    assert!(actions.contains(&Action::Terminate(2)), "{actions:?}");
}

#[test]
fn a_program_that_drains_itself_gets_its_signal_at_once() {
    let table = [
        (DrainMode::Busy, DrainMode::None),
        (DrainMode::None, DrainMode::None),
        // The program may close connections that the user wants to keep.
        (DrainMode::All, DrainMode::All),
    ];
    for (drain, expected) in table {
        let mut lifecycle = Lifecycle::new(LifecycleSettings { drain, ..settings(1, 1) });
        assert_eq!(lifecycle.drain_mode(0), drain);
        lifecycle.learn_self_draining(0);
        assert_eq!((lifecycle.drain_mode(0), lifecycle.drain_mode(1)), (expected, drain));
    }
    let mut lifecycle = ready_run(1, 1);
    lifecycle.learn_self_draining(0);
    let snapshot = lifecycle.snapshot().unwrap();
    let restored = Lifecycle::restore(settings(1, 1), snapshot);
    assert_eq!(restored.drain_mode(0), DrainMode::None);
}

#[test]
fn children_get_the_rest_of_the_grace_period() {
    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(restart(false), at(10_000)).unwrap();
    make_ready(&mut lifecycle, 2, at(10_100));
    lifecycle.drained(1, at(11_000));
    let actions = lifecycle.outlived(1, Exit::Signal(15), at(12_000));
    let change = WorkerChange {
        ordinal: 1,
        canary: false,
        instance: Some(1),
        state: WorkerState::Draining,
        reason: Some(ChangeReason::ChildrenRemain(Exit::Signal(15))),
    };
    assert_eq!(actions, [Action::Report(change), Action::UpdateSteering]);
    assert_eq!(lifecycle.next_deadline(), Some(at(41_000)));
    assert_eq!(lifecycle.tick(at(40_999)), []);
    assert_eq!(lifecycle.tick(at(41_000)), [Action::Terminate(1)]);
    let actions = lifecycle.tick(at(46_000));
    assert!(actions.contains(&Action::Kill(1)), "{actions:?}");
    let actions = lifecycle.exited(1, Exit::Code(0), at(46_100));
    let gone = ChangeReason::Ended(Exit::Signal(15));
    let is_gone =
        |action: &Action| matches!(action, Action::Report(it) if it.reason.as_ref() == Some(&gone));
    assert!(actions.iter().any(is_gone), "{actions:?}");
    assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
}

#[test]
fn children_without_connections_end_early() {
    let mut lifecycle = ready_run(1, 1);
    lifecycle.request(RunRequest::Stop { now: false }, at(10_000)).unwrap();
    lifecycle.drained(1, at(11_000));
    assert_eq!(lifecycle.children_finished(1, at(11_000)), []);
    lifecycle.outlived(1, Exit::Code(0), at(12_000));
    assert_eq!(lifecycle.children_finished(1, at(13_000)), [Action::Terminate(1)]);
    let actions = lifecycle.exited(1, Exit::Code(0), at(13_100));
    assert!(actions.contains(&Action::EndRun(RunOutcome::Stopped)), "{actions:?}");
}

#[test]
fn a_crash_does_not_end_children_with_connections() {
    let mut lifecycle = ready_run(1, 1);
    let actions = lifecycle.outlived(1, Exit::Signal(11), at(10_000));
    assert!(lifecycle.serving().is_empty());
    assert!(!actions.contains(&Action::Terminate(1)));
    assert_eq!(starts(&lifecycle.tick(at(10_000))), [2]);
    make_ready(&mut lifecycle, 2, at(10_100));
    assert_eq!(lifecycle.serving(), [2].into());
    assert_eq!(lifecycle.tick(at(39_999)), []);
    assert_eq!(lifecycle.tick(at(40_000)), [Action::Terminate(1)]);
    assert_eq!(lifecycle.kill(at(40_001)).last(), Some(&Action::Kill(2)));
}
