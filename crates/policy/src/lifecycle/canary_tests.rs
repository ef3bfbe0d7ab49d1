//! Scenarios with a canary, as tables.

use std::time::Duration;

use super::exit::Exit;
use super::tests::{Run, at, settings};
use super::*;
use crate::traffic::model::CanaryShare;

const AFTER: Duration = Duration::from_secs(600);

fn canary(per_10000: u16, promotes_after: Option<Duration>) -> RunRequest {
    RunRequest::Canary { command: 1, share: CanaryShare { per_10000 }, promotes_after }
}

/// A run of `copies` workers with a canary.
fn run(copies: u16, per_10000: u16, promotes_after: Option<Duration>) -> Run {
    let mut run = Run::new(settings(copies, 1));
    run.request(canary(per_10000, promotes_after));
    assert_eq!(run.done, [Ok(())]);
    run.done.clear();
    run
}

/// The ordinals and commands of the workers that serve: of the run, and of the canary.
fn serving(run: &Run) -> [Vec<(u16, usize)>; 2] {
    let report = run.lifecycle.report();
    let of = |canary: bool| {
        let ready =
            report.iter().filter(|it| it.canary == canary && it.state == WorkerState::Ready);
        let command = |id: Option<InstanceId>| run.lifecycle.command(id.unwrap()).unwrap();
        ready.map(|worker| (worker.ordinal, command(worker.instance))).collect()
    };
    [of(false), of(true)]
}

/// The instance of the canary's worker beside this one.
fn canary_of(run: &Run, ordinal: u16) -> InstanceId {
    let report = run.lifecycle.report();
    let of = |it: &&WorkerReport| it.canary && it.ordinal == ordinal;
    report.iter().filter(of).find_map(|it| it.instance).unwrap()
}

fn ended(code: u8) -> ChangeReason {
    ChangeReason::Ended(Exit::Code(code))
}

#[test]
fn the_number_of_workers_follows_the_share() {
    for (copies, per_10000, workers) in [
        (1, 1, 1),
        (1, 5_000, 1),
        (1, 9_999, 1),
        (4, 1_000, 1),
        (4, 3_749, 1),
        (4, 3_750, 2),
        (4, 9_999, 4),
        (16, 1_000, 2),
        (1_024, 1_000, 102),
        (u16::MAX, 9_999, 65_528),
    ] {
        assert_eq!(
            canary_workers(copies, CanaryShare { per_10000 }),
            workers,
            "{copies} {per_10000}"
        );
    }
}

#[test]
fn a_canary_serves_beside_the_workers() {
    let mut run = Run::new(settings(4, 1));
    let before = run.running.clone();
    run.request(canary(5_000, None));
    assert_eq!(run.done, [Ok(())]);
    assert!(run.running.is_superset(&before));
    assert_eq!(serving(&run), [vec![(1, 0), (2, 0), (3, 0), (4, 0)], vec![(1, 1), (2, 1)]]);
    assert_eq!(run.lifecycle.serving().len(), 6);
    assert!(run.lifecycle.is_settled() && !run.lifecycle.has_request());
    assert_eq!(run.lifecycle.next_deadline(), None);
    let canary = run.lifecycle.canary().unwrap();
    assert_eq!((canary.since, canary.promotes_at()), (Some(run.now), None));
}

#[test]
fn no_canary_gets_a_share_before_all_are_ready() {
    let mut run = Run::new(settings(2, 1));
    let actions = run.lifecycle.request(canary(9_000, None), at(1)).unwrap();
    let [Action::Start { instance: 3, ordinal: 1, command: 1, predecessor: Some(1) }] = actions[..]
    else {
        panic!("{actions:?}")
    };
    // It must listen where the worker beside it does.
    assert_eq!(run.lifecycle.listening(3, "tcp *:81".into(), at(2)), []);
    let check = run.lifecycle.listening(3, "tcp *:80".into(), at(2));
    assert_eq!(check, [Action::CheckReady(3)]);
    let actions = run.lifecycle.ready(3, at(3));
    let starts_next = |it: &Action| matches!(it, Action::Start { instance: 4, ordinal: 2, .. });
    assert!(actions.iter().any(starts_next), "{actions:?}");
    assert_eq!(run.lifecycle.serving(), [1, 2].into());
    run.lifecycle.listening(4, "tcp *:80".into(), at(4));
    let actions = run.lifecycle.ready(4, at(4));
    assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
    assert_eq!(run.lifecycle.serving(), [1, 2, 3, 4].into());
}

#[test]
fn a_promotion_keeps_the_canary_and_replaces_the_rest() {
    for (copies, per_10000, starts) in [(1, 1_000, 0), (4, 1_000, 3), (4, 5_000, 2), (3, 9_999, 0)]
    {
        let mut run = run(copies, per_10000, None);
        let before = run.running.clone();
        let canaries: Vec<_> = (1..=copies - starts).map(|n| canary_of(&run, n)).collect();
        run.request(RunRequest::Promote);
        assert_eq!(run.done, [Ok(())]);
        assert_eq!(run.ended_canaries, [CanaryOutcome::Promoted { by_itself: false }]);
        assert!(canaries.iter().all(|id| run.running.contains(id)), "{copies} {per_10000}");
        assert_eq!(run.running.difference(&before).count(), usize::from(starts));
        let all = (1..=copies).map(|ordinal| (ordinal, 1)).collect();
        assert_eq!(serving(&run), [all, vec![]]);
        assert_eq!(run.lifecycle.serving(), run.running);
        assert!(run.lifecycle.canary().is_none() && run.lifecycle.is_settled());
        // Later starts have the new command.
        run.request(RunRequest::Scale { copies: copies + 1 });
        assert_eq!(serving(&run)[0].last(), Some(&(copies + 1, 1)));
    }
}

#[test]
fn a_rollback_ends_the_canary() {
    for copies in [1, 4] {
        let mut run = Run::new(settings(copies, 1));
        let before = run.running.clone();
        run.request(canary(5_000, Some(AFTER)));
        run.request(RunRequest::RollBack);
        assert_eq!(run.done, [Ok(()), Ok(())]);
        assert_eq!(run.ended_canaries, [CanaryOutcome::RolledBack]);
        assert_eq!((run.running.clone(), run.lifecycle.serving()), (before.clone(), before));
        assert_eq!(run.lifecycle.next_deadline(), None);
        assert!(run.lifecycle.canary().is_none() && run.lifecycle.is_settled());
    }
}

#[test]
fn a_canary_that_is_not_ready_changes_nothing() {
    let mut run = Run::new(settings(4, 1));
    let before = run.running.clone();
    run.broken.insert(1);
    run.request(canary(5_000, None));
    assert_eq!(run.done, [Err(RequestFailure::Canary(1, ended(1)))]);
    assert_eq!(run.running, before);
    assert_eq!(run.ended_canaries, [CanaryOutcome::Failed(1, ended(1))]);
    assert!(run.lifecycle.is_settled() && run.lifecycle.canary().is_none());
    assert_eq!(run.lifecycle.report().len(), 4);
    assert_eq!(run.lifecycle.report()[0].restarts, 0);
}

#[test]
fn the_time_promotes_a_canary_without_a_failure() {
    let mut run = run(3, 1_000, Some(AFTER));
    let due = run.now + AFTER;
    assert_eq!(run.lifecycle.next_deadline(), Some(due));
    // A crash of another worker is no failure of the canary.
    run.crash(1);
    run.now = due - at(1);
    let actions = run.lifecycle.tick(run.now);
    run.perform(actions);
    assert_eq!(serving(&run)[0].len(), 3);
    assert!(run.ended_canaries.is_empty());
    run.wait();
    assert_eq!(run.now, due);
    assert_eq!(run.ended_canaries, [CanaryOutcome::Promoted { by_itself: true }]);
    assert_eq!(serving(&run), [vec![(1, 1), (2, 1), (3, 1)], vec![]]);
}

#[test]
fn a_failure_before_the_time_rolls_back() {
    let broken_promotion = |run: &mut Run| {
        run.broken.insert(1);
        run.wait();
    };
    let not_ready = |run: &mut Run| {
        run.broken.insert(1);
        run.request(RunRequest::Restart { surge: None, now: false });
    };
    let killed = |run: &mut Run| run.ends(canary_of(run, 1), Exit::Signal(9));
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Run), u16, ChangeReason);
    let failures: [Case<'_>; 5] = [
        ("crash", &|run| run.ends(canary_of(run, 1), Exit::Code(7)), 1, ended(7)),
        ("the second", &|run| run.ends(canary_of(run, 2), Exit::Code(0)), 2, ended(0)),
        ("killed", &killed, 1, ChangeReason::Ended(Exit::Signal(9))),
        ("not ready", &not_ready, 1, ended(1)),
        ("promotion", &broken_promotion, 3, ended(1)),
    ];
    for (what, fail, ordinal, reason) in failures {
        let mut run = run(4, 5_000, Some(AFTER));
        fail(&mut run);
        let main = vec![(1, 0), (2, 0), (3, 0), (4, 0)];
        assert_eq!(run.ended_canaries, [CanaryOutcome::Failed(ordinal, reason)], "{what}");
        assert_eq!(serving(&run), [main, vec![]], "{what}");
        assert_eq!(run.lifecycle.canary_end().unwrap().command, 1);
        assert_eq!(run.lifecycle.serving(), run.running, "{what}");
        assert!(run.lifecycle.is_settled(), "{what}");
    }
}

#[test]
fn a_canary_on_request_restarts_until_it_is_given_up() {
    let mut run = run(2, 1_000, None);
    for _ in 0..5 {
        let id = canary_of(&run, 1);
        run.crash(id);
        // The others serve meanwhile.
        assert_eq!(run.lifecycle.serving(), [1, 2].into());
        run.wait();
        assert_ne!(canary_of(&run, 1), id);
    }
    run.crash(canary_of(&run, 1));
    let reason = ChangeReason::Ended(Exit::Signal(11));
    assert_eq!(run.ended_canaries, [CanaryOutcome::Failed(1, reason)]);
    assert_eq!((run.running.clone(), run.end), ([1, 2].into(), None));
    assert!(run.lifecycle.is_settled());
}

#[test]
fn a_run_without_a_limit_gives_a_canary_up() {
    let mut run = Run::new(LifecycleSettings { max_restarts: None, ..settings(1, 1) });
    run.request(canary(1_000, None));
    for _ in 0..5 {
        run.crash(canary_of(&run, 1));
        run.wait();
    }
    run.crash(canary_of(&run, 1));
    assert_eq!(run.ended_canaries.len(), 1);
    assert_eq!(run.running, [1].into());
}

#[test]
fn a_promotion_that_fails_leaves_the_canary() {
    let mut run = run(4, 1_000, None);
    run.broken.insert(1);
    run.request(RunRequest::Promote);
    assert_eq!(run.done, [Err(RequestFailure::NotReady(2, ended(1)))]);
    assert_eq!(serving(&run), [vec![(1, 0), (2, 0), (3, 0), (4, 0)], vec![(1, 1)]]);
    assert!(run.ended_canaries.is_empty());
    run.broken.clear();
    run.request(RunRequest::Promote);
    assert_eq!(serving(&run), [vec![(1, 1), (2, 1), (3, 1), (4, 1)], vec![]]);
}

#[test]
fn a_worker_beside_the_canary_restarts_with_its_own_command() {
    let mut run = run(2, 1_000, None);
    run.crash(1);
    run.wait();
    assert_eq!(serving(&run), [vec![(1, 0), (2, 0)], vec![(1, 1)]]);
    // A promotion takes the place of a worker that waits for its restart, too.
    for _ in 0..2 {
        let id = *run.lifecycle.serving().iter().find(|id| !run.lifecycle.is_canary(**id)).unwrap();
        run.crash(id);
    }
    run.request(RunRequest::Promote);
    assert_eq!(serving(&run), [vec![(1, 1), (2, 1)], vec![]]);
    assert_eq!(run.lifecycle.serving(), run.running);
}

#[test]
fn requests_during_a_canary() {
    use RequestRefusal::{Canary, NoCanary};
    let restart = RunRequest::Restart { surge: None, now: false };
    let upgrade = RunRequest::Upgrade { command: 2 };
    let scale = |copies| RunRequest::Scale { copies };
    let main = |copies: u16, command| (1..=copies).map(|n| (n, command)).collect::<Vec<_>>();
    for (request, expected) in [
        (restart.clone(), Ok([main(4, 0), main(2, 1)])),
        (scale(6), Ok([main(6, 0), main(2, 1)])),
        (scale(1), Ok([main(1, 0), main(1, 1)])),
        (RunRequest::Promote, Ok([main(4, 1), vec![]])),
        (RunRequest::RollBack, Ok([main(4, 0), vec![]])),
        (upgrade.clone(), Err(Canary)),
        (canary(2_000, None), Err(Canary)),
    ] {
        let mut run = run(4, 5_000, None);
        match run.lifecycle.request(request.clone(), run.now) {
            Ok(actions) => {
                run.perform(actions);
                assert_eq!(Ok(serving(&run)), expected, "{request:?}");
                assert_eq!(run.done, [Ok(())], "{request:?}");
                assert_eq!(run.lifecycle.serving(), run.running, "{request:?}");
            }
            Err(refusal) => assert_eq!(expected, Err(refusal), "{request:?}"),
        }
    }
    let mut run = Run::new(settings(2, 1));
    for request in [RunRequest::Promote, RunRequest::RollBack] {
        assert_eq!(run.lifecycle.request(request, at(0)), Err(NoCanary));
    }
    run.request(canary(5_000, None));
    run.request(RunRequest::Stop { now: false });
    assert_eq!((run.end, run.running.len()), (Some(RunOutcome::Stopped), 0));
}

#[test]
fn a_rollback_ends_the_start_and_the_promotion_of_a_canary() {
    let rolled_back = Action::RequestDone(Err(RequestFailure::RolledBack));
    for promotes in [false, true] {
        let mut run = match promotes {
            true => run(2, 1_000, None),
            false => Run::new(settings(2, 1)),
        };
        let request = if promotes { RunRequest::Promote } else { canary(1_000, None) };
        let actions = run.lifecycle.request(request, at(1)).unwrap();
        assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}");
        let busy = run.lifecycle.request(RunRequest::Promote, at(2));
        assert!(matches!(busy, Err(RequestRefusal::Busy(_))), "{busy:?}");
        let actions = run.lifecycle.request(RunRequest::RollBack, at(3)).unwrap();
        assert!(actions.contains(&rolled_back), "{actions:?}");
        assert!(!actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
        let started = 3 + u32::from(promotes);
        run.running.insert(started);
        run.perform(actions.into_iter().filter(|it| *it != rolled_back).collect());
        assert_eq!((run.done.clone(), run.running), (vec![Ok(())], [1, 2].into()), "{promotes}");
    }
}

#[test]
fn a_snapshot_has_the_canary() {
    let mut run = run(2, 1_000, Some(AFTER));
    let snapshot = run.lifecycle.snapshot().unwrap();
    assert_eq!(snapshot.workers.len(), 2);
    let restored = Lifecycle::restore(settings(2, 1), snapshot.clone());
    assert_eq!(restored.snapshot(), Some(snapshot));
    assert_eq!(restored.serving(), run.lifecycle.serving());
    assert_eq!(restored.canary(), run.lifecycle.canary());
    assert_eq!(restored.next_deadline(), Some(run.now + AFTER));
    run.lifecycle = restored;
    run.wait();
    assert_eq!(serving(&run), [vec![(1, 1), (2, 1)], vec![]]);
}

#[test]
fn a_worker_is_replaced_for_the_queue_of_a_failed_canary() {
    let mut run = run(2, 1_000, Some(AFTER));
    run.ends(canary_of(&run, 1), Exit::Code(7));
    let actions = run.lifecycle.replace_worker(1, run.now);
    assert!(matches!(actions[..], [Action::Start { ordinal: 1, command: 0, .. }]), "{actions:?}");
    // Once.
    assert_eq!(run.lifecycle.replace_worker(1, run.now), []);
    run.perform(actions);
    assert_eq!(run.running, [2, 4].into());
    assert_eq!(run.lifecycle.serving(), run.running);
    // Not beside a request, and not without a worker.
    assert_eq!(run.lifecycle.replace_worker(3, run.now), []);
    run.lifecycle.request(RunRequest::Restart { surge: None, now: false }, run.now).unwrap();
    assert_eq!(run.lifecycle.replace_worker(2, run.now), []);
}
