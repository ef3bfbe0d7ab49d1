//! What the kernel said to a worker's call, which it made itself after we let it go on.
//!
//! Nothing reports that. But the socket can be looked at again: it is bound (or listens) soon after,
//! or the thread has left the call and it is not.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_linux::worker::{Doing, Reach, WorkerSocket, doing};
use sameport_rules::sockets::{Address, Protocol};

use super::asking::{Asked, Step};

/// When to look, counted from the answer. A call that hangs longer is not followed any further.
const LOOKS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_secs(2),
];

/// From here on a thread that is merely running has had its chance to enter and leave a call that
/// takes microseconds.
const SURELY_OVER: Duration = Duration::from_millis(500);

/// How many calls are followed at once. A worker that makes more gets them answered all the same.
const MOST: usize = 1024;

/// The calls whose outcome is not known yet, by the socket's inode.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<u64, Followed>);

#[derive(Debug)]
struct Followed {
    asked: Asked,
    since: Duration,
    looks: usize,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The socket now takes traffic for this address.
    Joined(Address),
    /// The kernel said no.
    Refused(Asked),
    /// The socket is not where it was: only who is on the address can tell.
    Unclear(Asked),
}

impl Outcomes {
    /// Follows a call that was answered at this time. A later call on the same socket replaces an
    /// earlier one: whoever listens has been allowed to bind.
    pub(super) fn follow(&mut self, asked: Asked, now: Duration) {
        if self.0.len() < MOST {
            self.0.insert(asked.inode, Followed { asked, since: now, looks: 0 });
        }
    }

    /// When to call [`Self::look`] next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().map(Followed::due).min()
    }

    /// Looks at every call that is due, and gives those whose outcome is now known.
    pub(super) fn look(&mut self, now: Duration) -> Vec<Outcome> {
        self.settle(|followed| followed.due() <= now, now)
    }

    /// Looks at every call of threads that have ended, whether due or not.
    pub(super) fn look_at_the_gone(&mut self, now: Duration) -> Vec<Outcome> {
        self.settle(|followed| doing(followed.asked.tid) == Doing::Gone, now)
    }

    fn settle(&mut self, which: impl Fn(&Followed) -> bool, now: Duration) -> Vec<Outcome> {
        let mut known = Vec::new();
        let chosen: Vec<u64> = self
            .0
            .iter()
            .filter(|(_, followed)| which(followed))
            .map(|(inode, _)| *inode)
            .collect();
        for inode in chosen {
            let Some(mut followed) = self.0.remove(&inode) else { continue };
            match followed.state(now) {
                State::Joined(address) => known.push(Outcome::Joined(address)),
                State::Refused => known.push(Outcome::Refused(followed.asked)),
                State::Unclear => known.push(Outcome::Unclear(followed.asked)),
                State::Settled => {}
                State::Open => {
                    followed.looks += 1;
                    if followed.looks < LOOKS.len() {
                        self.0.insert(inode, followed);
                    }
                }
            }
        }
        known
    }
}

enum State {
    Joined(Address),
    Refused,
    Unclear,
    /// A TCP socket is bound: it takes no traffic before it listens, and we will be asked then.
    Settled,
    Open,
}

impl Followed {
    fn due(&self) -> Duration {
        self.since + LOOKS[self.looks]
    }

    fn state(&self, now: Duration) -> State {
        let Asked { tid, fd, inode, number, step, protocol, .. } = &self.asked;
        let socket = match WorkerSocket::of_thread(*tid, *fd) {
            Ok(Reach::Socket(socket)) if socket.inode() == *inode => socket,
            _ => return State::Unclear,
        };
        let bound = socket.bound(*protocol).ok().flatten();
        match (step, protocol, bound) {
            (Step::Bind, Protocol::Udp, Some(address)) => return State::Joined(address),
            (Step::Bind, Protocol::Tcp, Some(_)) => return State::Settled,
            (Step::Listen, _, Some(address)) if socket.is_listening().unwrap_or(false) => {
                return State::Joined(address);
            }
            _ => {}
        }
        match doing(*tid) {
            Doing::Gone => State::Unclear,
            Doing::Waiting(other) if other != *number => State::Refused,
            Doing::Running if now >= self.since + SURELY_OVER => State::Refused,
            Doing::Waiting(_) | Doing::Running => State::Open,
        }
    }
}
