//! Clients of a machine, and the shipped unit that serves them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::c_program;
use crate::harness::load::{Client, Loss, Tally, while_served};
use crate::machine::{Setup, Systemd};

/// The service of most tests.
pub(crate) const WEB: &str = "sameport@web";

/// The number of clients.
const CLIENTS: usize = 4;

/// A file of `packaging/systemd`.
pub(crate) fn shipped(name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd");
    std::fs::read_to_string(format!("{dir}/{name}")).unwrap()
}

/// A server on 0.0.0.0:8080, which finishes its connections at SIGTERM. A machine needs
/// [`server_bind`], because services with `PrivateTmp=` do not see the test directory.
pub(crate) const SERVER: &str = "/usr/local/bin/drains 8080 any";

/// The executable of [`SERVER`], for [`Setup::binds`].
pub(crate) fn server_bind() -> (PathBuf, &'static str) {
    (c_program("drains", &[]), "/usr/local/bin/drains")
}

pub(crate) fn address() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

/// A machine with the shipped service [`WEB`] of the server, and more.
pub(crate) fn web_machine(test: &str, options: &str, more: &Setup<'_>) -> Option<Systemd> {
    let conf = format!("SAMEPORT_OPTIONS={options}\nSAMEPORT_COMMAND={SERVER}\n");
    let service = shipped("sameport@.service");
    let units = [&[("sameport@.service", &*service)], more.units].concat();
    let files = [&[("/etc/sameport/web.conf", &*conf)], more.files].concat();
    let (server, target) = server_bind();
    let binds = [&[(&*server, target)], more.binds].concat();
    Systemd::boot(test, &Setup { units: &units, files: &files, binds: &binds, ..*more })
}

/// Four clients, with a new connection for each request, while `action` runs. Prints what they lost.
pub(crate) fn under_load(machine: &Systemd, what: &str, action: impl FnOnce() + Send) -> Tally {
    let tally = machine.inside(|| {
        let act = || {
            pause();
            action();
            pause();
        };
        while_served(&[Client::OneShot; CLIENTS], address(), act).1
    });
    println!("{what}: {} answered, lost {:?}", tally.answered, tally.kinds());
    assert!(tally.answered > 0, "{what}: {}", machine.journal("*"));
    tally
}

/// Clients get answers between two actions.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

#[track_caller]
pub(crate) fn assert_nothing_lost(tally: &Tally, machine: &Systemd) {
    assert!(tally.lost.is_empty(), "{tally:?}\n{}", machine.journal("*"));
}

/// At most what each client had in hand at each of the kills.
#[track_caller]
pub(crate) fn assert_only_in_hand(tally: &Tally, kills: usize, machine: &Systemd) {
    let in_hand = |loss: &Loss| matches!(loss, Loss::Unanswered | Loss::CutInHand);
    assert!(tally.kinds().keys().all(in_hand), "{tally:?}\n{}", machine.journal("*"));
    assert!(tally.lost.len() <= kills * CLIENTS, "{tally:?}\n{}", machine.journal("*"));
}
