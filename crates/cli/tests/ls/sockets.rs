//! Sockets of the tests, and processes that hold them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness;

pub(crate) struct Options {
    pub(crate) v6only: Option<bool>,
    pub(crate) shared: bool,
    pub(crate) device: bool,
}

pub(crate) const PLAIN: Options = Options { v6only: None, shared: false, device: false };

pub(crate) fn bound(kind: Type, at: &str, options: &Options) -> Socket {
    let at: SocketAddr = at.parse().unwrap();
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol)).unwrap();
    if let Some(v6only) = options.v6only {
        socket.set_only_v6(v6only).unwrap();
    }
    socket.set_reuse_port(options.shared).unwrap();
    if options.device {
        socket.bind_device(Some(b"lo")).unwrap();
    }
    socket.bind(&at.into()).unwrap();
    if kind == Type::STREAM {
        socket.listen(7).unwrap();
    }
    socket
}

pub(crate) fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn port(socket: &Socket) -> String {
    address(socket).port().to_string()
}

/// A process with the socket as its standard input, killed on drop.
pub(crate) struct SocketHolder(pub(crate) Child);

impl SocketHolder {
    pub(crate) fn of(socket: &Socket, user: Option<u32>) -> Self {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Self(command.spawn().unwrap())
    }
}

impl Drop for SocketHolder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sockets with every combination of protocol, address, device and sharing.
pub(crate) fn all_kinds() -> Vec<Socket> {
    let dual = || Options { v6only: Some(false), ..PLAIN };
    let only = || Options { v6only: Some(true), ..PLAIN };
    let on_lo = || Options { device: true, ..PLAIN };
    let shared = || Options { shared: true, ..PLAIN };
    let mut sockets = Vec::new();
    for kind in [Type::STREAM, Type::DGRAM] {
        for (at, options) in [
            ("0.0.0.0:0", PLAIN),
            ("127.0.0.1:0", PLAIN),
            ("127.0.79.1:0", on_lo()),
            ("0.0.0.0:0", on_lo()),
            ("[::]:0", dual()),
            ("[::]:0", only()),
            ("[::]:0", Options { device: true, ..dual() }),
            ("[::]:0", Options { device: true, ..only() }),
            ("[::1]:0", PLAIN),
            ("[::1]:0", on_lo()),
            ("[::ffff:127.0.0.1]:0", dual()),
        ] {
            sockets.push(bound(kind, at, &options));
        }
        for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let first = bound(kind, at, &shared());
            let second = bound(kind, &address(&first).to_string(), &shared());
            sockets.extend([first, second]);
        }
    }
    sockets
}

/// Calls `attempt` until it returns a value. Panics after the timeout.
#[track_caller]
pub(crate) fn eventually<T>(attempt: impl FnMut() -> Option<T>) -> T {
    harness::eventually(attempt).expect("an answer in time")
}
