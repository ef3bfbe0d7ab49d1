//! Scenarios, as tables.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Exit;
use super::state::SILENCE_TIMEOUT;
use super::*;
use crate::drain::DrainMode;

const MAX_RESTARTS: u32 = 5;
const GRACE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn settings(copies: u16, surge: u16) -> LifecycleSettings {
    LifecycleSettings {
        copies,
        surge,
        ready_timeout: READY_WITHIN,
        grace: GRACE,
        max_restarts: Some(MAX_RESTARTS),
        must_listen: false,
        drain: DrainMode::Busy,
        drain_timeout: DRAIN,
    }
}

pub(super) fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A run whose instances listen, become ready and drain at once, unless a test says otherwise.
pub(super) struct Run {
    pub(super) lifecycle: Lifecycle,
    pub(super) now: Duration,
    pub(super) running: BTreeSet<InstanceId>,
    /// Commands that fail at once.
    pub(super) broken: BTreeSet<usize>,
    reported: Vec<WorkerChange>,
    pub(super) ended_canaries: Vec<CanaryOutcome>,
    pub(super) done: Vec<Result<(), RequestFailure>>,
    pub(super) end: Option<RunOutcome>,
    /// The largest number of instances, and the smallest number of serving ones after the start.
    most: usize,
    fewest_serving: usize,
}

impl Run {
    pub(super) fn new(settings: LifecycleSettings) -> Self {
        let fewest_serving = usize::MAX;
        let mut run = Self {
            lifecycle: Lifecycle::new(settings),
            now: Duration::ZERO,
            running: BTreeSet::new(),
            broken: BTreeSet::new(),
            reported: Vec::new(),
            ended_canaries: Vec::new(),
            done: Vec::new(),
            end: None,
            most: 0,
            fewest_serving,
        };
        let actions = run.lifecycle.start_all(run.now);
        run.perform(actions);
        run
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        let mut next: std::collections::VecDeque<Action> = actions.into();
        for _ in 0..10_000 {
            let Some(action) = next.pop_front() else { return };
            self.most = self.most.max(self.running.len());
            let more = match action {
                Action::Start { instance: id, command, .. } if self.broken.contains(&command) => {
                    self.lifecycle.exited(id, Exit::Code(1), self.now)
                }
                Action::Start { instance: id, .. } => {
                    self.running.insert(id);
                    let mut actions = self.lifecycle.started(id);
                    actions.extend(self.lifecycle.listening(id, "tcp *:80".into(), self.now));
                    actions
                }
                Action::CheckReady(id) => {
                    let actions = self.lifecycle.ready(id, self.now);
                    if self.lifecycle.serving().len() == usize::from(self.lifecycle.copies()) {
                        self.fewest_serving =
                            self.fewest_serving.min(self.lifecycle.serving().len());
                    }
                    actions
                }
                Action::Drain(id, _) => self.lifecycle.drained(id, self.now),
                Action::Terminate(id) | Action::Kill(id) => {
                    self.running.remove(&id);
                    self.lifecycle.exited(id, Exit::Signal(15), self.now)
                }
                Action::Report(change) => {
                    self.reported.push(change);
                    Vec::new()
                }
                Action::RequestDone(result) => {
                    self.done.push(result);
                    Vec::new()
                }
                Action::EndRun(outcome) => {
                    self.end = Some(outcome);
                    Vec::new()
                }
                Action::Withdraw(_) => Vec::new(),
                Action::CanaryEnded(end) => {
                    self.ended_canaries.push(end.outcome);
                    Vec::new()
                }
                Action::UpdateSteering | Action::StopAccepting => {
                    if self.fewest_serving < usize::MAX {
                        self.fewest_serving =
                            self.fewest_serving.min(self.lifecycle.serving().len());
                    }
                    Vec::new()
                }
            };
            next.extend(more);
        }
        panic!("endless actions");
    }

    pub(super) fn request(&mut self, request: RunRequest) {
        let actions = self.lifecycle.request(request, self.now).unwrap();
        self.perform(actions);
    }

    pub(super) fn crash(&mut self, id: InstanceId) {
        self.ends(id, Exit::Signal(11));
    }

    pub(super) fn ends(&mut self, id: InstanceId, exit: Exit) {
        self.running.remove(&id);
        let actions = self.lifecycle.exited(id, exit, self.now);
        self.perform(actions);
    }

    /// Advances the time to the next deadline.
    pub(super) fn wait(&mut self) {
        let due = self.lifecycle.next_deadline().expect("nothing is due");
        self.now = self.now.max(due);
        let actions = self.lifecycle.tick(self.now);
        self.perform(actions);
    }

    fn states(&self) -> Vec<(u16, WorkerState)> {
        self.lifecycle.report().iter().map(|worker| (worker.ordinal, worker.state)).collect()
    }
}

#[test]
fn a_run_starts_all_workers() {
    let run = Run::new(settings(3, 1));
    assert_eq!(
        run.states(),
        [(1, WorkerState::Ready), (2, WorkerState::Ready), (3, WorkerState::Ready)]
    );
    assert_eq!(run.lifecycle.serving().len(), 3);
    assert_eq!(run.lifecycle.next_deadline(), None);
    assert!(run.lifecycle.is_settled());
}

#[test]
fn a_restart_replaces_workers_one_by_one() {
    for (copies, surge, most, fewest) in
        [(4, 1, 6, 4), (1, 1, 2, 1), (4, 0, 4, 3), (1, 0, 1, 0), (4, 2, 8, 4), (4, 9, 8, 4)]
    {
        let mut run = Run::new(settings(copies, surge));
        let before = run.running.clone();
        run.request(RunRequest::Restart { surge: None, now: false });
        assert_eq!(run.done, [Ok(())], "{copies} {surge}");
        assert!(run.running.is_disjoint(&before), "{copies} {surge}");
        assert_eq!(run.running.len(), usize::from(copies));
        assert_eq!((run.most, run.fewest_serving), (most, fewest), "{copies} {surge}");
    }
}

#[test]
fn a_request_can_set_the_surge() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Restart { surge: Some(0), now: false });
    assert_eq!((run.most, run.fewest_serving), (2, 1));
}

#[test]
fn a_failed_replacement_keeps_the_old_instances() {
    let mut run = Run::new(settings(3, 1));
    let before = run.running.clone();
    run.broken.insert(0);
    run.request(RunRequest::Restart { surge: None, now: false });
    let reason = ChangeReason::Ended(Exit::Code(1));
    assert_eq!(run.done, [Err(RequestFailure::NotReady(1, reason))]);
    assert_eq!(run.running, before);
    run.request(RunRequest::Upgrade { command: 0 });
    assert_eq!(run.running, before);
    run.broken.clear();
    run.request(RunRequest::Restart { surge: None, now: false });
    assert_eq!(run.done.last(), Some(&Ok(())));
}

#[test]
fn a_replacement_must_be_ready_in_time() {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    assert_eq!(lifecycle.listening(1, "a".into(), at(1)), [Action::CheckReady(1)]);
    lifecycle.ready(1, at(1));
    lifecycle.listening(1, "b".into(), at(2));
    let actions =
        lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(10)).unwrap();
    assert!(matches!(actions[..], [Action::Start { instance: 2, predecessor: Some(1), .. }]));
    assert_eq!(lifecycle.listening(2, "a".into(), at(11)), []);
    let actions = lifecycle.tick(at(10) + READY_WITHIN);
    let reason = ChangeReason::NotReady(NotReady {
        missing: vec!["b".into()],
        listening: vec!["a".into()],
        check_result: None,
    });
    assert_eq!(reason.to_string(), "not ready in time: b is missing; the worker listens on a");
    assert!(actions.contains(&Action::Terminate(2)), "{actions:?}");
    assert_eq!(lifecycle.serving(), [1].into());
    let actions = lifecycle.tick(at(10) + READY_WITHIN + GRACE);
    assert!(actions.contains(&Action::Kill(2)), "{actions:?}");
    let actions = lifecycle.exited(2, Exit::Signal(9), at(60_000));
    assert!(
        actions.contains(&Action::RequestDone(Err(RequestFailure::NotReady(1, reason)))),
        "{actions:?}"
    );
    assert!(lifecycle.is_settled());
}

#[test]
fn a_replacement_must_listen_on_the_addresses_of_its_predecessor() {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    lifecycle.listening(1, "a".into(), at(1));
    lifecycle.ready(1, at(1));
    lifecycle.listening(1, "b".into(), at(2));
    // Opened long after it was ready: not required.
    lifecycle.listening(1, "c".into(), at(19_000));
    lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(19_100)).unwrap();
    assert_eq!(lifecycle.listening(2, "a".into(), at(19_200)), []);
    assert_eq!(lifecycle.listening(2, "d".into(), at(19_200)), []);
    assert_eq!(lifecycle.listening(2, "b".into(), at(19_200)), [Action::CheckReady(2)]);
    assert_eq!(lifecycle.listening(2, "e".into(), at(19_200)), []);
    assert_eq!(lifecycle.serving(), [1].into());
    lifecycle.ready(2, at(19_300));
    assert_eq!(lifecycle.serving(), [2].into());
    assert_eq!(lifecycle.drained(1, at(19_400)), [Action::Terminate(1)]);
    assert_eq!(lifecycle.drained(1, at(19_400)), []);
}

#[test]
fn a_worker_that_never_listens_is_reported_and_kept() {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    assert_eq!(lifecycle.next_deadline(), Some(SILENCE_TIMEOUT));
    let change = WorkerChange {
        ordinal: 1,
        canary: false,
        instance: Some(1),
        state: WorkerState::Starting,
        reason: Some(ChangeReason::Silent),
    };
    assert_eq!(lifecycle.report()[0].reason, None);
    assert_eq!(lifecycle.tick(SILENCE_TIMEOUT), [Action::Report(change)]);
    let reason = lifecycle.report()[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("listens on no address yet"));
    assert_eq!(lifecycle.next_deadline(), None);
    // A restart is done when the new instance is known to be silent, too.
    let actions =
        lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(6_000)).unwrap();
    assert!(actions.contains(&Action::Terminate(1)), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Start { instance: 2, .. })));
    lifecycle.exited(1, Exit::Signal(15), at(6_001));
    let actions = lifecycle.tick(at(6_000) + SILENCE_TIMEOUT);
    assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
}

#[test]
fn pauses_between_crashes_grow_until_the_worker_is_given_up() {
    let mut run = Run::new(settings(2, 1));
    let mut pauses = Vec::new();
    for _ in 0..MAX_RESTARTS {
        let first = *run.running.first().unwrap();
        let first = run
            .lifecycle
            .report()
            .iter()
            .find(|s| s.ordinal == 1)
            .unwrap()
            .instance
            .unwrap_or(first);
        run.crash(first);
        let since = run.now;
        run.wait();
        pauses.push((run.now - since).as_millis());
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800]);
    let last = run.lifecycle.report()[0].instance.unwrap();
    run.crash(last);
    assert_eq!(run.states(), [(1, WorkerState::GivenUp), (2, WorkerState::Ready)]);
    assert_eq!(run.lifecycle.next_deadline(), None);
    // Nothing will use its sockets.
    assert!(run.lifecycle.is_settled());
    // A request restarts it.
    run.request(RunRequest::Restart { surge: None, now: false });
    assert_eq!(run.states(), [(1, WorkerState::Ready), (2, WorkerState::Ready)]);
}

#[test]
fn staying_ready_resets_the_crash_counter() {
    let mut run = Run::new(settings(1, 1));
    for _ in 0..3 * MAX_RESTARTS {
        run.now += CRASH_RESET;
        let only = *run.running.first().unwrap();
        run.crash(only);
        let since = run.now;
        run.wait();
        assert_eq!(run.now, since);
    }
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
    assert_eq!(run.lifecycle.report()[0].restarts, 3 * MAX_RESTARTS);
}

#[test]
fn a_killed_worker_always_restarts_at_once() {
    let mut run = Run::new(settings(1, 1));
    for _ in 0..3 * MAX_RESTARTS {
        let only = *run.running.first().unwrap();
        run.ends(only, Exit::Signal(9));
        let since = run.now;
        run.wait();
        assert_eq!(run.now, since);
    }
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
}

#[test]
fn a_run_ends_when_all_workers_are_given_up() {
    let mut run = Run::new(settings(1, 1));
    run.broken.insert(0);
    let only = *run.running.first().unwrap();
    run.crash(only);
    for _ in 0..=MAX_RESTARTS {
        if run.end.is_none() {
            run.wait();
        }
    }
    assert_eq!(run.end, Some(RunOutcome::GivenUp(Exit::Code(1))));
    // Only once.
    let now = run.now;
    assert_eq!(run.lifecycle.tick(now), []);
}

#[test]
fn a_command_that_cannot_be_started_counts_as_a_crash() {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    let mut actions = Vec::new();
    for id in 1..=MAX_RESTARTS + 1 {
        actions = lifecycle.start_failed(id, "ENOENT".to_owned(), at(0));
        if let Some(due) = lifecycle.next_deadline() {
            lifecycle.tick(due);
        }
    }
    let end = Action::EndRun(RunOutcome::GivenUp(Exit::Code(127)));
    assert!(actions.contains(&end), "{actions:?}");
}

#[test]
fn an_upgrade_replaces_all_or_none() {
    let mut run = Run::new(settings(3, 1));
    let before = run.running.clone();
    run.request(RunRequest::Upgrade { command: 1 });
    assert_eq!(run.done, [Ok(())]);
    assert!(run.running.is_disjoint(&before));
    assert_eq!((run.most, run.fewest_serving), (6, 3));
    assert!(run.running.iter().all(|id| run.lifecycle.command(*id) == Some(1)));

    let before = run.running.clone();
    run.broken.insert(2);
    run.request(RunRequest::Upgrade { command: 2 });
    assert_eq!(
        run.done.last(),
        Some(&Err(RequestFailure::NotReady(1, ChangeReason::Ended(Exit::Code(1)))))
    );
    assert_eq!(run.running, before);
    // A later crash restarts the old command.
    let one = *run.running.first().unwrap();
    run.now += CRASH_RESET;
    run.crash(one);
    run.wait();
    assert!(run.running.iter().all(|id| run.lifecycle.command(*id) == Some(1)));
}

#[test]
fn the_last_replacement_of_an_upgrade_may_fail() {
    let mut lifecycle = Lifecycle::new(settings(2, 1));
    lifecycle.start_all(at(0));
    for id in [1, 2] {
        lifecycle.listening(id, "a".into(), at(1));
        lifecycle.ready(id, at(1));
    }
    lifecycle.request(RunRequest::Upgrade { command: 1 }, at(10)).unwrap();
    lifecycle.listening(3, "a".into(), at(11));
    let actions = lifecycle.ready(3, at(12));
    assert!(actions.iter().any(|o| matches!(o, Action::Start { instance: 4, ordinal: 2, .. })));
    // Ready, but serving only after the others are ready.
    assert_eq!(lifecycle.serving(), [1, 2].into());
    let actions = lifecycle.exited(4, Exit::Code(3), at(13));
    assert!(actions.contains(&Action::Drain(3, DrainMode::Busy)), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::RequestDone(_))));
    lifecycle.drained(3, at(14));
    let actions = lifecycle.exited(3, Exit::Code(0), at(15));
    let failed = RequestFailure::NotReady(2, ChangeReason::Ended(Exit::Code(3)));
    assert!(actions.contains(&Action::RequestDone(Err(failed))), "{actions:?}");
    assert_eq!(lifecycle.serving(), [1, 2].into());
    assert!(lifecycle.is_settled());
}

#[test]
fn scaling_adds_and_removes_workers() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Scale { copies: 5 });
    assert_eq!(run.lifecycle.serving().len(), 5);
    run.request(RunRequest::Scale { copies: 1 });
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
    assert_eq!(run.running.len(), 1);
    assert_eq!(run.done, [Ok(()), Ok(())]);
}

/// A worker that restarts after a crash is not ready when the others are.
#[test]
fn scaling_is_done_when_every_worker_is_ready() {
    for copies in [1, 2, 3] {
        let mut lifecycle = Lifecycle::new(settings(2, 1));
        lifecycle.start_all(at(0));
        for id in [1, 2] {
            lifecycle.listening(id, "a".into(), at(0));
            lifecycle.ready(id, at(0));
        }
        lifecycle.exited(1, Exit::Code(1), at(10_000));
        let actions = lifecycle.request(RunRequest::Scale { copies }, at(10_001)).unwrap();
        assert!(!actions.contains(&Action::RequestDone(Ok(()))), "{copies}: {actions:?}");
        let mut done = Vec::new();
        for _ in 0..10 {
            let now = lifecycle.next_deadline().unwrap_or(at(20_000));
            done.extend(lifecycle.tick(now));
            done.extend(lifecycle.drained(2, now));
            if copies == 1 {
                done.extend(lifecycle.exited(2, Exit::Code(0), now));
            }
            for id in [3, 4] {
                done.extend(lifecycle.listening(id, "a".into(), now));
                done.extend(lifecycle.ready(id, now));
            }
            if done.contains(&Action::RequestDone(Ok(()))) {
                break;
            }
        }
        assert!(done.contains(&Action::RequestDone(Ok(()))), "{copies}: {done:?}");
        assert_eq!(lifecycle.serving().len(), usize::from(copies));
    }
}

#[test]
fn one_request_at_a_time_except_stop() {
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    lifecycle.listening(1, "a".into(), at(0));
    lifecycle.ready(1, at(0));
    lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(1)).unwrap();
    let scale = RunRequest::Scale { copies: 2 };
    assert!(matches!(lifecycle.request(scale.clone(), at(1)), Err(RequestRefusal::Busy(_))));
    let actions = lifecycle.request(RunRequest::Stop { now: false }, at(2)).unwrap();
    assert!(actions.contains(&Action::RequestDone(Err(RequestFailure::Stopping))), "{actions:?}");
    assert!(
        actions.contains(&Action::StopAccepting)
            && actions.contains(&Action::Drain(1, DrainMode::Busy))
    );
    assert!(actions.contains(&Action::Terminate(2)));
    assert_eq!(lifecycle.request(scale, at(3)), Err(RequestRefusal::Stopping));
    lifecycle.exited(2, Exit::Signal(15), at(4));
    lifecycle.drained(1, at(5));
    let actions = lifecycle.exited(1, Exit::Code(0), at(6));
    assert!(actions.contains(&Action::EndRun(RunOutcome::Stopped)), "{actions:?}");
}

#[test]
fn a_snapshot_can_be_restored() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Scale { copies: 3 });
    run.request(RunRequest::Restart { surge: None, now: false });
    let snapshot = run.lifecycle.snapshot().unwrap();
    run.lifecycle = Lifecycle::restore(settings(2, 1), snapshot.clone());
    assert_eq!(run.lifecycle.snapshot(), Some(snapshot));
    assert_eq!(run.lifecycle.serving(), run.running);
    let before = run.running.clone();
    run.request(RunRequest::Restart { surge: None, now: false });
    assert!(run.running.is_disjoint(&before) && run.running.len() == 3);
    // Not during a change.
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    assert_eq!(lifecycle.snapshot(), None);
    lifecycle.listening(1, "a".into(), at(0));
    lifecycle.ready(1, at(0));
    assert!(lifecycle.snapshot().is_some());
    lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(1)).unwrap();
    assert_eq!(lifecycle.snapshot(), None);
    lifecycle.request(RunRequest::Stop { now: false }, at(2)).unwrap();
    assert_eq!(lifecycle.snapshot(), None);
}

#[test]
fn kill_ends_all_instances() {
    let mut lifecycle = Lifecycle::new(settings(2, 1));
    lifecycle.start_all(at(0));
    let actions = lifecycle.kill(at(1));
    assert!(
        actions.contains(&Action::Kill(1)) && actions.contains(&Action::Kill(2)),
        "{actions:?}"
    );
}

#[test]
fn a_restart_replaces_instances_that_are_still_starting() {
    for (surge, first) in [(1, true), (0, false)] {
        let mut lifecycle = Lifecycle::new(settings(1, surge));
        lifecycle.start_all(at(0));
        lifecycle.listening(1, "a".into(), at(1));
        let actions =
            lifecycle.request(RunRequest::Restart { surge: None, now: false }, at(2)).unwrap();
        // It may have clients already.
        assert!(actions.contains(&Action::Drain(1, DrainMode::Busy)), "{actions:?}");
        let starts = |actions: &[Action]| {
            actions.iter().any(|action| matches!(action, Action::Start { instance: 2, .. }))
        };
        assert_eq!(starts(&actions), first, "{actions:?}");
        assert_eq!(lifecycle.ready(1, at(2)), []);
        assert_eq!(lifecycle.drained(1, at(2)), [Action::Terminate(1)]);
        let actions = lifecycle.exited(1, Exit::Signal(15), at(3));
        assert_eq!(starts(&actions), !first, "{actions:?}");
        lifecycle.listening(2, "a".into(), at(4));
        let actions = lifecycle.ready(2, at(5));
        assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
    }
}

#[test]
fn an_upgrade_replaces_a_crashing_command() {
    let mut run = Run::new(settings(2, 1));
    run.broken.insert(0);
    for id in run.running.clone() {
        run.crash(id);
    }
    for _ in 0..3 {
        run.wait();
    }
    run.request(RunRequest::Upgrade { command: 1 });
    assert_eq!(run.done, [Ok(())]);
    assert_eq!(run.states(), [(1, WorkerState::Ready), (2, WorkerState::Ready)]);
    // Also while an instance is starting.
    let mut lifecycle = Lifecycle::new(settings(1, 1));
    lifecycle.start_all(at(0));
    let actions = lifecycle.request(RunRequest::Upgrade { command: 1 }, at(1)).unwrap();
    assert!(actions.contains(&Action::Terminate(1)), "{actions:?}");
    let actions = lifecycle.exited(1, Exit::Code(1), at(2));
    assert!(!actions.iter().any(|action| matches!(action, Action::RequestDone(_))), "{actions:?}");
    lifecycle.listening(2, "a".into(), at(3));
    let actions = lifecycle.ready(2, at(4));
    assert!(actions.contains(&Action::RequestDone(Ok(()))), "{actions:?}");
    assert_eq!(lifecycle.command(2), Some(1));
}
