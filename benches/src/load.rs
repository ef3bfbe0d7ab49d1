//! The load generator: blocking clients, one thread each, that count the result of every request.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::SockRef;

use crate::clients::{Loss, bad, request};
use crate::error::BenchError;

/// Timeout of each step of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Use of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Use {
    /// One connection per request.
    Short,
    /// One connection per client.
    KeepAlive,
}

/// Requests per second that this number of clients gets answered during this time. One failed
/// request is an error.
pub(crate) fn requests_per_second(
    address: SocketAddr,
    how: Use,
    clients: u16,
    time: Duration,
) -> Result<f64, BenchError> {
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let counts = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let count = request_until(&over, address, how);
                    // One failure ends the measurement.
                    over.fetch_or(count.is_err(), Ordering::Relaxed);
                    count
                })
            })
            .collect();
        while !over.load(Ordering::Relaxed) && start.elapsed() < time {
            thread::sleep(Duration::from_millis(5).min(time.saturating_sub(start.elapsed())));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut answered = 0;
    for count in counts {
        let count = count.map_err(|_| "a client panicked".to_owned())?;
        answered += count.map_err(|error| format!("{address}: a request failed: {error}"))?;
    }
    Ok(f64::from(answered) / start.elapsed().as_secs_f64())
}

fn request_until(over: &AtomicBool, address: SocketAddr, how: Use) -> io::Result<u32> {
    let mut answered = 0;
    let mut kept = None;
    while !over.load(Ordering::Relaxed) {
        let client = match kept.take() {
            Some(client) => client,
            None => connect(address)?,
        };
        request(&client, how == Use::Short)?;
        answered += 1;
        if how == Use::KeepAlive {
            kept = Some(client);
        }
    }
    Ok(answered)
}

/// Makes the close a reset, which leaves no TIME_WAIT on either side, so that ports and memory do not
/// run out. Used only after a complete answer.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    Ok(client)
}

/// Results of connections to a greeting server.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOutcomes {
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reset_before_accept: AtomicU64,
    pub(crate) reset_in_hand: AtomicU64,
    pub(crate) timed_out: AtomicU64,
}

impl ConnectionOutcomes {
    pub(crate) fn total(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) + self.lost()
    }

    pub(crate) fn lost(&self) -> u64 {
        [&self.refused, &self.reset_before_accept, &self.reset_in_hand, &self.timed_out]
            .map(|count| count.load(Ordering::Relaxed))
            .into_iter()
            .sum()
    }
}

/// Makes connections until all clients together have made `count`.
pub(crate) fn connect_times(
    count: u64,
    address: SocketAddr,
    clients: u16,
    outcomes: &ConnectionOutcomes,
    mut meanwhile: impl FnMut(),
) -> Result<(), BenchError> {
    let begun = AtomicU64::new(0);
    let results: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    while begun.fetch_add(1, Ordering::Relaxed) < count {
                        if let Err(error) = greeted(address, outcomes) {
                            // The other clients stop too: this is an error of the machine, not of the server.
                            begun.store(count, Ordering::Relaxed);
                            return Err(format!("connecting to {address}: {error}"));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            meanwhile();
            thread::sleep(Duration::from_millis(20));
        }
        clients.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    results.into_iter().try_for_each(|it| it.map_err(|_| "a client panicked".to_owned())?)
}

/// Makes one connection and returns its class. An error is one of this machine, such as no free port.
fn greeted(address: SocketAddr, outcomes: &ConnectionOutcomes) -> io::Result<()> {
    let mut accepted = false;
    let done = connect(address).and_then(|mut client| {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        accepted = true;
        client.write_all(b"ping\n")?;
        let mut answer = [0; 5];
        client.read_exact(&mut answer)?;
        if &answer == b"pong\n" { Ok(()) } else { Err(bad("another answer than pong")) }
    });
    let class = match done.as_ref().map_err(Loss::of) {
        Ok(()) => &outcomes.answered,
        Err(Some(Loss::Refused)) => &outcomes.refused,
        Err(Some(Loss::TimedOut)) => &outcomes.timed_out,
        Err(Some(Loss::Reset)) if accepted => &outcomes.reset_in_hand,
        Err(Some(Loss::Reset)) => &outcomes.reset_before_accept,
        Err(Some(Loss::WrongAnswer) | None) => return done,
    };
    class.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Asks a greeting server to bind a port `count` times, and waits for the answer.
pub(crate) fn ask_for_binds(server: SocketAddr, count: u32, port: u16) -> Result<(), BenchError> {
    let ask = || -> io::Result<String> {
        let mut client = connect(server)?;
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        writeln!(client, "bind {count} {port}")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer == "done\n" => Ok(()),
        Ok(answer) => Err(format!("binding {port}: {answer:?}")),
        Err(error) => Err(format!("asking {server} for binds: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_connection_is_told_apart() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let outcomes = ConnectionOutcomes::default();
        assert!(greeted(closed.expect("a port"), &outcomes).is_ok());
        assert_eq!(outcomes.refused.load(Ordering::Relaxed), 1);

        for (greeting, expected) in [("", [1, 0]), ("+", [1, 1])] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("its address");
            let server = thread::spawn(move || {
                let (mut client, _) = listener.accept().expect("a client");
                client.write_all(greeting.as_bytes()).expect("written");
            });
            assert!(greeted(address, &outcomes).is_ok());
            server.join().expect("the server");
            let seen = [&outcomes.reset_before_accept, &outcomes.reset_in_hand]
                .map(|count| count.load(Ordering::Relaxed));
            assert_eq!(seen, expected, "after {greeting:?}");
        }
        assert_eq!((outcomes.total(), outcomes.lost()), (3, 3));
    }
}
