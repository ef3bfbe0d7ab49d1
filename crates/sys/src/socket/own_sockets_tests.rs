//! Fixtures of the socket tests: sockets of this process, treated as a worker's.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::raw_option;
use super::raw_option::SockOpt;
use crate::socket::worker_access::SocketAccess;
use crate::socket::worker_socket::WorkerSocket;

/// The time limit of every wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(300);

/// A duplicate of a socket.
pub(super) fn duplicate(socket: impl AsFd) -> WorkerSocket {
    let ourselves = std::process::id().cast_signed();
    match WorkerSocket::from_thread(ourselves, socket.as_fd().as_raw_fd()) {
        Ok(SocketAccess::Socket(socket)) => socket,
        other => panic!("{other:?}"),
    }
}

/// A listener with SO_REUSEPORT.
pub(super) fn listener(address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

/// Waits until the condition is true; panics after [`TIMEOUT`].
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIMEOUT, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The first bytes of TCP_INFO.
pub(super) fn tcp_info(socket: impl AsFd) -> [u8; 104] {
    let mut info = [0; 104];
    let name = SockOpt { level: libc::IPPROTO_TCP, number: libc::TCP_INFO };
    assert_eq!(raw_option::read(socket.as_fd(), name, &mut info), Ok(104));
    info
}

/// A nonblocking socket on which `connect` was called.
pub(super) fn connecting(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => panic!("{error}"),
        _ => {}
    }
    socket.set_nonblocking(false).unwrap();
    socket.into()
}

/// Sets TCP_DEFER_ACCEPT, with which a handshake stays incomplete on the listener's side until the
/// client sends data.
pub(crate) fn set_defer_accept(listener: impl AsFd) {
    let defer = SockOpt { level: libc::IPPROTO_TCP, number: libc::TCP_DEFER_ACCEPT };
    raw_option::set(listener.as_fd(), defer, &30_i32.to_ne_bytes()).unwrap();
}
