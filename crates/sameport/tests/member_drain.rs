//! A drain waits for handshakes in progress. Linux only.
#![cfg(any(target_os = "linux", target_os = "android"))]
// Reason: no safe binding sets TCP_DEFER_ACCEPT.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Completes handshakes only with the first data of the client (`TCP_DEFER_ACCEPT`, tcp(7)), so that
/// they are in progress for as long as the test needs.
fn complete_with_data(listener: &TcpListener) {
    let seconds = 60_i32.to_ne_bytes();
    // SAFETY: the pointer and the length describe `seconds`, four bytes that live until the call returns;
    // the descriptor is borrowed from `listener`.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            seconds.as_ptr().cast(),
            4,
        )
    };
    assert_eq!(result, 0);
}

/// The number of clients, of 24 with handshakes in progress, that two members answer while one drains.
fn answered(quiet: Duration) -> usize {
    let mut members = sameport::listen_n("127.0.0.1:0", 2).unwrap();
    let to = members.local_addr();
    members.iter().for_each(|member| complete_with_data(member));
    let clients: Vec<_> =
        (0..24).map(|_| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).collect();
    let leaving = members.remove(0).unwrap();
    let mut drain = leaving.drain(quiet);
    assert!(drain.is_withdrawn());
    let reply = |accepted: std::io::Result<(TcpStream, _)>| {
        let (mut stream, _) = accepted.unwrap();
        stream.write_all(b"ok").unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
    };
    if quiet.is_zero() {
        assert!(drain.next().is_none());
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| drain.for_each(reply));
        let stays = members.get(0).unwrap();
        scope.spawn(|| {
            stays.set_nonblocking(true).unwrap();
            while !done.load(Ordering::Relaxed) {
                match stays.accept() {
                    Ok((stream, peer)) => {
                        stream.set_nonblocking(false).unwrap();
                        reply(Ok((stream, peer)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let ask = |mut stream: &TcpStream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"hi")?;
            stream.read_exact(&mut [0; 2])
        };
        let answered = clients.iter().filter(|client| ask(client).is_ok()).count();
        done.store(true, Ordering::Relaxed);
        answered
    })
}

#[test]
fn handshakes_in_progress_complete_within_the_quiet_time() {
    assert_eq!(answered(Duration::from_secs(5)), 24);
    // The control: without it, those of the member that closes are reset.
    let answered = answered(Duration::ZERO);
    assert!((1..24).contains(&answered), "{answered}");
}

#[test]
fn a_drain_ends_after_the_other_members_have_left() {
    let mut members = sameport::listen_n("127.0.0.1:0", 2).unwrap();
    let to = members.local_addr();
    let mut drain = members.remove(0).unwrap().drain(Duration::ZERO);
    assert!(drain.is_withdrawn());
    drop(members);
    // A load that never leaves it quiet, but leaves its queue empty between two connections.
    let done = AtomicBool::new(false);
    let returned = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && TcpStream::connect(to).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let returned = drain.by_ref().take(2000).count();
        done.store(true, Ordering::Relaxed);
        returned
    });
    assert!(returned < 2000 && !drain.is_withdrawn(), "{returned}");
    assert!(TcpStream::connect_timeout(&to, PATIENCE).is_err());
}
