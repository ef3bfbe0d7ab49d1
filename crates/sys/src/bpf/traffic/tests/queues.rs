//! Members whose queue is full, or from which nothing is accepted.

use std::thread::sleep;
use std::time::Duration;

use super::*;

const ADDRESS: &str = "127.0.0.1:31005";
const PORT: u16 = 31005;

fn group(backlogs: &[i32]) -> Vec<Listener> {
    backlogs
        .iter()
        .map(|backlog| {
            let listener = listener(ADDRESS);
            listener.socket.listen(*backlog).unwrap();
            listener
        })
        .collect()
}

/// Connections that only the first member gets, and does not accept.
fn stop_first(plan: &mut TrafficPlan, state: &TrafficState, count: usize) -> Vec<TcpStream> {
    plan.members.iter_mut().skip(1).for_each(|it| it.admitted = false);
    state.apply(plan, &[]).unwrap();
    let queued = (0..count).map(|_| TcpStream::connect(ADDRESS).unwrap()).collect();
    plan.members.iter_mut().for_each(|it| it.admitted = true);
    queued
}

fn remove(listeners: &[Listener]) {
    let state = TrafficState::find(key(PORT)).unwrap().unwrap();
    state.remove(&workers(listeners)).unwrap();
}

#[test]
fn a_full_queue_gets_nothing_new() {
    in_netns("traffic-full", || {
        if let Err(why) = queues_are_read() {
            return crate::bpf::skip_test("traffic-full", &why);
        }
        // A queue takes one more than its limit.
        let listeners = group(&[3, 4096]);
        let mut plan = plan(TrafficPolicy::Random, &listeners);
        let state = install(&plan, PORT, &listeners);
        let queued = stop_first(&mut plan, &state, 4);
        state.apply(&plan, &[]).unwrap();
        // A SYN for the first would have no answer, and `connect` would not return for a second.
        let open: Vec<_> = (0..40)
            .map(|_| accepted(TcpStream::connect(ADDRESS).unwrap(), &listeners[1..]))
            .collect();
        let full: Vec<_> = state.snapshot().members.iter().map(|it| it.full).collect();
        assert_eq!(full, [true, false]);
        drop(open);
        for _ in &queued {
            listeners[0].socket.accept().unwrap();
        }
        sleep(Duration::from_millis(200));
        assert_drawn(&connect(ADDRESS, 60, &listeners), &[1, 1]);
        remove(&listeners);
    });
}

#[test]
fn no_policy_chooses_a_hung_member() {
    in_netns("traffic-hung-policies", || {
        if let Err(why) = queues_are_read() {
            return crate::bpf::skip_test("traffic-hung-policies", &why);
        }
        for policy in [
            TrafficPolicy::TwoChoices,
            TrafficPolicy::LeastConnections,
            TrafficPolicy::RoundRobin,
            TrafficPolicy::Sticky,
            TrafficPolicy::Weights,
            TrafficPolicy::Standby,
        ] {
            let listeners = group(&[4096; 3]);
            let mut plan = plan(policy, &listeners);
            if policy == TrafficPolicy::Weights {
                plan.members[0].weight = 20;
            }
            let state = install(&plan, PORT, &listeners);
            let queued = stop_first(&mut plan, &state, 2);
            sleep(Duration::from_millis(300));
            state.apply(&plan, &[]).unwrap();
            // The others have more connections, so that counts speak for the one that is hung.
            let served = &listeners[1..];
            let open: Vec<_> =
                (0..30).map(|_| accepted(TcpStream::connect(ADDRESS).unwrap(), served)).collect();
            assert!(by_member(&open, served).iter().sum::<usize>() == 30, "{policy:?}");
            drop((open, queued));
            remove(&listeners);
        }
    });
}
