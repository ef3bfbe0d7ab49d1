//! Clients that count what they lose, and when in the life of a connection they lose it. The tests
//! and `cargo xtask bench restart` include this directory.

mod conversation;
mod http;
pub(crate) mod talks;
mod tally;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) use conversation::Step;
pub(crate) use tally::{Loss, Tally};

/// What one client does, again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// One HTTP request a connection.
    OneShot,
    /// Many HTTP requests a connection, with this pause in milliseconds between them. A server may
    /// close the connection while it is idle.
    KeepAlive(u64),
    /// A request whose second half follows the first after 1.2 s.
    SlowRequest,
    /// A request for `/slow`, which the server answers after 1 s.
    SlowAnswer,
    /// A conversation over TCP, one a connection.
    Talk(&'static [Step]),
    /// A datagram with its answer.
    Query(&'static [u8]),
}

impl Client {
    /// One connection, or one datagram.
    pub(crate) fn once(self, to: SocketAddr, stop: &AtomicBool, tally: &mut Tally) {
        match self {
            Self::OneShot => http::one_shot(&self, to, "/", tally),
            Self::SlowAnswer => http::one_shot(&self, to, "/slow", tally),
            Self::SlowRequest => http::slow_request(&self, to, tally),
            Self::KeepAlive(pause) => {
                http::keep_alive(&self, to, Duration::from_millis(pause), stop, tally);
            }
            Self::Talk(steps) => conversation::talk(&self, to, steps, tally),
            Self::Query(question) => conversation::query(&self, to, question, tally),
        }
    }
}

/// Runs the clients while `action` runs. Every client finishes its last connection.
pub(crate) fn while_served<T>(
    clients: &[Client],
    to: SocketAddr,
    action: impl FnOnce() -> T,
) -> (T, Tally) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let one = |client: Client| {
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                client.once(to, stop, &mut tally);
                thread::sleep(Duration::from_millis(2));
            }
            tally
        };
        let threads: Vec<_> =
            clients.iter().map(|client| scope.spawn(move || one(*client))).collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
        stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in threads {
            all.add(thread.join().unwrap());
        }
        (done.unwrap_or_else(|why| std::panic::resume_unwind(why)), all)
    })
}
