//! Each policy, with real connections.

use std::thread::sleep;
use std::time::Duration;

use sameport_policy::traffic::model::CanaryShare;

use super::*;

const ADDRESS: &str = "127.0.0.1:31001";
const PORT: u16 = 31001;

fn group(count: usize) -> Vec<Listener> {
    (0..count).map(|_| listener(ADDRESS)).collect()
}

#[test]
fn draws_have_the_shares_of_the_weights() {
    in_netns("traffic-draws", || {
        let listeners = group(4);
        for policy in [TrafficPolicy::Random, TrafficPolicy::Weights, TrafficPolicy::Hash] {
            for weights in [[1, 1, 1, 1], [7, 7, 7, 7], [90, 5, 5, 0], [1, 2, 3, 4]] {
                let mut plan = plan(policy, &listeners);
                for (member, weight) in plan.members.iter_mut().zip(weights) {
                    member.weight = weight;
                }
                install(&plan, PORT, &listeners);
                assert_drawn(&connect(ADDRESS, 400, &listeners), &weights);
            }
        }
        remove(&listeners);
    });
}

fn remove(listeners: &[Listener]) {
    let state = TrafficState::find(key(PORT)).unwrap().unwrap();
    state.remove(&workers(listeners)).unwrap();
}

#[test]
fn a_plan_from_what_was_replaced_meanwhile_is_not_followed() {
    in_netns("traffic-edition", || {
        let listeners = group(2);
        let mut plan = plan(TrafficPolicy::Random, &listeners);
        let state = install(&plan, PORT, &listeners);
        let (read, stale) = (state.edition(), plan.clone());
        // Another process gives the second member everything.
        plan.members[0].weight = 0;
        install(&plan, PORT, &listeners);
        assert!(!state.apply_if_same(&stale, &[], read).unwrap());
        assert_eq!(connect(ADDRESS, 10, &listeners), [0, 10]);
        assert!(state.apply_if_same(&stale, &[], state.edition()).unwrap());
        assert!(connect(ADDRESS, 40, &listeners)[0] > 0);
        remove(&listeners);
    });
}

#[test]
fn turns_are_exact_and_mixed() {
    in_netns("traffic-turns", || {
        let listeners = group(4);
        let mut plan = plan(TrafficPolicy::RoundRobin, &listeners);
        install(&plan, PORT, &listeners);
        assert_eq!(connect(ADDRESS, 40, &listeners), [10; 4]);
        for (member, weight) in plan.members.iter_mut().zip([5, 2, 1, 0]) {
            member.weight = weight;
        }
        let state = install(&plan, PORT, &listeners);
        // What was ahead under the old weights waits for one round of the new ones.
        connect(ADDRESS, 16, &listeners);
        assert_eq!(connect(ADDRESS, 80, &listeners), [50, 20, 10, 0]);
        // One that is held back and comes again does not catch up.
        plan.members[2].admitted = false;
        state.apply(&plan, &[]).unwrap();
        assert_eq!(connect(ADDRESS, 70, &listeners)[2..], [0, 0]);
        plan.members[2].admitted = true;
        state.apply(&plan, &[]).unwrap();
        let counts = connect(ADDRESS, 80, &listeners);
        assert!((9..=11).contains(&counts[2]) && counts[3] == 0, "{counts:?}");
        remove(&listeners);
    });
}

#[test]
fn the_least_loaded_member_is_chosen_by_its_weight() {
    in_netns("traffic-least", || {
        let listeners = group(4);
        let mut plan = plan(TrafficPolicy::LeastConnections, &listeners);
        let state = install(&plan, PORT, &listeners);
        let open = keep(ADDRESS, 64, &listeners);
        assert_eq!(by_member(&open, &listeners), [16; 4]);
        let counts: Vec<_> = state.snapshot().members.iter().map(|it| it.open).collect();
        assert_eq!(counts, [16; 4]);
        drop(open);
        plan.members[0].weight = 5;
        state.apply(&plan, &[]).unwrap();
        let open = keep(ADDRESS, 64, &listeners);
        assert_eq!(by_member(&open, &listeners), [40, 8, 8, 8]);
        drop(open);
        // Where nothing is open, each is as good.
        plan.members[0].weight = 1;
        state.apply(&plan, &[]).unwrap();
        sleep(Duration::from_millis(1_200));
        assert_drawn(&connect(ADDRESS, 400, &listeners), &[1; 4]);
        remove(&listeners);
    });
}

#[test]
fn two_choices_are_near_the_least() {
    in_netns("traffic-two", || {
        let listeners = group(8);
        install(&plan(TrafficPolicy::TwoChoices, &listeners), PORT, &listeners);
        let open = keep(ADDRESS, 160, &listeners);
        let counts = by_member(&open, &listeners);
        assert!(counts.iter().all(|count| (14..=24).contains(count)), "{counts:?}");
        remove(&listeners);
    });
}

#[test]
fn a_client_moves_only_if_its_member_leaves() {
    in_netns("traffic-sticky", || {
        for weights in [[1, 1, 1, 1], [1, 2, 3, 4]] {
            let mut listeners = group(4);
            let mut plan = plan(TrafficPolicy::Sticky, &listeners);
            for (member, weight) in plan.members.iter_mut().zip(weights) {
                member.weight = weight;
            }
            let state = install(&plan, PORT, &listeners);
            let clients: Vec<_> =
                (0..200).map(|n| format!("127.0.{}.{}:0", n % 7 + 1, n + 1)).collect();
            let ask = |listeners: &[Listener]| -> Vec<u64> {
                let all = clients.iter().map(|from| connect_from(from, ADDRESS, listeners));
                all.map(|it| listeners[it.member].cookie).collect()
            };
            let before = ask(&listeners);
            assert_eq!(before, ask(&listeners));
            let counts: Vec<_> = listeners
                .iter()
                .map(|it| before.iter().filter(|cookie| **cookie == it.cookie).count())
                .collect();
            assert_drawn(&counts, &weights);
            let gone = listeners.remove(1);
            let gone_cookie = gone.cookie;
            gone.close();
            for (was, is) in before.iter().zip(ask(&listeners)) {
                assert!(*was == is || *was == gone_cookie, "{was} moved to {is}");
            }
            drop(state);
            remove(&listeners);
        }
    });
}

#[test]
fn a_lower_rank_waits_for_the_higher_one() {
    in_netns("traffic-standby", || {
        let mut listeners = group(4);
        let mut plan = plan(TrafficPolicy::Standby, &listeners);
        for (member, rank) in plan.members.iter_mut().zip([0, 0, 1, 2]) {
            member.rank = rank;
        }
        install(&plan, PORT, &listeners);
        let counts = connect(ADDRESS, 100, &listeners);
        assert_drawn(&counts, &[1, 1, 0, 0]);
        listeners.remove(0).close();
        assert_eq!(connect(ADDRESS, 50, &listeners), [50, 0, 0]);
        listeners.remove(0).close();
        assert_eq!(connect(ADDRESS, 50, &listeners), [50, 0]);
        listeners.remove(0).close();
        assert_eq!(connect(ADDRESS, 50, &listeners), [50]);
        remove(&listeners);
    });
}

#[test]
fn the_processor_of_the_packet_selects() {
    in_netns("traffic-cpu", || {
        let listeners = group(3);
        for policy in [TrafficPolicy::Cpu, TrafficPolicy::Numa] {
            let mut plan = plan(policy, &listeners);
            for member in &mut plan.members {
                member.place = None;
            }
            let state = install(&plan, PORT, &listeners);
            // No member has a place: any.
            assert_drawn(&connect(ADDRESS, 90, &listeners), &[1; 3]);
            if policy == TrafficPolicy::Cpu {
                // On loopback the packet is received where it is sent.
                let mut only = rustix::thread::CpuSet::new();
                only.set(rustix::thread::sched_getcpu());
                let own = u32::try_from(rustix::thread::sched_getcpu()).unwrap();
                rustix::thread::sched_setaffinity(None, &only).unwrap();
                plan.members[1].place = Some(own);
            } else {
                plan.members[1].place = Some(0);
            }
            state.apply(&plan, &[]).unwrap();
            let node = std::path::Path::new("/sys/devices/system/node/node1");
            if policy == TrafficPolicy::Cpu || !node.exists() {
                assert_eq!(connect(ADDRESS, 60, &listeners), [0, 60, 0]);
            }
        }
        remove(&listeners);
    });
}

#[test]
fn a_canary_has_its_share_and_a_probe_its_member() {
    in_netns("traffic-canary", || {
        let mut listeners = group(4);
        for policy in [TrafficPolicy::TwoChoices, TrafficPolicy::RoundRobin] {
            let mut plan = plan(policy, &listeners);
            plan.members[3].canary = true;
            plan.canary = Some(CanaryShare { per_10000: 1_000 });
            install(&plan, PORT, &listeners);
            assert_drawn(&connect(ADDRESS, 600, &listeners), &[3, 3, 3, 1]);
            plan.canary = None;
            plan.members[1].admitted = false;
            let state = install(&plan, PORT, &listeners);
            let cookies = [1, 3].map(|index: usize| listeners[index].cookie);
            state.set_probes(&[(31_401, cookies[0]), (31_402, cookies[1])]).unwrap();
            for _ in 0..5 {
                for (port, member) in [(31_401, 1), (31_402, 3)] {
                    let got = connect_from(&format!("127.0.0.1:{port}"), ADDRESS, &listeners);
                    assert_eq!(got.member, member);
                    socket2::SockRef::from(&got._client).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            state.set_probes(&[]).unwrap();
            let got = connect_from("127.0.0.1:31401", ADDRESS, &listeners);
            assert_ne!(got.member, 1);
        }
        // Where all ordinary ones have gone, the canary gets everything.
        let canary = listeners.pop().unwrap();
        listeners.into_iter().for_each(Listener::close);
        let rest = [canary];
        assert_eq!(connect(ADDRESS, 20, &rest), [20]);
        remove(&rest);
    });
}

#[test]
fn a_worker_with_two_addresses_is_one_member() {
    in_netns("traffic-families", || {
        const V6: &str = "[::1]:31001";
        let v4 = group(2);
        let v6: Vec<_> = (0..2).map(|_| listener(V6)).collect();
        let mut plan = plan(TrafficPolicy::LeastConnections, &v4);
        for (member, other) in plan.members.iter_mut().zip(&v6) {
            member.sockets.push(other.id());
        }
        let sockets: Vec<_> = workers(&v4).into_iter().chain(workers(&v6)).collect();
        let order = TrafficOrder { record: "", plan: &plan, sockets: &sockets };
        let state = TrafficState::install(key(PORT), order, false).unwrap();
        assert_eq!(state.snapshot().members.len(), 2);
        // Three over IPv4 to the first; then IPv6 goes to the second, which has fewer.
        plan.members[1].admitted = false;
        state.apply(&plan, &sockets).unwrap();
        let open = keep(ADDRESS, 3, &v4);
        plan.members[1].admitted = true;
        state.apply(&plan, &sockets).unwrap();
        let more = keep(V6, 3, &v6);
        assert_eq!((by_member(&open, &v4), by_member(&more, &v6)), (vec![3, 0], vec![0, 3]));
        let counts: Vec<_> = state.snapshot().members.iter().map(|it| it.open).collect();
        assert_eq!(counts, [3, 3]);
        let ids: Vec<_> = v4.iter().chain(&v6).map(Listener::id).collect();
        let groups = state.groups(&ids).unwrap();
        assert!(groups.iter().all(|it| it.program == Some(GroupProgram::Ours)), "{groups:?}");
        assert_eq!(groups.iter().map(|it| it.ip.is_ipv4()).collect::<Vec<_>>(), [true, false]);
        state.remove(&sockets).unwrap();
    });
}

#[test]
fn a_hung_member_gets_nothing_new() {
    in_netns("traffic-hung", || {
        if let Err(why) = queues_are_read() {
            return crate::bpf::skip_test("traffic-hung", &why);
        }
        let listeners = group(2);
        let mut plan = plan(TrafficPolicy::Random, &listeners);
        let state = install(&plan, PORT, &listeners);
        // The first accepts nothing: its queue is seen not to be empty, and again a while after.
        plan.members[1].admitted = false;
        state.apply(&plan, &[]).unwrap();
        let waiting = [(); 2].map(|()| TcpStream::connect(ADDRESS).unwrap());
        sleep(Duration::from_millis(300));
        plan.members[1].admitted = true;
        state.apply(&plan, &[]).unwrap();
        let served = &listeners[1..];
        let open: Vec<_> =
            (0..40).map(|_| accepted(TcpStream::connect(ADDRESS).unwrap(), served)).collect();
        let hung: Vec<_> = state.snapshot().members.iter().map(|it| it.hung).collect();
        assert_eq!(hung, [true, false]);
        // It goes on, and is chosen again.
        for _ in &waiting {
            listeners[0].socket.accept().unwrap();
        }
        sleep(Duration::from_millis(400));
        drop(open);
        assert_drawn(&connect(ADDRESS, 60, &listeners), &[1, 1]);
        remove(&listeners);
    });
}
