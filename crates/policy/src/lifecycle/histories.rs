//! The life of workers, as random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{at, settings};
use super::*;

/// Something that happens to a run.
#[derive(Debug, Clone)]
enum Happening {
    Ends(usize, u8),
    Listens(usize),
    Ready(usize),
    Drained(usize),
    Passes(u16),
    Asked(Request),
}

fn happening() -> impl Strategy<Value = Happening> {
    let request = prop_oneof![
        (0u16..4).prop_map(|surge| Request::Restart { surge: Some(surge) }),
        (0usize..3).prop_map(|command| Request::Upgrade { command }),
        (1u16..5).prop_map(|copies| Request::Scale { copies }),
    ];
    prop_oneof![
        (0usize..8, 0u8..2).prop_map(|(which, code)| Happening::Ends(which, code)),
        (0usize..8).prop_map(Happening::Listens),
        (0usize..8).prop_map(Happening::Ready),
        (0usize..8).prop_map(Happening::Drained),
        (0u16..9000).prop_map(Happening::Passes),
        request.prop_map(Happening::Asked),
    ]
}

proptest! {
    /// Whatever happens: no process is forgotten, none is started twice in one place, every request
    /// ends once, and asked to stop the run ends.
    #[test]
    fn whatever_happens_it_can_be_stopped(history in prop::collection::vec(happening(), 0..60)) {
        let mut life = Life::new(settings(2, 1));
        let mut now = Duration::ZERO;
        let mut running: BTreeMap<Start, u16> = BTreeMap::new();
        let (mut asked, mut done, mut ended) = (0, 0, false);
        let mut obey = |orders: Vec<Order>, running: &mut BTreeMap<Start, u16>, ended: &mut bool| {
            for order in orders {
                match order {
                    Order::Start { start, ordinal, .. } => {
                        prop_assert!(running.insert(start, ordinal).is_none());
                    }
                    Order::Done(_) => done += 1,
                    Order::End(_) => *ended = true,
                    Order::Terminate(start) | Order::Kill(start) | Order::Drain(start) => {
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
                Happening::Ends(which, code) => match nth(which) {
                    Some(start) => {
                        running.remove(&start);
                        life.ended(start, Exit::Code(code), now)
                    }
                    None => continue,
                },
                Happening::Listens(which) => match nth(which) {
                    Some(start) => life.listens(start, "a".into(), now),
                    None => continue,
                },
                Happening::Ready(which) => match nth(which) {
                    Some(start) => life.ready(start, now),
                    None => continue,
                },
                Happening::Drained(which) => match nth(which) {
                    Some(start) => life.drained(start, now),
                    None => continue,
                },
                Happening::Passes(milliseconds) => {
                    now += at(milliseconds.into());
                    life.tick(now)
                }
                Happening::Asked(request) => match life.request(request, now) {
                    Ok(orders) => {
                        asked += 1;
                        orders
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Busy);
                        continue;
                    }
                },
            };
            obey(orders, &mut running, &mut ended)?;
            let known: BTreeSet<Start> = life.seen().iter().filter_map(|seen| seen.start).collect();
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
        let orders = life.request(Request::Stop, now).unwrap();
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
