//! `listen`: opens an address, shared or exclusive, and passes on every arrival.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{SyncSender, sync_channel};

use sameport::Options;
use sameport_policy::addr::AddrSpec;
use sameport_policy::model::{Address, Protocol};

/// The options of `listen`.
#[derive(Debug, Clone)]
pub(crate) struct ListenRequest {
    pub(crate) address: AddrSpec,
    pub(crate) protocol: Protocol,
    pub(crate) exclusive: bool,
}

/// The sockets on the address: several for a name with several addresses, and for wildcards where no
/// socket takes both families.
#[derive(Debug)]
pub(crate) enum OpenListeners {
    Tcp(Vec<TcpListener>),
    Udp(Vec<UdpSocket>),
}

/// A connection or a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A connection, closed again at once.
    Connection { from: SocketAddr },
    /// A datagram of this many bytes.
    Datagram { from: SocketAddr, bytes: usize },
}

/// Opens the address.
pub(crate) fn open(request: &ListenRequest) -> Result<OpenListeners, sameport::Error> {
    let options = if request.exclusive { Options::exclusive() } else { Options::shared() };
    let address = request.address.to_string();
    match request.protocol {
        Protocol::Tcp => options.listen_all(address).map(OpenListeners::Tcp),
        Protocol::Udp => options.bind_udp_all(address).map(OpenListeners::Udp),
    }
}

impl OpenListeners {
    /// Their addresses.
    pub(crate) fn addresses(&self) -> io::Result<Vec<Address>> {
        let (protocol, sockets): (_, io::Result<Vec<_>>) = match self {
            Self::Tcp(all) => (Protocol::Tcp, all.iter().map(TcpListener::local_addr).collect()),
            Self::Udp(all) => (Protocol::Udp, all.iter().map(UdpSocket::local_addr).collect()),
        };
        let sockets = sockets?;
        // Two wildcards are opened only where, or because, one does not take both families.
        let has_v4 = sockets.iter().any(|socket| socket.is_ipv4() && socket.ip().is_unspecified());
        Ok(sockets
            .iter()
            .map(|socket| Address {
                v6only: has_v4 && socket.is_ipv6(),
                ..Address::new(protocol, *socket)
            })
            .collect())
    }

    /// Passes arrivals to `report` until there were `count`, `report` fails, or a socket fails.
    /// The sockets stay open until the process ends.
    pub(crate) fn serve<E: From<io::Error>>(
        self,
        count: Option<u64>,
        mut report: impl FnMut(Arrival) -> Result<(), E>,
    ) -> Result<(), E> {
        const QUEUE: usize = 64;
        let (sender, arrivals) = sync_channel(QUEUE);
        match self {
            Self::Tcp(all) => all.into_iter().for_each(|socket| spawn(&sender, accept(socket))),
            Self::Udp(all) => all.into_iter().for_each(|socket| spawn(&sender, receive(socket))),
        }
        drop(sender);
        let most = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        arrivals.into_iter().take(most).try_for_each(|arrival| report(arrival?))
    }
}

/// Waits for arrivals in a thread of its own until one fails or the receiver has gone.
fn spawn(
    to: &SyncSender<io::Result<Arrival>>,
    mut next: impl FnMut() -> io::Result<Arrival> + Send + 'static,
) {
    let to = to.clone();
    std::thread::spawn(move || {
        loop {
            let arrival = next();
            let failed = arrival.is_err();
            if to.send(arrival).is_err() || failed {
                return;
            }
        }
    });
}

fn accept(listener: TcpListener) -> impl FnMut() -> io::Result<Arrival> {
    move || loop {
        match listener.accept() {
            Ok((_, from)) => return Ok(Arrival::Connection { from }),
            // The peer reset the connection while it waited in the queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(socket: UdpSocket) -> impl FnMut() -> io::Result<Arrival> {
    const LARGEST: usize = 65_536;
    let mut buffer = vec![0; LARGEST];
    move || socket.recv_from(&mut buffer).map(|(bytes, from)| Arrival::Datagram { from, bytes })
}
