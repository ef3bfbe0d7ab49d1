//! Clients of the servers that tests start.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::{SOCKET_TIMEOUT, TIMEOUT, eventually};

/// Waits until a server accepts connections at `address`.
#[track_caller]
pub(crate) fn wait_until_answering(address: SocketAddr) {
    let answered = eventually(|| TcpStream::connect_timeout(&address, TIMEOUT).ok());
    assert!(answered.is_some(), "no server accepts connections at {address}");
}

/// Connects, sends `request`, and reads to the end.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, SOCKET_TIMEOUT)?;
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A server that does not read the request resets the connection.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => {}
        done => drop(done?),
    }
    Ok(answer)
}

/// Sends one datagram from an ephemeral port and waits up to 1 s for the response, because
/// datagrams can be lost.
pub(crate) fn ask_datagram(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let ours: SocketAddr = if address.is_ipv4() {
        ([127, 0, 0, 1], 0).into()
    } else {
        (Ipv6Addr::LOCALHOST, 0).into()
    };
    let socket = UdpSocket::bind(ours)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send(request)?;
    let mut answer = vec![0; 2048];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}
