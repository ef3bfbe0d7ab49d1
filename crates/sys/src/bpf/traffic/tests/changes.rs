//! Changes of a plan while connections arrive.

use std::thread::sleep;
use std::time::Duration;

use sameport_policy::traffic::plan::{Newcomers, PlannedMember};

use super::*;

const PORT: u16 = 31006;
const V4: &str = "127.0.0.1:31006";
const V6: &str = "[::1]:31006";

/// The sockets of one member.
fn member(sockets: &[&Listener], admitted: bool) -> PlannedMember {
    let of_first = plan(TrafficPolicy::Random, std::slice::from_ref(sockets[0]));
    let sockets = sockets.iter().map(|it| it.id()).collect();
    PlannedMember { sockets, admitted, ..of_first.members[0].clone() }
}

/// A worker and another member, which serves both addresses. `second`: the worker's socket on the second one.
fn planned(
    worker: &Listener,
    second: Option<&Listener>,
    other: &[Listener; 2],
    admitted: bool,
) -> TrafficPlan {
    let sockets: Vec<&Listener> = std::iter::once(worker).chain(second).collect();
    let members = vec![member(&sockets, admitted), member(&[&other[0], &other[1]], true)];
    TrafficPlan {
        members,
        newcomers: Newcomers::HoldBack,
        ..plan(TrafficPolicy::Random, std::slice::from_ref(worker))
    }
}

/// How many of some connections to the second address this listener gets.
fn gets(listener: &Listener) -> usize {
    // Members that were not found are left out for this long.
    sleep(Duration::from_millis(150));
    let clients: Vec<_> = (0..12).map(|_| TcpStream::connect(V6).unwrap()).collect();
    listener.socket.set_nonblocking(true).unwrap();
    let accepted = std::iter::from_fn(|| listener.socket.accept().ok()).count();
    drop(clients);
    accepted
}

#[test]
fn no_connection_goes_to_a_socket_that_the_old_and_the_new_plan_leave_out() {
    in_netns("traffic-switch", || {
        let (worker, other) = (listener(V4), [listener(V4), listener(V6)]);
        let before = planned(&worker, None, &other, true);
        let sockets = [&worker.worker, &other[0].worker, &other[1].worker];
        let order = TrafficOrder { record: "{}", plan: &before, sockets: &sockets };
        let state = TrafficState::install(key(PORT), order, false).unwrap();
        // The program adopts it as a member of its own, which is held back.
        let second = listener(V6);
        let after = planned(&worker, Some(&second), &other, false);
        let step = || assert_eq!(gets(&second), 0);
        state.switch(&after, &[&worker.worker, &second.worker], step).unwrap();
        assert_eq!(state.snapshot().members.len(), 2);
        // Now both may serve: at each step a connection finds a member.
        let serves = planned(&worker, Some(&second), &other, true);
        state
            .switch(&serves, &[&worker.worker, &second.worker], || assert!(gets(&second) <= 12))
            .unwrap();
        assert!(gets(&second) > 0);
        assert_eq!(state.snapshot().missed, 0);
        state.remove(&sockets).unwrap();
    });
}

#[test]
fn a_socket_that_becomes_one_of_another_member_can_be_chosen_at_each_step() {
    in_netns("traffic-join", || {
        let (worker, other) = (listener(V4), [listener(V4), listener(V6)]);
        let apart = planned(&worker, None, &other, true);
        let sockets = [&worker.worker, &other[0].worker, &other[1].worker];
        // Newcomers are admitted: the second socket serves as a member of its own.
        let apart = TrafficPlan { newcomers: Newcomers::Admit, ..apart };
        let order = TrafficOrder { record: "{}", plan: &apart, sockets: &sockets };
        let state = TrafficState::install(key(PORT), order, false).unwrap();
        let second = listener(V6);
        assert!(gets(&second) > 0);
        let together = planned(&worker, Some(&second), &other, true);
        let step = || assert!(gets(&second) > 0);
        state.switch(&together, &[&worker.worker, &second.worker], step).unwrap();
        assert_eq!((state.snapshot().members.len(), state.snapshot().missed), (2, 0));
        state.remove(&sockets).unwrap();
    });
}

#[test]
fn a_newcomer_that_is_held_back_waits_for_a_plan_that_admits_it() {
    in_netns("traffic-newcomer", || {
        let first = [listener(V4), listener(V4)];
        let at_first = plan(TrafficPolicy::Random, &first);
        assert_eq!(at_first.newcomers, Newcomers::Admit);
        let state = install(&at_first, PORT, &first);
        let late = bound(V4);
        state.hold_back(&late.worker).unwrap();
        late.socket.listen(4096).unwrap();
        let unmanaged = listener(V4);
        let cookies = [late.cookie, unmanaged.cookie];
        let is_admitted = |cookie: u64| {
            let members = state.snapshot().members;
            members.iter().find(|it| it.cookies.contains(&cookie)).unwrap().admitted
        };
        assert_eq!(cookies.map(is_admitted), [false, true]);
        // A plan of another run, which knows neither.
        state.apply(&at_first, &[]).unwrap();
        assert_eq!(cookies.map(is_admitted), [false, true]);
        let all: Vec<Listener> = first.into_iter().chain([unmanaged, late]).collect();
        let counts = connect(V4, 200, &all);
        assert!(counts[..3].iter().all(|count| *count > 20) && counts[3] == 0, "{counts:?}");
        state.apply(&plan(TrafficPolicy::Random, &all), &[]).unwrap();
        let counts = connect(V4, 200, &all);
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        state.remove(&workers(&all)).unwrap();
    });
}
