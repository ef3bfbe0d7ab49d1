//! A probe's connection to one worker.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::Address;
use sameport_sys::netlink;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::pool::SocketPool;

/// Connects to this worker, at an address that it shares with others.
pub(super) async fn connect(
    pool: &SocketPool,
    start: InstanceId,
    address: &Address,
) -> Result<TcpStream, String> {
    let to = reachable(address.socket);
    let failed = |error| describe(&to, &error);
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(failed)?;
    let from = if to.ip().is_loopback() { loopback(to) } else { to.ip() };
    socket.bind(SocketAddr::new(from, 0)).map_err(failed)?;
    let port = socket.local_addr().map_err(failed)?.port();
    let _steering = pool.steer_probe(start, address, port);
    socket.connect(to).await.map_err(failed)
}

/// Waits until the worker accepts the connection. The kernel completes the handshake without it.
pub(super) async fn accepted(stream: &TcpStream) -> Result<(), String> {
    let ends = || Ok((stream.peer_addr()?, stream.local_addr()?));
    let (to, from) = ends().map_err(|error: std::io::Error| error.to_string())?;
    loop {
        // Data or the end of the stream: the worker accepted.
        if stream.try_read(&mut [0]).is_ok() {
            return Ok(());
        }
        if matches!(netlink::is_accepted(to.port(), from.port()), Ok(Some(true))) {
            return Ok(());
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// `connection refused by 127.0.0.1:80`.
pub(super) fn describe(to: &impl fmt::Display, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("connection refused by {to}"),
        std::io::ErrorKind::ConnectionReset => format!("connection reset by {to}"),
        _ => format!("{to}: {error}"),
    }
}

/// The address by which this machine reaches a listener of its own.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(loopback(address), address.port()),
        false => SocketAddr::new(address.ip(), address.port()),
    }
}

/// The loopback address of the same family.
fn loopback(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}
