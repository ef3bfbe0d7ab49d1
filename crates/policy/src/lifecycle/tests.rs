//! The life of workers, as tables.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

const GRACE: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn settings(copies: u16, surge: u16) -> LifecycleSettings {
    LifecycleSettings { copies, surge, ready_timeout: READY_WITHIN, grace: GRACE }
}

pub(super) fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A run of which every process does at once what is expected of it, unless a test says otherwise.
struct Run {
    life: Lifecycle,
    now: Duration,
    running: BTreeSet<InstanceId>,
    /// Starts of which the command fails at once.
    broken: BTreeSet<usize>,
    told: Vec<WorkerChange>,
    done: Vec<Result<(), RequestFailure>>,
    end: Option<RunOutcome>,
    /// The most processes at once, and the fewest that served since the first did.
    most: usize,
    fewest_live: usize,
}

impl Run {
    fn new(settings: LifecycleSettings) -> Self {
        let fewest_live = usize::MAX;
        let mut run = Self {
            life: Lifecycle::new(settings),
            now: Duration::ZERO,
            running: BTreeSet::new(),
            broken: BTreeSet::new(),
            told: Vec::new(),
            done: Vec::new(),
            end: None,
            most: 0,
            fewest_live,
        };
        let orders = run.life.start_all(run.now);
        run.obey(orders);
        run
    }

    fn obey(&mut self, orders: Vec<Action>) {
        let mut next: std::collections::VecDeque<Action> = orders.into();
        for _ in 0..10_000 {
            let Some(order) = next.pop_front() else { return };
            self.most = self.most.max(self.running.len());
            let more = match order {
                Action::Start { instance: start, command, .. }
                    if self.broken.contains(&command) =>
                {
                    self.life.exited(start, Exit::Code(1), self.now)
                }
                Action::Start { instance: start, .. } => {
                    self.running.insert(start);
                    let mut orders = self.life.started(start);
                    orders.extend(self.life.listening(start, "tcp *:80".into(), self.now));
                    orders
                }
                Action::CheckReady(start) => {
                    let orders = self.life.ready(start, self.now);
                    if self.life.serving().len() == usize::from(self.life.copies()) {
                        self.fewest_live = self.fewest_live.min(self.life.serving().len());
                    }
                    orders
                }
                Action::Drain(start) => self.life.drained(start, self.now),
                Action::Terminate(start) | Action::Kill(start) => {
                    self.running.remove(&start);
                    self.life.exited(start, Exit::Signal(15), self.now)
                }
                Action::Report(change) => {
                    self.told.push(change);
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
                Action::UpdateSteering | Action::StopAccepting => {
                    if self.fewest_live < usize::MAX {
                        self.fewest_live = self.fewest_live.min(self.life.serving().len());
                    }
                    Vec::new()
                }
            };
            next.extend(more);
        }
        panic!("orders without end");
    }

    fn request(&mut self, request: RunRequest) {
        let orders = self.life.request(request, self.now).unwrap();
        self.obey(orders);
    }

    fn crash(&mut self, start: InstanceId) {
        self.ends(start, Exit::Signal(11));
    }

    fn ends(&mut self, start: InstanceId, exit: Exit) {
        self.running.remove(&start);
        let orders = self.life.exited(start, exit, self.now);
        self.obey(orders);
    }

    /// Lets time pass to the next thing that is due.
    fn wait(&mut self) {
        let due = self.life.next_deadline().expect("nothing is due");
        self.now = self.now.max(due);
        let orders = self.life.tick(self.now);
        self.obey(orders);
    }

    fn states(&self) -> Vec<(u16, WorkerState)> {
        self.life.report().iter().map(|seen| (seen.ordinal, seen.state)).collect()
    }
}

#[test]
fn a_run_starts_all_of_its_workers() {
    let run = Run::new(settings(3, 1));
    assert_eq!(
        run.states(),
        [(1, WorkerState::Ready), (2, WorkerState::Ready), (3, WorkerState::Ready)]
    );
    assert_eq!(run.life.serving().len(), 3);
    assert_eq!(run.life.next_deadline(), None);
    assert!(run.life.is_settled());
}

#[test]
fn a_restart_replaces_one_after_the_other() {
    for (copies, surge, most, fewest) in
        [(4, 1, 5, 4), (1, 1, 2, 1), (4, 0, 4, 3), (1, 0, 1, 0), (4, 2, 6, 4), (4, 9, 8, 4)]
    {
        let mut run = Run::new(settings(copies, surge));
        let before = run.running.clone();
        run.request(RunRequest::Restart { surge: None });
        assert_eq!(run.done, [Ok(())], "{copies} {surge}");
        assert!(run.running.is_disjoint(&before), "{copies} {surge}");
        assert_eq!(run.running.len(), usize::from(copies));
        assert_eq!((run.most, run.fewest_live), (most, fewest), "{copies} {surge}");
    }
}

#[test]
fn a_surge_can_be_asked_for() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Restart { surge: Some(0) });
    assert_eq!((run.most, run.fewest_live), (2, 1));
}

#[test]
fn a_replacement_that_fails_leaves_the_old_ones() {
    let mut run = Run::new(settings(3, 1));
    let before = run.running.clone();
    run.broken.insert(0);
    run.request(RunRequest::Restart { surge: None });
    let why = ChangeReason::Ended(Exit::Code(1));
    assert_eq!(run.done, [Err(RequestFailure::NotReady(1, why))]);
    assert_eq!(run.running, before);
    run.request(RunRequest::Upgrade { command: 0 });
    assert_eq!(run.running, before);
    run.broken.clear();
    run.request(RunRequest::Restart { surge: None });
    assert_eq!(run.done.last(), Some(&Ok(())));
}

#[test]
fn a_replacement_that_does_not_get_ready_in_time_goes() {
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    assert_eq!(life.listening(1, "a".into(), at(1)), [Action::CheckReady(1)]);
    life.ready(1, at(1));
    life.listening(1, "b".into(), at(2));
    let orders = life.request(RunRequest::Restart { surge: None }, at(10)).unwrap();
    assert!(matches!(orders[..], [Action::Start { instance: 2, predecessor: Some(1), .. }]));
    assert_eq!(life.listening(2, "a".into(), at(11)), []);
    let orders = life.tick(at(10) + READY_WITHIN);
    let why = ChangeReason::NotReady { listening: 1, expected: 2 };
    assert!(orders.contains(&Action::Terminate(2)), "{orders:?}");
    assert_eq!(life.serving(), [1].into());
    let orders = life.tick(at(10) + READY_WITHIN + GRACE);
    assert!(orders.contains(&Action::Kill(2)), "{orders:?}");
    let orders = life.exited(2, Exit::Signal(9), at(60_000));
    assert!(
        orders.contains(&Action::RequestDone(Err(RequestFailure::NotReady(1, why)))),
        "{orders:?}"
    );
    assert!(life.is_settled());
}

#[test]
fn it_is_ready_when_it_listens_on_what_the_one_before_it_did() {
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    life.listening(1, "a".into(), at(1));
    life.ready(1, at(1));
    life.listening(1, "b".into(), at(2));
    // Long after it got ready: its own affair.
    life.listening(1, "c".into(), at(9_000));
    life.request(RunRequest::Restart { surge: None }, at(9_100)).unwrap();
    assert_eq!(life.listening(2, "a".into(), at(9_200)), []);
    assert_eq!(life.listening(2, "d".into(), at(9_200)), []);
    assert_eq!(life.listening(2, "b".into(), at(9_200)), [Action::CheckReady(2)]);
    assert_eq!(life.listening(2, "e".into(), at(9_200)), []);
    assert_eq!(life.serving(), [1].into());
    life.ready(2, at(9_300));
    assert_eq!(life.serving(), [2].into());
    assert_eq!(life.drained(1, at(9_400)), [Action::Terminate(1)]);
    assert_eq!(life.drained(1, at(9_400)), []);
}

#[test]
fn one_that_never_listens_is_told_of_and_left_alone() {
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    assert_eq!(life.next_deadline(), Some(SILENCE_TIMEOUT));
    let change = WorkerChange {
        ordinal: 1,
        instance: Some(1),
        state: WorkerState::Starting,
        reason: Some(ChangeReason::Silent),
    };
    assert_eq!(life.tick(SILENCE_TIMEOUT), [Action::Report(change)]);
    assert_eq!(life.next_deadline(), None);
    // A restart gives it another start, and waits no longer than it takes to see that this one does
    // not listen either.
    let orders = life.request(RunRequest::Restart { surge: None }, at(6_000)).unwrap();
    assert!(orders.contains(&Action::Terminate(1)), "{orders:?}");
    assert!(orders.iter().any(|order| matches!(order, Action::Start { instance: 2, .. })));
    life.exited(1, Exit::Signal(15), at(6_001));
    let orders = life.tick(at(6_000) + SILENCE_TIMEOUT);
    assert!(orders.contains(&Action::RequestDone(Ok(()))), "{orders:?}");
}

#[test]
fn crashes_are_answered_with_pauses_and_then_not_at_all() {
    let mut run = Run::new(settings(2, 1));
    let mut pauses = Vec::new();
    for _ in 0..MAX_CRASHES - 1 {
        let first = *run.running.first().unwrap();
        let first =
            run.life.report().iter().find(|s| s.ordinal == 1).unwrap().instance.unwrap_or(first);
        run.crash(first);
        let since = run.now;
        run.wait();
        pauses.push((run.now - since).as_millis());
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800]);
    let last = run.life.report()[0].instance.unwrap();
    run.crash(last);
    assert_eq!(run.states(), [(1, WorkerState::GivenUp), (2, WorkerState::Ready)]);
    assert_eq!(run.life.next_deadline(), None);
    // Nobody comes for what it left behind.
    assert!(run.life.is_settled());
    // It gets its chance when asked for.
    run.request(RunRequest::Restart { surge: None });
    assert_eq!(run.states(), [(1, WorkerState::Ready), (2, WorkerState::Ready)]);
}

#[test]
fn whoever_was_stable_starts_a_new_row() {
    let mut run = Run::new(settings(1, 1));
    for _ in 0..3 * MAX_CRASHES {
        run.now += CRASH_RESET;
        let only = *run.running.first().unwrap();
        run.crash(only);
        let since = run.now;
        run.wait();
        assert_eq!(run.now, since);
    }
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
    assert_eq!(run.life.report()[0].restarts, 3 * MAX_CRASHES);
}

#[test]
fn whoever_is_killed_is_started_again_at_once_and_always() {
    let mut run = Run::new(settings(1, 1));
    for _ in 0..3 * MAX_CRASHES {
        let only = *run.running.first().unwrap();
        run.ends(only, Exit::Signal(9));
        let since = run.now;
        run.wait();
        assert_eq!(run.now, since);
    }
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
}

#[test]
fn a_run_of_which_everything_crashes_ends() {
    let mut run = Run::new(settings(1, 1));
    run.broken.insert(0);
    let only = *run.running.first().unwrap();
    run.crash(only);
    for _ in 0..MAX_CRASHES {
        if run.end.is_none() {
            run.wait();
        }
    }
    assert_eq!(run.end, Some(RunOutcome::GivenUp(Exit::Code(1))));
    // Once and for all.
    let now = run.now;
    assert_eq!(run.life.tick(now), []);
}

#[test]
fn a_command_that_cannot_be_started_counts_as_a_crash() {
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    let mut orders = Vec::new();
    for start in 1..=MAX_CRASHES {
        orders = life.start_failed(start, at(0));
        if let Some(due) = life.next_deadline() {
            life.tick(due);
        }
    }
    let end = Action::EndRun(RunOutcome::GivenUp(Exit::Code(127)));
    assert!(orders.contains(&end), "{orders:?}");
}

#[test]
fn an_upgrade_is_all_or_nothing() {
    let mut run = Run::new(settings(3, 1));
    let before = run.running.clone();
    run.request(RunRequest::Upgrade { command: 1 });
    assert_eq!(run.done, [Ok(())]);
    assert!(run.running.is_disjoint(&before));
    assert_eq!((run.most, run.fewest_live), (6, 3));
    assert!(run.running.iter().all(|start| run.life.command(*start) == Some(1)));

    let before = run.running.clone();
    run.broken.insert(2);
    run.request(RunRequest::Upgrade { command: 2 });
    assert_eq!(
        run.done.last(),
        Some(&Err(RequestFailure::NotReady(1, ChangeReason::Ended(Exit::Code(1)))))
    );
    assert_eq!(run.running, before);
    // What crashes later is started as it was.
    let one = *run.running.first().unwrap();
    run.now += CRASH_RESET;
    run.crash(one);
    run.wait();
    assert!(run.running.iter().all(|start| run.life.command(*start) == Some(1)));
}

#[test]
fn the_last_of_an_upgrade_may_fail_too() {
    let mut life = Lifecycle::new(settings(2, 1));
    life.start_all(at(0));
    for start in [1, 2] {
        life.listening(start, "a".into(), at(1));
        life.ready(start, at(1));
    }
    life.request(RunRequest::Upgrade { command: 1 }, at(10)).unwrap();
    life.listening(3, "a".into(), at(11));
    let orders = life.ready(3, at(12));
    assert!(orders.iter().any(|o| matches!(o, Action::Start { instance: 4, ordinal: 2, .. })));
    // Ready, and not in service before the others are.
    assert_eq!(life.serving(), [1, 2].into());
    let orders = life.exited(4, Exit::Code(3), at(13));
    assert!(orders.contains(&Action::Drain(3)), "{orders:?}");
    assert!(!orders.iter().any(|order| matches!(order, Action::RequestDone(_))));
    life.drained(3, at(14));
    let orders = life.exited(3, Exit::Code(0), at(15));
    let failed = RequestFailure::NotReady(2, ChangeReason::Ended(Exit::Code(3)));
    assert!(orders.contains(&Action::RequestDone(Err(failed))), "{orders:?}");
    assert_eq!(life.serving(), [1, 2].into());
    assert!(life.is_settled());
}

#[test]
fn scaling_adds_and_takes_away() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Scale { copies: 5 });
    assert_eq!(run.life.serving().len(), 5);
    run.request(RunRequest::Scale { copies: 1 });
    assert_eq!(run.states(), [(1, WorkerState::Ready)]);
    assert_eq!(run.running.len(), 1);
    assert_eq!(run.done, [Ok(()), Ok(())]);
}

#[test]
fn one_request_at_a_time_and_stop_beats_all() {
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    life.listening(1, "a".into(), at(0));
    life.ready(1, at(0));
    life.request(RunRequest::Restart { surge: None }, at(1)).unwrap();
    let scale = RunRequest::Scale { copies: 2 };
    assert_eq!(life.request(scale.clone(), at(1)), Err(RequestRefusal::Busy));
    let orders = life.request(RunRequest::Stop, at(2)).unwrap();
    assert!(orders.contains(&Action::RequestDone(Err(RequestFailure::Stopping))), "{orders:?}");
    assert!(orders.contains(&Action::StopAccepting) && orders.contains(&Action::Drain(1)));
    assert!(orders.contains(&Action::Terminate(2)));
    assert_eq!(life.request(scale, at(3)), Err(RequestRefusal::Stopping));
    life.exited(2, Exit::Signal(15), at(4));
    life.drained(1, at(5));
    let orders = life.exited(1, Exit::Code(0), at(6));
    assert!(orders.contains(&Action::EndRun(RunOutcome::Stopped)), "{orders:?}");
}

#[test]
fn somebody_else_can_go_on_with_it() {
    let mut run = Run::new(settings(2, 1));
    run.request(RunRequest::Scale { copies: 3 });
    run.request(RunRequest::Restart { surge: None });
    let snapshot = run.life.snapshot().unwrap();
    run.life = Lifecycle::restore(settings(2, 1), snapshot.clone());
    assert_eq!(run.life.snapshot(), Some(snapshot));
    assert_eq!(run.life.serving(), run.running);
    let before = run.running.clone();
    run.request(RunRequest::Restart { surge: None });
    assert!(run.running.is_disjoint(&before) && run.running.len() == 3);
    // Not while anything is under way.
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    assert_eq!(life.snapshot(), None);
    life.listening(1, "a".into(), at(0));
    life.ready(1, at(0));
    assert!(life.snapshot().is_some());
    life.request(RunRequest::Restart { surge: None }, at(1)).unwrap();
    assert_eq!(life.snapshot(), None);
    life.request(RunRequest::Stop, at(2)).unwrap();
    assert_eq!(life.snapshot(), None);
}

#[test]
fn asked_twice_it_kills() {
    let mut life = Lifecycle::new(settings(2, 1));
    life.start_all(at(0));
    let orders = life.kill(at(1));
    assert!(orders.contains(&Action::Kill(1)) && orders.contains(&Action::Kill(2)), "{orders:?}");
}

#[test]
fn whoever_was_coming_before_a_restart_is_replaced_too() {
    for (surge, first) in [(1, true), (0, false)] {
        let mut life = Lifecycle::new(settings(1, surge));
        life.start_all(at(0));
        life.listening(1, "a".into(), at(1));
        let orders = life.request(RunRequest::Restart { surge: None }, at(2)).unwrap();
        assert!(orders.contains(&Action::Terminate(1)), "{orders:?}");
        let starts = |orders: &[Action]| {
            orders.iter().any(|order| matches!(order, Action::Start { instance: 2, .. }))
        };
        assert_eq!(starts(&orders), first, "{orders:?}");
        assert_eq!(life.ready(1, at(2)), []);
        let orders = life.exited(1, Exit::Signal(15), at(3));
        assert_eq!(starts(&orders), !first, "{orders:?}");
        life.listening(2, "a".into(), at(4));
        let orders = life.ready(2, at(5));
        assert!(orders.contains(&Action::RequestDone(Ok(()))), "{orders:?}");
    }
}

#[test]
fn an_upgrade_puts_an_end_to_crashes() {
    let mut run = Run::new(settings(2, 1));
    run.broken.insert(0);
    for start in run.running.clone() {
        run.crash(start);
    }
    for _ in 0..3 {
        run.wait();
    }
    run.request(RunRequest::Upgrade { command: 1 });
    assert_eq!(run.done, [Ok(())]);
    assert_eq!(run.states(), [(1, WorkerState::Ready), (2, WorkerState::Ready)]);
    // And so it does while one is starting.
    let mut life = Lifecycle::new(settings(1, 1));
    life.start_all(at(0));
    let orders = life.request(RunRequest::Upgrade { command: 1 }, at(1)).unwrap();
    assert!(orders.contains(&Action::Terminate(1)), "{orders:?}");
    let orders = life.exited(1, Exit::Code(1), at(2));
    assert!(!orders.iter().any(|order| matches!(order, Action::RequestDone(_))), "{orders:?}");
    life.listening(2, "a".into(), at(3));
    let orders = life.ready(2, at(4));
    assert!(orders.contains(&Action::RequestDone(Ok(()))), "{orders:?}");
    assert_eq!(life.command(2), Some(1));
}
