//! Opens the sockets of a case as their users.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{ExistingSocket, SocketUse};
use socket2::{Domain, Socket, Type};

use crate::cases::{Spec, State};
use crate::kernel::{self, Rights};
use crate::netns::{error_name, with_effective_uid};

const BACKLOG: i32 = 64;
const LIMIT: Duration = Duration::from_secs(2);
/// Below every case's port.
const TARGET_PORT: u16 = 1_500;

/// The answer of a server's calls: the call that failed and the name of its error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Failed(String, String),
}

/// An existing socket of a case.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) existing: ExistingSocket,
    /// None: only the kernel still has the socket.
    pub(crate) socket: Option<Socket>,
    _peers: Vec<Socket>,
}

/// A network namespace with listeners to connect to.
#[derive(Debug)]
pub(crate) struct Network {
    targets: Vec<Socket>,
}

impl Network {
    pub(crate) fn new(rights: &Rights) -> io::Result<Self> {
        let devices = kernel::new_netns()?;
        assert_eq!(devices, rights.devices, "the same devices as in the probe");
        let listener = |ip: std::net::IpAddr| -> io::Result<Socket> {
            let address = SocketAddr::new(ip, TARGET_PORT);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        };
        let targets =
            vec![listener(Ipv4Addr::LOCALHOST.into())?, listener(Ipv6Addr::LOCALHOST.into())?];
        Ok(Self { targets })
    }

    /// Opens all of them in this order. None: one of them cannot be opened.
    pub(crate) fn open_all(&self, specs: &[(Spec, State)], port: u16) -> Option<Vec<Open>> {
        let mut existing = Vec::new();
        for (spec, state) in specs {
            // An overlapping socket could receive the connection.
            let accepts = matches!(state, State::Accepted | State::TimeWait);
            let overlaps = |open: &Open| open.existing.address.overlaps(&spec.address(port));
            if accepts && existing.iter().any(overlaps) {
                return None;
            }
            existing.push(self.open(spec, *state, port).ok()?);
        }
        Some(existing)
    }

    fn open(&self, spec: &Spec, state: State, port: u16) -> io::Result<Open> {
        let socket = with_effective_uid(spec.uid, || with_options(spec))?;
        socket.bind(&spec.address(port).socket.into())?;
        let tcp = spec.protocol == Protocol::Tcp;
        let mut peers = Vec::new();
        let (socket_use, socket) = match state {
            State::Bound => (SocketUse::Bound, Some(socket)),
            State::Waiting => {
                if tcp {
                    socket.listen(BACKLOG)?;
                }
                (SocketUse::Waiting, Some(socket))
            }
            State::Client => {
                let address = socket.local_addr()?.as_socket().expect("an address");
                peers.extend(self.connect(&socket, address, tcp)?);
                (SocketUse::Connected, Some(socket))
            }
            State::Accepted | State::TimeWait => {
                socket.listen(BACKLOG)?;
                let client = connected(spec, port)?;
                socket.set_read_timeout(Some(LIMIT))?;
                let (accepted, _) = with_effective_uid(spec.uid, || socket.accept())?;
                drop(socket);
                if state == State::Accepted {
                    peers.push(client);
                    (SocketUse::Connected, Some(accepted))
                } else {
                    let address = local_address(spec, &accepted)?;
                    // The end that closes first keeps TIME_WAIT, once the peer has closed too.
                    drop(accepted);
                    client.set_read_timeout(Some(LIMIT))?;
                    assert_eq!((&client).read(&mut [0])?, 0, "end of file");
                    client.shutdown(Shutdown::Write)?;
                    let until = Instant::now() + LIMIT;
                    while client.peer_addr().is_ok() && Instant::now() < until {
                        std::thread::yield_now();
                    }
                    return Ok(Open {
                        existing: existing(spec, address, SocketUse::TimeWait),
                        socket: None,
                        _peers: peers,
                    });
                }
            }
        };
        let socket = socket.expect("only TIME_WAIT has no socket");
        socket.set_nonblocking(true)?;
        let address = local_address(spec, &socket)?;
        Ok(Open {
            existing: existing(spec, address, socket_use),
            socket: Some(socket),
            _peers: peers,
        })
    }

    /// Connects to the listener of the same family, and returns the accepted end for TCP.
    fn connect(&self, socket: &Socket, from: SocketAddr, tcp: bool) -> io::Result<Option<Socket>> {
        let ip = from.ip().to_canonical();
        let target = &self.targets[usize::from(ip.is_ipv6())];
        let to = target.local_addr()?.as_socket().expect("an address");
        let mapped = match (from, to) {
            (SocketAddr::V6(_), SocketAddr::V4(to)) => {
                SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        };
        if tcp {
            socket.connect_timeout(&mapped.into(), LIMIT)?;
            return Ok(Some(target.accept()?.0));
        }
        socket.connect(&mapped.into())?;
        Ok(None)
    }

    /// Makes the calls of a server up to the first that fails.
    pub(crate) fn attempt(&self, spec: &Spec, port: u16) -> (Answer, Option<Socket>) {
        let attempt = || -> Result<Socket, (&'static str, io::Error)> {
            let socket = new(spec).map_err(|error| ("socket", error))?;
            set(spec, &socket)?;
            let at = spec.address(port).socket.into();
            socket.bind(&at).map_err(|error| ("bind", error))?;
            if spec.protocol == Protocol::Tcp {
                socket.listen(BACKLOG).map_err(|error| ("listen", error))?;
            }
            socket.set_nonblocking(true).map_err(|error| ("fcntl", error))?;
            Ok(socket)
        };
        let mut outcome = None;
        with_effective_uid(spec.uid, || {
            outcome = Some(attempt());
            Ok(())
        })
        .expect("the effective uid can change");
        match outcome.expect("the closure ran") {
            Ok(socket) => (Answer::Ok, Some(socket)),
            Err((call, error)) => (Answer::Failed(call.to_owned(), error_name(&error)), None),
        }
    }
}

fn existing(spec: &Spec, address: Address, socket_use: SocketUse) -> ExistingSocket {
    ExistingSocket {
        address,
        usage: socket_use,
        uid: spec.uid,
        reuse_port: Some(spec.reuse_port),
        reuse_address: Some(spec.reuse_address),
    }
}

fn new(spec: &Spec) -> io::Result<Socket> {
    let kind = match spec.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    Socket::new(Domain::for_address(spec.address(0).socket), kind, None)
}

fn with_options(spec: &Spec) -> io::Result<Socket> {
    let socket = new(spec)?;
    set(spec, &socket).map_err(|(_, error)| error)?;
    Ok(socket)
}

fn set(spec: &Spec, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
    let v6 = spec.address(0).socket.is_ipv6();
    let failed = |call| move |error| (call, error);
    if let Some(device) = spec.device {
        let bound = socket.bind_device(Some(device.as_bytes()));
        bound.map_err(failed("setsockopt(SO_BINDTODEVICE)"))?;
    }
    if spec.transparent {
        socket.set_ip_transparent_v4(true).map_err(failed("setsockopt(IP_TRANSPARENT)"))?;
    }
    if spec.freebind {
        let set = if v6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) };
        set.map_err(failed("setsockopt(IP_FREEBIND)"))?;
    }
    if v6 {
        socket.set_only_v6(spec.v6only).map_err(failed("setsockopt(IPV6_V6ONLY)"))?;
    }
    socket.set_reuse_address(spec.reuse_address).map_err(failed("setsockopt(SO_REUSEADDR)"))?;
    socket.set_reuse_port(spec.reuse_port).map_err(failed("setsockopt(SO_REUSEPORT)"))
}

/// A client of the listener of `spec`.
fn connected(spec: &Spec, port: u16) -> io::Result<Socket> {
    let ip = match spec.address(port).socket.ip().to_canonical() {
        // A dual-stack listener accepts both families: IPv4 on even ports.
        ip if ip == Ipv6Addr::UNSPECIFIED && !spec.v6only && port.is_multiple_of(2) => {
            Ipv4Addr::LOCALHOST.into()
        }
        ip if ip == Ipv6Addr::UNSPECIFIED => Ipv6Addr::LOCALHOST.into(),
        ip if ip == Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let to = SocketAddr::new(ip, port);
    let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    client.connect_timeout(&to.into(), LIMIT)?;
    Ok(client)
}

/// The local address: a connect has replaced a wildcard.
fn local_address(spec: &Spec, socket: &Socket) -> io::Result<Address> {
    let address = socket.local_addr()?.as_socket().expect("an address");
    // As in `sock_diag`, which reports the option for wildcards only.
    let v6only = spec.v6only && address.ip() == Ipv6Addr::UNSPECIFIED;
    Ok(Address { socket: address, v6only, ..spec.address(address.port()) })
}
