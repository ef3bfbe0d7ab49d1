//! The functions and conversions for tokio carry real traffic, on every system.
#![cfg(feature = "tokio")]

#[path = "portable/expected.rs"]
mod expected;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use expected::{expected, first};
use sameport::{ErrorKind, IntoTokio, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, work).await.unwrap() })
}

#[test]
fn listeners_streams_and_sockets() {
    run(async {
        let far = sameport::listen_exclusive("127.0.0.1:0").unwrap().into_tokio().unwrap();
        let to = far.local_addr().unwrap();
        let mut stream = sameport::connect(0, to).unwrap().into_tokio().unwrap();
        let (mut accepted, peer) = far.accept().await.unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        accepted.write_all(b"hello").await.unwrap();
        drop(accepted);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");

        let all = Options::exclusive().bind_udp_all("127.0.0.1:0").unwrap().into_tokio().unwrap();
        let to = all[0].local_addr().unwrap();
        all[0].send_to(b"self", to).await.unwrap();
        assert_eq!(all[0].recv_from(&mut [0; 8]).await.unwrap(), (4, to));
    });
}

#[test]
fn functions_for_tokio() {
    run(async {
        let far = sameport::tokio::listen_exclusive("localhost:0").await.unwrap();
        let to = far.local_addr().unwrap();
        let from = ("localhost", 0);
        let mut stream = sameport::tokio::connect(from, to).await.unwrap();
        let (mut accepted, peer) = far.accept().await.unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");

        let far = sameport::tokio::bind_udp_exclusive("127.0.0.1:0").await.unwrap();
        let near = sameport::tokio::connect_udp(0, far.local_addr().unwrap()).await.unwrap();
        near.send(b"hello").await.unwrap();
        let (count, peer) = far.recv_from(&mut [0; 8]).await.unwrap();
        assert_eq!((count, peer.port()), (5, near.local_addr().unwrap().port()));
    });
}

#[test]
fn from_the_port_of_a_listener() {
    run(async {
        let near = sameport::tokio::listen("127.0.0.1:0").await;
        let Some(near) = first(near) else { return };
        let from = near.local_addr().unwrap();
        let far = sameport::tokio::listen("127.0.0.1:0").await.unwrap();
        let connected = sameport::tokio::connect(from, far.local_addr().unwrap()).await;
        if let Some(stream) = expected().tcp.next(connected) {
            assert_eq!(stream.local_addr().unwrap(), from);
        }
        let near = sameport::tokio::bind_udp("127.0.0.1:0").await.unwrap();
        let from = near.local_addr().unwrap();
        let far = sameport::tokio::bind_udp("127.0.0.1:0").await.unwrap();
        let to = far.local_addr().unwrap();
        let socket = sameport::tokio::connect_udp(from, to).await.unwrap();
        assert_eq!((socket.local_addr().unwrap(), socket.peer_addr().unwrap()), (from, to));
    });
}

#[test]
fn errors_are_those_of_the_synchronous_functions() {
    run(async {
        let held = sameport::tokio::listen_exclusive("127.0.0.1:0").await.unwrap();
        let to = held.local_addr().unwrap();
        let error = sameport::tokio::listen_exclusive(to).await.unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
        let error = sameport::tokio::connect("[::1]:0", to).await.unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "connect"), "{error}");
        let error = sameport::tokio::connect(0, ("name.invalid", 1)).await.unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "resolve"), "{error}");
        drop(held);
        let error = sameport::tokio::connect("127.0.0.1:0", to).await.unwrap_err();
        assert_eq!(error.to_string(), format!("connect 127.0.0.1:0 to {to}: refused"));
    });
}

/// The futures can be spawned, also from an address that is not `Send`.
#[test]
fn futures_are_send() {
    struct NotSend(SocketAddr, std::marker::PhantomData<*const ()>);
    impl sameport::ToAddress for NotSend {
        fn to_endpoint(&self) -> sameport::Result<sameport::Endpoint> {
            self.0.to_endpoint()
        }
    }
    fn is_send(_: &impl Send) {}
    let address = || NotSend(SocketAddr::from(([127, 0, 0, 1], 0)), std::marker::PhantomData);
    let text = String::from("localhost:0");
    is_send(&sameport::tokio::listen(&text));
    is_send(&sameport::tokio::connect(text.as_str(), text.as_str()));
    is_send(&sameport::tokio::bind_udp(text));
    // Not before the first poll, which converts the address.
    drop(sameport::tokio::listen(address()));
}

/// A listener whose queue is full: a connection to it neither succeeds nor fails.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn silent() -> (std::net::TcpListener, std::net::TcpStream, SocketAddr) {
    let full = Options::shared().backlog(0).listen("127.0.0.1:0").unwrap();
    let to = full.local_addr().unwrap();
    let queued = std::net::TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    (full, queued, to)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_cancelled_connection_leaves_nothing() {
    run(async {
        let (full, _queued, to) = silent();
        let near = sameport::tokio::listen("127.0.0.1:0").await.unwrap();
        let from = near.local_addr().unwrap();
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..3 {
            // The second attempt would find the pair in use if the first one still had it.
            let attempt = sameport::tokio::connect(from, to);
            timeout(Duration::from_millis(50), attempt).await.expect_err("no connection");
        }
        // Other tests of this process open and close descriptors meanwhile.
        let mut left = usize::MAX;
        for _ in 0..600 {
            left = std::fs::read_dir("/proc/self/fd").unwrap().count();
            if left <= before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(left <= before, "{left} descriptors, before {before}");
        // The other tasks ran meanwhile, and the address is usable.
        drop(full);
        let far = sameport::tokio::listen("127.0.0.1:0").await.unwrap();
        sameport::tokio::connect(from, far.local_addr().unwrap()).await.unwrap();
    });
}

#[cfg(all(feature = "tokio-time", any(target_os = "linux", target_os = "android")))]
#[test]
fn a_timeout_is_an_error_with_both_addresses() {
    run(async {
        let (_full, _queued, to) = silent();
        let started = std::time::Instant::now();
        let wait = Duration::from_millis(200);
        let error = sameport::tokio::connect_timeout("127.0.0.1:0", to, wait).await.unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::TimedOut, "connect"), "{error}");
        assert_eq!(error.to_string(), format!("connect 127.0.0.1:0 to {to}: timed out"));
        assert!(started.elapsed() >= wait && started.elapsed() < PATIENCE);
        let wait = Duration::ZERO;
        let error = sameport::tokio::connect_timeout(0, to, wait).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
    });
}
