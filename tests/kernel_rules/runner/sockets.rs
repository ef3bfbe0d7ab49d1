//! The sockets of a row: opens them as their users and does every call on them.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::environment::Environment;
use super::{Run, Stop, traffic};
use crate::model::{Call, LastCall, Open, Operation, Opt, Proto, Uid};

/// More than any row queues.
const BACKLOG: i32 = 512;
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A socket of the row.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: char,
    pub(super) socket: Socket,
    /// Whether the socket can receive connections or datagrams.
    pub(super) serves: bool,
    pub(super) proto: Proto,
    uid: Uid,
    address: SocketAddr,
    /// The port when the socket was opened.
    pub(super) first_port: u16,
}

impl Run<'_> {
    pub(super) fn member(&self, name: char) -> Result<&Member, Stop> {
        let found = self.members.iter().rev().find(|member| member.name == name);
        found.ok_or_else(|| Stop::Error(format!("the row has no socket {name}")))
    }

    /// Opens a socket as its user. The inner result is the kernel's answer.
    pub(super) fn open(&mut self, open: &Open) -> Result<io::Result<()>, Stop> {
        let proto = open.proto.unwrap_or(self.proto);
        let ip = parse_ip(open.ip)?;
        let address = SocketAddr::new(ip, self.environment.port(open.port));
        let socket = match self.environment.with_uid(open.uid, || new_socket(proto, ip)) {
            Ok(socket) => socket,
            Err(error) if is_unsupported(&error) => {
                return Err(Stop::Skip(format!("this kernel has no {} on {ip}", proto.name())));
            }
            Err(error) => return Err(error.into()),
        };
        let answer = self.environment.with_uid(open.uid, || {
            for &option in open.options {
                set(self.environment, &socket, option)?;
            }
            if open.last_call != LastCall::Setsockopt {
                socket.bind(&address.into())?;
            }
            if open.last_call == LastCall::Listen && proto.listens() {
                socket.listen(BACKLOG)?;
            }
            Ok(())
        });
        if answer.is_ok() {
            socket.set_nonblocking(true)?;
            self.members.push(Member {
                name: open.name,
                first_port: port_of(&socket)?,
                serves: open.last_call == LastCall::Listen,
                socket,
                proto,
                uid: open.uid,
                address,
            });
        }
        Ok(answer)
    }

    /// Accepts one connection and names it `name`.
    pub(super) fn accept(&mut self, name: char, from: char) -> Result<(), Stop> {
        let listener = self.member(from)?;
        let socket = traffic::accept_one(&listener.socket)?;
        let Member { proto, uid, address, first_port, .. } = *listener;
        self.members.push(Member { name, socket, serves: false, proto, uid, address, first_port });
        Ok(())
    }

    /// Closes the socket. A connection that ends with it has ended when the call returns.
    pub(super) fn close(&mut self, name: char) -> Result<(), Stop> {
        let listens = self.member(name)?.proto.listens();
        self.members.retain(|member| member.name != name);
        if listens { traffic::wait_until_no_connection_ends(self.environment) } else { Ok(()) }
    }

    /// Does the call as its user. The result is the kernel's answer.
    pub(super) fn call(&mut self, call: Call) -> io::Result<()> {
        let no_member = |stop: Stop| io::Error::other(format!("{stop:?}"));
        let member = self.member(call.socket).map_err(no_member)?;
        let (socket, proto) = (&member.socket, member.proto);
        self.environment.with_uid(call.by.unwrap_or(member.uid), || match call.operation {
            Operation::Set(option) => set(self.environment, socket, option),
            Operation::Bind => socket.bind(&member.address.into()),
            Operation::Listen => socket.listen(BACKLOG),
            Operation::Serve => {
                socket.bind(&member.address.into())?;
                if proto.listens() { socket.listen(BACKLOG) } else { Ok(()) }
            }
            Operation::Shutdown => socket.shutdown(std::net::Shutdown::Both),
            Operation::Chown(uid) => {
                let owner = rustix::process::Uid::from_raw(uid);
                Ok(rustix::fs::fchown(socket, Some(owner), None)?)
            }
            Operation::Connect(to) => {
                let to = self.member(to).map_err(no_member)?.socket.local_addr()?;
                if proto.listens() {
                    socket.connect_timeout(&to, CONNECT_TIMEOUT)
                } else {
                    socket.connect(&to)
                }
            }
        })?;
        let serves = match call.operation {
            Operation::Bind => Some(!proto.listens()),
            Operation::Listen | Operation::Serve => Some(true),
            _ => None,
        };
        if let Some(serves) = serves {
            for member in self.members.iter_mut().filter(|member| member.name == call.socket) {
                member.serves = serves;
            }
        }
        Ok(())
    }
}

pub(super) fn parse_ip(ip: &str) -> Result<IpAddr, Stop> {
    ip.parse().map_err(|_| Stop::Error(format!("{ip} is not an IP address")))
}

/// A socket of the family of `ip`.
pub(super) fn new_socket(proto: Proto, ip: IpAddr) -> io::Result<Socket> {
    let domain = if ip.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let (kind, protocol) = match proto {
        Proto::Tcp => (Type::STREAM, Protocol::TCP),
        Proto::Mptcp => (Type::STREAM, Protocol::MPTCP),
        Proto::Udp => (Type::DGRAM, Protocol::UDP),
        Proto::UdpLite => (Type::DGRAM, Protocol::from(libc::IPPROTO_UDPLITE)),
    };
    Socket::new(domain, kind, Some(protocol))
}

/// Whether the error of socket(2) means that this kernel lacks the protocol.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EAFNOSUPPORT)
    )
}

fn set(environment: &Environment, socket: &Socket, option: Opt) -> io::Result<()> {
    match option {
        Opt::Ra(on) => socket.set_reuse_address(on),
        Opt::Rp(on) => socket.set_reuse_port(on),
        Opt::V6only(on) => socket.set_only_v6(on),
        Opt::Device(name) => socket.bind_device(Some(name.as_bytes())),
        Opt::Freebind => socket.set_freebind_v4(true),
        Opt::Transparent => socket.set_ip_transparent_v4(true),
        Opt::Repair => set_repair(socket),
        Opt::IncomingCpu(nth) => socket.set_cpu_affinity(environment.cpu(nth)),
        Opt::Steer(index) => steer(socket, index),
    }
}

/// Sets TCP_REPAIR. Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
fn set_repair(socket: &Socket) -> io::Result<()> {
    let on: c_int = 1;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &on)
}

/// Attaches a classic BPF program that always returns `index`. socket(7).
fn steer(socket: &Socket, index: u32) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = 0x06; // BPF_RET | BPF_K, linux/bpf_common.h
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: index }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

#[expect(unsafe_code, reason = "socket2 and rustix lack these options")]
fn set_option<T>(socket: &Socket, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` bytes of `value`, a live T of exactly that size.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The port that a socket is bound to, or 0.
pub(super) fn port_of(socket: &Socket) -> io::Result<u16> {
    Ok(socket.local_addr()?.as_socket().as_ref().map_or(0, SocketAddr::port))
}
