//! Closing a listener with connections that wait in it.

// Reason: no safe binding reads the length of an accept queue.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod own_network;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sameport::{DrainEnd, drain};

const PATIENCE: Duration = Duration::from_secs(60);

/// Clients of the listener, whose connections wait in it.
fn waiting(listener: &TcpListener, clients: usize) -> Vec<TcpStream> {
    let to = listener.local_addr().unwrap();
    (0..clients)
        .map(|_| {
            let mut client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            client.write_all(b"request").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
        .collect()
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 7];
    // Blocks on every system, whatever the mode of the listener.
    stream.read_exact(&mut request).unwrap();
    stream.write_all(b"answer").unwrap();
}

fn is_answered(client: &mut TcpStream) -> bool {
    let mut text = String::new();
    client.read_to_string(&mut text).is_ok() && text == "answer"
}

#[test]
fn waiting_connections_are_returned_and_the_listener_closes() {
    for nonblocking in [false, true] {
        let listener =
            sameport::Options::exclusive().nonblocking(nonblocking).listen("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut clients = waiting(&listener, 5);
        let mut draining = drain(listener);
        assert_eq!(draining.end(), None);
        let mut peers = Vec::new();
        for connection in &mut draining {
            let (stream, peer) = connection.unwrap();
            answer(stream);
            peers.push(peer);
        }
        let expected: Vec<_> = clients.iter().map(|it| it.local_addr().unwrap()).collect();
        assert_eq!((peers, draining.end()), (expected, Some(DrainEnd::Empty)));
        assert!(draining.next().is_none());
        assert!(clients.iter_mut().all(is_answered));
        assert!(TcpStream::connect_timeout(&to, PATIENCE).is_err());
    }
}

#[test]
fn the_count_and_the_deadline_are_bounds() {
    let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let mut clients = waiting(&listener, 3);
    let mut draining = drain(listener).at_most(2);
    draining.by_ref().for_each(|connection| answer(connection.unwrap().0));
    assert_eq!(draining.end(), Some(DrainEnd::Limit));
    assert_eq!(clients.iter_mut().map(is_answered).collect::<Vec<_>>(), [true, true, false]);

    // A client that connects whenever it is answered: the queue is never empty.
    let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let mut clients = waiting(&listener, 1);
    let to = listener.local_addr().unwrap();
    let mut draining = drain(listener).deadline(Duration::from_millis(100));
    let started = Instant::now();
    for connection in draining.by_ref() {
        if started.elapsed() < PATIENCE {
            clients.push(TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        }
        drop(connection.unwrap());
    }
    assert_eq!(draining.end(), Some(DrainEnd::Limit));
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn an_empty_queue_ends_at_once_and_a_drop_closes() {
    let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    assert!(drain(listener).next().is_none());
    drop(sameport::listen_exclusive(to).unwrap());
    let listener = sameport::listen_exclusive(to).unwrap();
    drop(drain(listener));
    drop(sameport::listen_exclusive(to).unwrap());
}

#[cfg(target_os = "linux")]
mod of_linux {
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use socket2::{Domain, SockRef, Socket, Type};

    use super::own_network::in_own_network;
    use super::*;

    const LATE: usize = 32;

    /// A client that has sent its first packet.
    fn begin_to_connect(to: SocketAddr) -> Socket {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if let Err(error) = client.connect(&to.into()) {
            assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
        }
        client
    }

    #[test]
    fn held_off_clients_reach_another_listener() {
        let leaving = sameport::listen("127.0.0.1:0").unwrap();
        let to = leaving.local_addr().unwrap();
        let mut waiting = waiting(&leaving, 2);
        let mut draining = drain(leaving).hold_off(Duration::ZERO).unwrap();
        let staying = sameport::listen(to).unwrap();
        // The kernel selects the leaving listener for about half of them, whose first packet is dropped.
        let late: Vec<_> = (0..LATE).map(|_| begin_to_connect(to)).collect();
        staying.set_nonblocking(true).unwrap();
        let at_once = std::iter::from_fn(|| staying.accept().ok()).count();
        assert!(at_once < LATE);
        for connection in &mut draining {
            answer(connection.unwrap().0);
        }
        assert_eq!(draining.end(), Some(DrainEnd::Empty));
        staying.set_nonblocking(false).unwrap();
        SockRef::from(&staying).set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in at_once..LATE {
            staying.accept().unwrap();
        }
        assert!(late.iter().all(|client| client.take_error().unwrap().is_none()));
        assert!(waiting.iter_mut().all(is_answered));
    }

    #[test]
    fn descriptors_that_run_out_are_errors_with_a_pause() {
        // In a process of its own, because the limit is one of the process.
        let test = "of_linux::child_runs_out_of_descriptors";
        let mut command = std::process::Command::new("/proc/self/exe");
        let status = command.args(["--exact", test, "--ignored", "--test-threads=1"]).status();
        assert!(status.unwrap().success());
    }

    #[test]
    #[ignore = "started by another test, in a process of its own"]
    fn child_runs_out_of_descriptors() {
        let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
        let _clients = waiting(&listener, 2);
        let mut hoard = VecDeque::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push_back(file);
        }
        let mut draining = drain(listener);
        for _ in 0..3 {
            let error = draining.next().unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
        }
        // The connections still wait. The call that finds the queue empty needs a descriptor too.
        hoard.truncate(hoard.len() - 3);
        let taken: Vec<_> = draining.by_ref().take(3).collect();
        assert!(taken.len() == 2 && taken.iter().all(Result::is_ok), "{taken:?}");
        assert_eq!(draining.end(), Some(DrainEnd::Empty));
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum How {
        Close,
        Drain,
        DrainHeldOff,
    }

    const CLOSINGS: usize = 15;
    const CLIENTS: usize = 8;

    /// The answered and the lost connections of clients that connect all the time, while one of two
    /// listeners is closed repeatedly.
    fn count_losses(how: How, migrate: &str) -> (usize, usize) {
        // The file of the network namespace of the thread that opens it.
        std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", migrate).unwrap();
        let staying = sameport::listen("127.0.0.1:0").unwrap();
        let to = staying.local_addr().unwrap();
        let (answered, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (stop, stop_staying) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop_staying.load(Ordering::Relaxed) {
                    let _ = staying.accept().unwrap().0.write_all(b"x");
                }
            });
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let count = if ask(to) { &answered } else { &lost };
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for _ in 0..CLOSINGS {
                close_one(sameport::listen(to).unwrap(), how, &answered);
            }
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().for_each(|client| client.join().unwrap());
            stop_staying.store(true, Ordering::Relaxed);
            // For the accept that waits.
            drop(TcpStream::connect_timeout(&to, PATIENCE));
        });
        (answered.into_inner(), lost.into_inner())
    }

    fn ask(to: SocketAddr) -> bool {
        let mut byte = [0];
        TcpStream::connect_timeout(&to, PATIENCE).is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut byte).is_ok()
        })
    }

    /// Closes a listener in which connections wait.
    fn close_one(leaving: TcpListener, how: How, answered: &AtomicUsize) {
        // Until most clients wait in it, or were answered by the other one often.
        let before = answered.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while answered.load(Ordering::Relaxed) < before + 50 && queue(&leaving) < CLIENTS / 2 {
            assert!(Instant::now() < deadline, "no connection waits");
            std::thread::yield_now();
        }
        let drained = match how {
            How::Close => return drop(leaving),
            How::Drain => drain(leaving),
            How::DrainHeldOff => drain(leaving).hold_off(Duration::from_millis(5)).unwrap(),
        };
        for connection in drained {
            let _ = connection.unwrap().0.write_all(b"x");
        }
    }

    /// The connections that wait: `tcpi_unacked` of a listener, the seventh of `struct tcp_info`
    /// after eight bytes.
    fn queue(listener: &TcpListener) -> usize {
        use std::os::fd::AsRawFd;

        let mut info = [0_u32; 8];
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap();
        // SAFETY: the pointers describe `info` and its length, which live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &mut length,
            )
        };
        assert_eq!(result, 0);
        info[6].try_into().unwrap()
    }

    #[test]
    fn a_drain_loses_less_than_a_close_and_held_off_it_loses_none() {
        in_own_network("a_drain_loses_less_than_a_close_and_held_off_it_loses_none", || {
            let count = |how, migrate| {
                let (answered, lost) = count_losses(how, migrate);
                println!("{how:?}, tcp_migrate_req {migrate}: {lost} of {} lost", answered + lost);
                lost
            };
            let closed = count(How::Close, "0");
            let drained = count(How::Drain, "0");
            assert!(closed > 0 && drained < closed, "{drained} of {closed}");
            assert_eq!(count(How::DrainHeldOff, "0"), 0);
            // The kernel moves nearly all.
            assert!(count(How::Close, "1") < closed);
            assert!(count(How::Drain, "1") < closed);
        });
    }
}
