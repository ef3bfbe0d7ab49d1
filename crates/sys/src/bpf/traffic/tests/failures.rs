//! Pins of others, interrupted and simultaneous controllers, and few capabilities.

use std::path::Path;

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::*;

const ADDRESS: &str = "127.0.0.1:31003";
const PORT: u16 = 31003;

fn attempt(listeners: &[Listener], replace: bool) -> Result<TrafficState, TrafficError> {
    let plan = plan(TrafficPolicy::Random, listeners);
    let sockets = workers(listeners);
    let order = TrafficOrder { record: "words", plan: &plan, sockets: &sockets };
    TrafficState::install(key(PORT), order, replace)
}

#[test]
fn what_is_at_the_path_and_not_of_this_version_is_named_and_replaced_on_request() {
    in_netns("traffic-pins", || {
        let listeners: Vec<_> = (0..2).map(|_| listener(ADDRESS)).collect();
        let path = key(PORT).path();
        let name = path.file_name().unwrap().to_str().unwrap().replacen("v2-", "v0-", 1);
        let other = path.with_file_name(name);
        crate::bpf::pin_dir::create(&other).unwrap();
        let error = attempt(&listeners, false).unwrap_err();
        assert!(matches!(&error, TrafficError::OtherLayout(path) if *path == other), "{error}");
        attempt(&listeners, true).unwrap().remove(&workers(&listeners)).unwrap();
        assert!(!other.exists() && !path.exists());
        // Somebody's directory, without our maps.
        crate::bpf::pin_dir::create(&path).unwrap();
        let error = attempt(&listeners, false).unwrap_err();
        assert!(matches!(&error, TrafficError::NotOurs(it) if *it == path), "{error}");
        let state = attempt(&listeners, true).unwrap();
        assert_eq!(state.record().unwrap(), "words");
        state.remove(&workers(&listeners)).unwrap();
    });
}

#[test]
fn an_unfinished_state_leaves_nothing_and_the_hash() {
    in_netns("traffic-unfinished", || {
        // Not a listener: the map of listeners refuses it.
        let mut listeners: Vec<_> = (0..2).map(|_| listener(ADDRESS)).collect();
        let closed = listeners.pop().unwrap();
        closed.socket.shutdown(std::net::Shutdown::Both).unwrap();
        listeners.push(closed);
        let error = attempt(&listeners, false).unwrap_err();
        assert!(matches!(error, TrafficError::Socket(..)), "{error}");
        assert!(TrafficState::find(key(PORT)).unwrap().is_none());
        assert!(attempt(&listeners[..1], false).is_ok());
        let state = TrafficState::find(key(PORT)).unwrap().unwrap();
        state.remove(&workers(&listeners[..1])).unwrap();
        // What a killed process left.
        let left = Path::new("/sys/fs/bpf/sameport/traffic/new-1-1");
        crate::bpf::pin_dir::create(left).unwrap();
        attempt(&listeners[..1], false).unwrap().remove(&workers(&listeners[..1])).unwrap();
        assert!(!left.exists());
    });
}

#[test]
fn controllers_at_once_take_turns() {
    in_netns("traffic-controllers", || {
        let listeners: Vec<_> = (0..4).map(|_| listener(ADDRESS)).collect();
        attempt(&listeners, false).unwrap();
        let network = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            for only in 0..4 {
                let (listeners, network) = (&listeners, &network);
                scope.spawn(move || {
                    rustix::thread::move_into_link_name_space(network.as_fd(), None).unwrap();
                    for _ in 0..20 {
                        let mut plan = plan(TrafficPolicy::Random, listeners);
                        plan.members.iter_mut().enumerate().for_each(|(index, member)| {
                            member.admitted = index == only;
                        });
                        let state = TrafficState::find(key(PORT)).unwrap().unwrap();
                        state.apply(&plan, &workers(listeners)).unwrap();
                    }
                });
            }
            // Each plan admits one member: no choice sees a mixture, so none is missed.
            connect(ADDRESS, 200, &listeners);
        });
        let state = TrafficState::find(key(PORT)).unwrap().unwrap();
        let members = state.snapshot();
        assert_eq!(members.members.iter().filter(|it| it.admitted).count(), 1);
        assert_eq!(members.missed, 0);
        state.remove(&workers(&listeners)).unwrap();
    });
}

#[test]
fn no_other_user_can_open_the_directory_of_the_lock() {
    in_netns("traffic-lock", || {
        use std::os::unix::fs::PermissionsExt as _;
        let path = format!("/sys/fs/bpf/sameport/lock-{}", std::process::id());
        let path = Path::new(&path);
        crate::bpf::pin_dir::create_private(path).unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        crate::bpf::pin_dir::remove(path).unwrap();
        assert_eq!(mode & 0o777, 0o700);
    });
}

#[test]
fn three_capabilities_are_enough() {
    in_netns("traffic-capabilities", || {
        let listeners: Vec<_> = (0..2).map(|_| listener(ADDRESS)).collect();
        crate::bpf::pin_dir::create(Path::new("/sys/fs/bpf/sameport/traffic/new-0-0")).unwrap();
        let set = |kept| {
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            rustix::thread::set_capabilities(None, sets).unwrap();
        };
        let network = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            let few = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(network.as_fd(), None).unwrap();
                let all = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
                set(all);
                assert!(check_extended_tier().is_ok());
                let state = attempt(&listeners, false).unwrap();
                assert_drawn(&connect(ADDRESS, 100, &listeners), &[1, 1]);
                state.remove(&workers(&listeners)).unwrap();
                set(all - CapabilitySet::BPF);
                assert!(check_extended_tier().is_err());
                assert!(attempt(&listeners, false).is_err());
                assert!(TrafficState::find(key(PORT)).unwrap().is_none());
            });
            few.join().unwrap();
        });
    });
}

#[test]
fn a_state_whose_last_member_has_gone_is_removed_by_the_next_one() {
    in_netns("traffic-memberless", || {
        let gone: Vec<_> = (0..2).map(|_| listener("127.0.0.1:31004")).collect();
        let state = install(&plan(TrafficPolicy::Random, &gone), 31004, &gone);
        gone.into_iter().for_each(Listener::close);
        assert!(state.snapshot().members.is_empty());
        let listeners = [listener(ADDRESS)];
        let other = attempt(&listeners, false).unwrap();
        assert!(TrafficState::find(key(31004)).unwrap().is_none());
        other.remove(&workers(&listeners)).unwrap();
    });
}
