//! Opening what a case wants, as its users.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{ExistingSocket, SocketUse};
use socket2::{Domain, Socket, Type};

use crate::cases::{Spec, State};
use crate::kernel::{self, Rights, acting_as};

const BACKLOG: i32 = 64;
const LIMIT: Duration = Duration::from_secs(2);
/// Below every case's port.
const TARGET_PORT: u16 = 1_500;

/// What the calls answered: the one that failed, and its error by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Failed(String, String),
}

/// A socket of the case that is there.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) other: ExistingSocket,
    /// None once only the kernel has it.
    pub(crate) socket: Option<Socket>,
    _peers: Vec<Socket>,
}

/// A network of its own, with somebody to connect to.
#[derive(Debug)]
pub(crate) struct Stage {
    targets: Vec<Socket>,
}

impl Stage {
    pub(crate) fn new(rights: &Rights) -> io::Result<Self> {
        let devices = kernel::new_network()?;
        assert_eq!(devices, rights.devices, "as it was tried");
        let at = |ip: std::net::IpAddr| -> io::Result<Socket> {
            let at = SocketAddr::new(ip, TARGET_PORT);
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        };
        let targets = vec![at(Ipv4Addr::LOCALHOST.into())?, at(Ipv6Addr::LOCALHOST.into())?];
        Ok(Self { targets })
    }

    /// All of them, in this order; nothing if one of them cannot be.
    pub(crate) fn open_all(&self, specs: &[(Spec, State)], port: u16) -> Option<Vec<Open>> {
        let mut there = Vec::new();
        for (spec, state) in specs {
            // Somebody with a better address would get the connection.
            let comes_in = matches!(state, State::Accepted | State::TimeWait);
            let met = |open: &Open| open.other.address.overlaps(&spec.address(port));
            if comes_in && there.iter().any(met) {
                return None;
            }
            there.push(self.open(spec, *state, port).ok()?);
        }
        Some(there)
    }

    fn open(&self, spec: &Spec, state: State, port: u16) -> io::Result<Open> {
        let socket = acting_as(spec.uid, || made(spec))?;
        socket.bind(&spec.address(port).socket.into())?;
        let tcp = spec.protocol == Protocol::Tcp;
        let mut peers = Vec::new();
        let (doing, socket) = match state {
            State::Bound => (SocketUse::Bound, Some(socket)),
            State::Waiting => {
                if tcp {
                    socket.listen(BACKLOG)?;
                }
                (SocketUse::Waiting, Some(socket))
            }
            State::Client => {
                let at = socket.local_addr()?.as_socket().expect("an address");
                peers.extend(self.connect(&socket, at, tcp)?);
                (SocketUse::Connected, Some(socket))
            }
            State::Accepted | State::TimeWait => {
                socket.listen(BACKLOG)?;
                let client = connected(spec, port)?;
                socket.set_read_timeout(Some(LIMIT))?;
                let (accepted, _) = acting_as(spec.uid, || socket.accept())?;
                drop(socket);
                if state == State::Accepted {
                    peers.push(client);
                    (SocketUse::Connected, Some(accepted))
                } else {
                    let address = self.named(spec, &accepted)?;
                    // Who closes first has the rest of it, as soon as the other has said so too.
                    drop(accepted);
                    client.set_read_timeout(Some(LIMIT))?;
                    assert_eq!((&client).read(&mut [0])?, 0, "the end");
                    client.shutdown(Shutdown::Write)?;
                    let until = Instant::now() + LIMIT;
                    while client.peer_addr().is_ok() && Instant::now() < until {
                        std::thread::yield_now();
                    }
                    return Ok(Open {
                        other: other(spec, address, SocketUse::TimeWait),
                        socket: None,
                        _peers: peers,
                    });
                }
            }
        };
        let socket = socket.expect("one that is open");
        socket.set_nonblocking(true)?;
        let address = self.named(spec, &socket)?;
        Ok(Open { other: other(spec, address, doing), socket: Some(socket), _peers: peers })
    }

    /// Where a socket is by now: who connects gets one address.
    fn named(&self, spec: &Spec, socket: &Socket) -> io::Result<Address> {
        let at = socket.local_addr()?.as_socket().expect("an address");
        // As `sock_diag` has it: told of wildcards only.
        let v6only = spec.v6only && at.ip() == Ipv6Addr::UNSPECIFIED;
        Ok(Address { socket: at, v6only, ..spec.address(at.port()) })
    }

    /// Connects to somebody of the same family, and gives the other end.
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

    /// Does what a server does, and says how far it came.
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
        acting_as(spec.uid, || {
            outcome = Some(attempt());
            Ok(())
        })
        .expect("the user can be had");
        match outcome.expect("it was tried") {
            Ok(socket) => (Answer::Ok, Some(socket)),
            Err((call, error)) => (Answer::Failed(call.to_owned(), name(&error)), None),
        }
    }
}

fn other(spec: &Spec, address: Address, doing: SocketUse) -> ExistingSocket {
    ExistingSocket {
        address,
        doing,
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

fn made(spec: &Spec) -> io::Result<Socket> {
    let socket = new(spec)?;
    set(spec, &socket).map_err(|(_, error)| error)?;
    Ok(socket)
}

fn set(spec: &Spec, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
    let v6 = spec.address(0).socket.is_ipv6();
    let done = |call| move |error| (call, error);
    if let Some(device) = spec.device {
        let bound = socket.bind_device(Some(device.as_bytes()));
        bound.map_err(done("setsockopt(SO_BINDTODEVICE)"))?;
    }
    if spec.transparent {
        socket.set_ip_transparent_v4(true).map_err(done("setsockopt(IP_TRANSPARENT)"))?;
    }
    if spec.freebind {
        let set = if v6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) };
        set.map_err(done("setsockopt(IP_FREEBIND)"))?;
    }
    if v6 {
        socket.set_only_v6(spec.v6only).map_err(done("setsockopt(IPV6_V6ONLY)"))?;
    }
    socket.set_reuse_address(spec.reuse_address).map_err(done("setsockopt(SO_REUSEADDR)"))?;
    socket.set_reuse_port(spec.reuse_port).map_err(done("setsockopt(SO_REUSEPORT)"))
}

/// A client of a listener made so.
fn connected(spec: &Spec, port: u16) -> io::Result<Socket> {
    let ip = match spec.address(port).socket.ip().to_canonical() {
        // Both families come to a dual-stack listener, IPv4 on every other port.
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

fn name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EPERM) => "EPERM",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ENODEV) => "ENODEV",
        _ => return error.to_string(),
    };
    name.to_owned()
}
