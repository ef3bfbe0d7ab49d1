//! Connections and datagrams to a group, counted by member.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn at(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

/// Closes a listener, and leaves a connection in TIME-WAIT on its address, which is returned.
pub(crate) fn close_before_client(listener: TcpListener) -> SocketAddr {
    let to = at(&listener);
    let mut client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    // The server closes first: its port is the one in TIME-WAIT.
    let (server, _) = listener.accept().unwrap();
    drop((server, listener));
    client.read_to_end(&mut Vec::new()).unwrap();
    to
}

/// Opens `connections`, one after the other, and counts the connections of each listener.
pub(crate) fn count_accepted(
    listeners: &[TcpListener],
    to: SocketAddr,
    connections: usize,
) -> Vec<usize> {
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
    }
    let mut counts = vec![0; listeners.len()];
    for _ in 0..connections {
        let _client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        let receiver = poll("no listener accepted", || {
            listeners.iter().position(|listener| listener.accept().is_ok())
        });
        counts[receiver] += 1;
    }
    counts
}

/// Sends one datagram from each of `senders` sockets, and counts the datagrams of each member.
pub(crate) fn count_received(members: &[&UdpSocket], to: SocketAddr, senders: usize) -> Vec<usize> {
    for member in members {
        member.set_nonblocking(true).unwrap();
    }
    let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let mut counts = vec![0; members.len()];
    for _ in 0..senders {
        UdpSocket::bind(any).unwrap().send_to(b"x", to).unwrap();
        let receiver = poll("no member received", || {
            members.iter().position(|member| member.recv(&mut [0; 4]).is_ok())
        });
        counts[receiver] += 1;
    }
    counts
}

/// Asks until there is an answer.
fn poll<T>(failure: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{failure}");
        std::thread::yield_now();
    }
}
