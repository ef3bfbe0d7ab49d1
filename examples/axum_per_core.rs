//! An axum server with one runtime for each processor, which restarts without losing a connection:
//! `cargo run -p sameport-examples --bin axum-per-core -- 127.0.0.1:8080`.
//!
//! To restart, start the next process, and send SIGTERM to the previous one when the next one has
//! printed its address. Both listen for a moment. The previous process gives its processors to the
//! next one, answers the connections that wait in its queues and those that are open, and ends.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::Listener;
use sameport::{IntoTokio, Member};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

mod processor;

/// The time in which handshakes in progress complete: a few round trips of the clients.
const HANDSHAKES: Duration = Duration::from_millis(300);

/// The time in which a client that has connected sends its first request. When axum is told to stop, it
/// closes a connection without one, which the client sees as a reset.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first connection, so that no signal ends the process without a drain.
    let stopped = runtime.block_on(async { stop_signal() })?;
    let (stop, is_stopped) = watch::channel(false);
    let members = sameport::per_core(&address)?;
    let (local_addr, steering) = (members.local_addr(), members.steering());
    let threads: Vec<_> = members
        .into_iter()
        .map(|member| {
            let stop = is_stopped.clone();
            thread::spawn(move || serve(member, stop))
        })
        .collect();
    println!("{} threads on {local_addr}, {steering}", threads.len());
    runtime.block_on(stopped);
    stop.send_replace(true);
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

/// Serves one member on the calling thread, until the process is told to stop.
fn serve(member: Member<std::net::TcpListener>, stop: watch::Receiver<bool>) -> io::Result<()> {
    processor::pin(member.cpu())?;
    let app =
        Router::new().route("/", get(|| async { format!("process {}\n", std::process::id()) }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (drained, mut is_drained) = watch::channel(false);
        let listener = Draining {
            local_addr: member.local_addr()?,
            member: Some(member.into_tokio()?),
            waiting: VecDeque::new(),
            stop,
            drained,
        };
        // axum drops the listener at once, so the signal comes when its queue is empty.
        let empty = async move {
            let _ = is_drained.wait_for(|is_drained| *is_drained).await;
        };
        axum::serve(listener, app).with_graceful_shutdown(empty).await
    })
}

/// A listener that gives axum also what waits in its queue when the process is told to stop.
struct Draining {
    local_addr: SocketAddr,
    /// `None` once it is drained.
    member: Option<Member<TcpListener>>,
    waiting: VecDeque<(TcpStream, SocketAddr)>,
    stop: watch::Receiver<bool>,
    drained: watch::Sender<bool>,
}

impl Draining {
    /// Steers new connections away from the member and takes what waits in it.
    async fn drain(&mut self) -> io::Result<()> {
        let Some(member) = self.member.take() else { return Ok(()) };
        let drain = member.try_map(TcpListener::into_std)?.drain(HANDSHAKES);
        let accepted = tokio::task::spawn_blocking(move || drain.flatten().collect::<Vec<_>>());
        for (stream, peer) in accepted.await.map_err(io::Error::other)? {
            self.waiting.push_back((stream.into_tokio()?, peer));
        }
        Ok(())
    }
}

impl Listener for Draining {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return next;
            }
            let Some(member) = &self.member else {
                tokio::time::sleep(FIRST_REQUEST).await;
                self.drained.send_replace(true);
                return std::future::pending().await;
            };
            let accepted = tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => None,
                accepted = member.accept() => Some(accepted),
            };
            match accepted {
                Some(Ok(accepted)) => return accepted,
                // For example too many open files: wait until connections have ended.
                Some(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                None => {
                    if let Err(error) = self.drain().await {
                        eprintln!("drain {}: {error}", self.local_addr);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }
}

/// Ends at SIGTERM, or at Ctrl-C.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
