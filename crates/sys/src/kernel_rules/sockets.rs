//! The sockets of a row: opening them as their users, and every call on them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use sameport_policy::kernel_rules::model::{Act, Call, Open, Opt, Proto, Stage, User};
use socket2::{Domain, Protocol, Socket, Type};

use super::netns::{Room, uid};
use super::{Run, Stop, kernel, traffic};

/// Enough for every queue of a row to fit.
const BACKLOG: i32 = 512;
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// A socket of the row.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: char,
    pub(super) socket: Socket,
    pub(super) serving: bool,
    pub(super) proto: Proto,
    user: User,
    address: SocketAddr,
    pub(super) first_port: u16,
}

impl Run<'_> {
    pub(super) fn member(&self, name: char) -> Result<&Member, Stop> {
        let found = self.members.iter().rev().find(|member| member.name == name);
        found.ok_or_else(|| Stop::Broken(format!("the row has no socket {name}")))
    }

    /// Opens a socket as its user; the inner result is the kernel's answer.
    pub(super) fn open(&mut self, open: &Open) -> Result<io::Result<()>, Stop> {
        let proto = open.proto.unwrap_or(self.proto);
        let ip: IpAddr = open.ip.parse().map_err(|_| Stop::Broken(open.ip.to_owned()))?;
        let address = SocketAddr::new(ip, self.room.port(open.port));
        let socket = match self.room.acting_as(open.user, || new_socket(proto, ip)) {
            Ok(socket) => socket,
            Err(error) if kernel::is_unsupported(&error) => {
                return Err(Stop::Skip(format!("this kernel has no {} on {ip}", proto.name())));
            }
            Err(error) => return Err(error.into()),
        };
        let seen = self.room.acting_as(open.user, || {
            for &option in open.options {
                set(self.room, &socket, option)?;
            }
            if open.stage != Stage::Made {
                socket.bind(&address.into())?;
            }
            if open.stage == Stage::Serving && proto.listens() {
                socket.listen(BACKLOG)?;
            }
            Ok(())
        });
        if seen.is_ok() {
            socket.set_nonblocking(true)?;
            self.members.push(Member {
                name: open.name,
                first_port: port_of(&socket)?,
                serving: open.stage == Stage::Serving,
                socket,
                proto,
                user: open.user,
                address,
            });
        }
        Ok(seen)
    }

    /// Accepts one connection and calls it `name`.
    pub(super) fn accept(&mut self, name: char, from: char) -> Result<(), Stop> {
        let listener = self.member(from)?;
        let socket = traffic::accept_one(&listener.socket)?;
        let Member { proto, user, address, first_port, .. } = *listener;
        self.members.push(Member {
            name,
            socket,
            serving: false,
            proto,
            user,
            address,
            first_port,
        });
        Ok(())
    }

    /// Closes the socket of that name.
    pub(super) fn close(&mut self, name: char) -> Result<(), Stop> {
        self.member(name)?;
        self.members.retain(|member| member.name != name);
        Ok(())
    }

    /// Makes the call as its user; the result is the kernel's answer.
    pub(super) fn call(&mut self, call: Call) -> io::Result<()> {
        let lost = |stop: Stop| io::Error::other(format!("{stop:?}"));
        let member = self.member(call.who).map_err(lost)?;
        let socket = &member.socket;
        self.room.acting_as(call.by.unwrap_or(member.user), || match call.act {
            Act::Set(option) => set(self.room, socket, option),
            Act::Bind => socket.bind(&member.address.into()),
            Act::Listen => socket.listen(BACKLOG),
            Act::Shutdown => socket.shutdown(std::net::Shutdown::Both),
            Act::Chown(user) => Ok(rustix::fs::fchown(
                socket,
                Some(rustix::process::Uid::from_raw(uid(user))),
                None,
            )?),
            Act::Connect(to) => {
                let to = self.member(to).map_err(lost)?.socket.local_addr()?;
                if member.proto.listens() {
                    socket.connect_timeout(&to, CONNECT_LIMIT)
                } else {
                    socket.connect(&to)
                }
            }
        })?;
        if matches!(call.act, Act::Bind | Act::Listen) {
            let proto = member.proto;
            for member in self.members.iter_mut().filter(|member| member.name == call.who) {
                member.serving = matches!(call.act, Act::Listen) || !proto.listens();
            }
        }
        Ok(())
    }
}

/// A socket of the family that `ip` belongs to.
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

fn set(room: &Room, socket: &Socket, option: Opt) -> io::Result<()> {
    match option {
        Opt::Ra(on) => socket.set_reuse_address(on),
        Opt::Rp(on) => socket.set_reuse_port(on),
        Opt::V6only(on) => socket.set_only_v6(on),
        Opt::Device(name) => socket.bind_device(Some(name.as_bytes())),
        Opt::Freebind => socket.set_freebind_v4(true),
        Opt::Transparent => socket.set_ip_transparent_v4(true),
        Opt::Repair => kernel::repair(socket.as_fd()),
        Opt::IncomingCpu(nth) => socket.set_cpu_affinity(room.cpu(nth)),
        Opt::Steer(index) => kernel::steer(socket.as_fd(), index),
    }
}

/// The port a socket is bound to; 0 for none.
pub(super) fn port_of(socket: &Socket) -> io::Result<u16> {
    Ok(socket.local_addr()?.as_socket().as_ref().map_or(0, SocketAddr::port))
}
