//! The life of workers, as random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{at, settings};
use super::*;

/// Something that happens to a run.
#[derive(Debug, Clone)]
enum RandomEvent {
    Ends(usize, u8),
    Listens(usize),
    Ready(usize),
    Drained(usize),
    Passes(u16),
    Asked(RunRequest),
}

fn happening() -> impl Strategy<Value = RandomEvent> {
    let request = prop_oneof![
        (0u16..4).prop_map(|surge| RunRequest::Restart { surge: Some(surge) }),
        (0usize..3).prop_map(|command| RunRequest::Upgrade { command }),
        (1u16..5).prop_map(|copies| RunRequest::Scale { copies }),
    ];
    prop_oneof![
        (0usize..8, 0u8..2).prop_map(|(which, code)| RandomEvent::Ends(which, code)),
        (0usize..8).prop_map(RandomEvent::Listens),
        (0usize..8).prop_map(RandomEvent::Ready),
        (0usize..8).prop_map(RandomEvent::Drained),
        (0u16..9000).prop_map(RandomEvent::Passes),
        request.prop_map(RandomEvent::Asked),
    ]
}

proptest! {
    /// Whatever happens: no process is forgotten, none is started twice in one place, every request
    /// ends once, and asked to stop the run ends.
    #[test]
    fn whatever_happens_it_can_be_stopped(history in prop::collection::vec(happening(), 0..60)) {
        let mut life = Lifecycle::new(settings(2, 1));
        let mut now = Duration::ZERO;
        let mut running: BTreeMap<InstanceId, u16> = BTreeMap::new();
        let (mut asked, mut done, mut ended) = (0, 0, false);
        let mut obey = |orders: Vec<Action>, running: &mut BTreeMap<InstanceId, u16>, ended: &mut bool| {
            for order in orders {
                match order {
                    Action::Start { start, ordinal, .. } => {
                        prop_assert!(running.insert(start, ordinal).is_none());
                    }
                    Action::Done(_) => done += 1,
                    Action::End(_) => *ended = true,
                    Action::Terminate(start) | Action::Kill(start) | Action::Drain(start) => {
                        prop_assert!(running.contains_key(&start));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let orders = life.begin(now);
        obey(orders, &mut running, &mut ended)?;
        for happening in history {
            if ended {
                return Ok(());
            }
            let nth = |which: usize| running.keys().nth(which % running.len().max(1)).copied();
            let orders = match happening {
                RandomEvent::Ends(which, code) => match nth(which) {
                    Some(start) => {
                        running.remove(&start);
                        life.ended(start, Exit::Code(code), now)
                    }
                    None => continue,
                },
                RandomEvent::Listens(which) => match nth(which) {
                    Some(start) => life.listens(start, "a".into(), now),
                    None => continue,
                },
                RandomEvent::Ready(which) => match nth(which) {
                    Some(start) => life.ready(start, now),
                    None => continue,
                },
                RandomEvent::Drained(which) => match nth(which) {
                    Some(start) => life.drained(start, now),
                    None => continue,
                },
                RandomEvent::Passes(milliseconds) => {
                    now += at(milliseconds.into());
                    life.tick(now)
                }
                RandomEvent::Asked(request) => match life.request(request, now) {
                    Ok(orders) => {
                        asked += 1;
                        orders
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, RequestRefusal::Busy);
                        continue;
                    }
                },
            };
            obey(orders, &mut running, &mut ended)?;
            let known: BTreeSet<InstanceId> = life.seen().iter().filter_map(|seen| seen.start).collect();
            prop_assert_eq!(known, running.keys().copied().collect::<BTreeSet<_>>());
            // Nobody who is wanted is forgotten.
            let seen: BTreeSet<u16> = life.seen().iter().map(|seen| seen.ordinal).collect();
            prop_assert!(ended || (1..=life.copies()).all(|n| seen.contains(&n)), "{:?}", life);
            let live = life.live();
            prop_assert!(live.len() <= usize::from(life.copies()));
        }
        if ended {
            return Ok(());
        }
        let orders = life.request(RunRequest::Stop, now).unwrap();
        obey(orders, &mut running, &mut ended)?;
        for _ in 0..100 {
            let Some(start) = running.keys().next().copied() else { break };
            running.remove(&start);
            let orders = life.ended(start, Exit::Code(0), now);
            obey(orders, &mut running, &mut ended)?;
        }
        prop_assert!(ended);
        prop_assert_eq!(asked, done);
    }
}
