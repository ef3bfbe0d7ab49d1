//! Property test: random sequences of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::exit::Exit;
use super::tests::{at, settings};
use super::*;
use crate::traffic::model::CanaryShare;

/// An event of a run. Numbers select one of the running instances.
#[derive(Debug, Clone)]
enum RandomEvent {
    Exits(usize, u8),
    Listens(usize),
    Ready(usize),
    Drained(usize),
    Outlived(usize),
    ChildrenFinished(usize),
    TimePasses(u16),
    Request(RunRequest),
}

fn event() -> impl Strategy<Value = RandomEvent> {
    let request = prop_oneof![
        (0u16..4).prop_map(|surge| RunRequest::Restart { surge: Some(surge), now: false }),
        (0usize..3).prop_map(|command| RunRequest::Upgrade { command }),
        (0usize..3).prop_map(|command| RunRequest::Move { command }),
        (1u16..5).prop_map(|copies| RunRequest::Scale { copies }),
        (0usize..3, 1u16..10_000, 0u16..2).prop_map(|(command, per_10000, promotes)| {
            let promotes_after = (promotes > 0).then_some(at(500));
            RunRequest::Canary { command, share: CanaryShare { per_10000 }, promotes_after }
        }),
        Just(RunRequest::Promote),
        Just(RunRequest::RollBack),
    ];
    prop_oneof![
        (0usize..8, 0u8..2).prop_map(|(nth, code)| RandomEvent::Exits(nth, code)),
        (0usize..8).prop_map(RandomEvent::Listens),
        (0usize..8).prop_map(RandomEvent::Ready),
        (0usize..8).prop_map(RandomEvent::Drained),
        (0usize..8).prop_map(RandomEvent::Outlived),
        (0usize..8).prop_map(RandomEvent::ChildrenFinished),
        (0u16..9000).prop_map(RandomEvent::TimePasses),
        request.prop_map(RandomEvent::Request),
    ]
}

/// The processes and requests that result from the actions.
#[derive(Default)]
struct Outcome {
    running: BTreeMap<InstanceId, u16>,
    requests_done: usize,
    ended: bool,
}

impl Outcome {
    fn perform(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Start { instance, ordinal, .. } => {
                    prop_assert!(self.running.insert(instance, ordinal).is_none());
                }
                Action::RequestDone(_) => self.requests_done += 1,
                Action::EndRun(_) => self.ended = true,
                Action::Terminate(id) | Action::Kill(id) | Action::Drain(id, _) => {
                    prop_assert!(self.running.contains_key(&id));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    /// Every process is tracked, no instance number is used twice, every request ends once, and a
    /// stop request ends the run.
    #[test]
    fn any_history_can_be_stopped(history in prop::collection::vec(event(), 0..60)) {
        let mut lifecycle = Lifecycle::new(settings(2, 1));
        let mut now = Duration::ZERO;
        let mut outcome = Outcome::default();
        let mut requests = 0;
        let mut promotions = 0;
        outcome.perform(lifecycle.start_all(now))?;
        for event in history {
            if outcome.ended {
                return Ok(());
            }
            let running = &mut outcome.running;
            let nth = |n: usize| running.keys().nth(n % running.len().max(1)).copied();
            let actions = match event {
                RandomEvent::Exits(n, code) => {
                    let Some(id) = nth(n) else { continue };
                    running.remove(&id);
                    lifecycle.exited(id, Exit::Code(code), now)
                }
                RandomEvent::Listens(n) => {
                    let Some(id) = nth(n) else { continue };
                    lifecycle.listening(id, "a".into(), now)
                }
                RandomEvent::Ready(n) => {
                    let Some(id) = nth(n) else { continue };
                    lifecycle.ready(id, now)
                }
                RandomEvent::Drained(n) => {
                    let Some(id) = nth(n) else { continue };
                    lifecycle.drained(id, now)
                }
                RandomEvent::Outlived(n) => {
                    let Some(id) = nth(n) else { continue };
                    lifecycle.outlived(id, Exit::Code(1), now)
                }
                RandomEvent::ChildrenFinished(n) => {
                    let Some(id) = nth(n) else { continue };
                    lifecycle.children_finished(id, now)
                }
                RandomEvent::TimePasses(milliseconds) => {
                    now += at(milliseconds.into());
                    lifecycle.tick(now)
                }
                RandomEvent::Request(request) => match lifecycle.request(request.clone(), now) {
                    Ok(actions) => {
                        requests += 1;
                        let promotes_after = match request {
                            RunRequest::Canary { promotes_after, .. } => promotes_after,
                            _ => None,
                        };
                        promotions += usize::from(promotes_after.is_some());
                        actions
                    }
                    Err(refusal) => {
                        prop_assert!(refusal != RequestRefusal::Stopping);
                        continue;
                    }
                },
            };
            outcome.perform(actions)?;
            let report = lifecycle.report();
            let tracked: BTreeSet<InstanceId> = report.iter().filter_map(|it| it.instance).collect();
            prop_assert_eq!(tracked, outcome.running.keys().copied().collect::<BTreeSet<_>>());
            let workers: BTreeSet<u16> = report.iter().map(|worker| worker.ordinal).collect();
            let complete = (1..=lifecycle.copies()).all(|n| workers.contains(&n));
            prop_assert!(outcome.ended || complete, "{:?}", lifecycle);
            let serving = lifecycle.serving();
            let main = serving.iter().filter(|id| !lifecycle.is_canary(**id)).count();
            let canaries = serving.len() - main;
            prop_assert!(main.max(canaries) <= usize::from(lifecycle.copies()));
            prop_assert!(canaries == 0 || lifecycle.canary().is_some());
        }
        if outcome.ended {
            return Ok(());
        }
        outcome.perform(lifecycle.request(RunRequest::Stop { now: false }, now).unwrap())?;
        for _ in 0..100 {
            let Some((id, _)) = outcome.running.pop_first() else { break };
            outcome.perform(lifecycle.exited(id, Exit::Code(0), now))?;
        }
        prop_assert!(outcome.ended);
        // A promotion in time is a request of nobody.
        let most = requests + promotions;
        prop_assert!((requests..=most).contains(&outcome.requests_done), "{:?}", outcome.requests_done);
    }
}
