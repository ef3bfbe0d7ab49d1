//! Requests to the kernel's `sock_diag`.
//!
//! `NETLINK_SOCK_DIAG` (Linux 3.3) needs no privilege and lists the sockets of every user in the caller's
//! network namespace. Source: sock_diag(7), `net/ipv4/inet_diag.c`.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use libc::c_int;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::int_hash::IntSet;

use super::inet_diag;
use super::inet_diag::{DiagId, DiagSocket, FrameBody};
use super::proc_net;
use super::proc_net::TableRequest;
use crate::seccomp::permits;
use sameport_policy::sandbox::SandboxedCall;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// Size of the buffer for a list in bytes. The kernel sends messages of up to 32 KiB.
const RECEIVE: usize = 32 * 1024;
/// Size of the buffer for a single-socket reply in bytes. A reply is shorter.
const ONE: usize = 4096;
/// Timeout of `recv`. The kernel builds the reply within the call.
const SILENCE: Duration = Duration::from_secs(5);
/// Number of attempts when the table changes during each walk.
pub(crate) const ATTEMPTS: usize = 8;
/// The call that opens a netlink socket.
const SOCKET: &str = "socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)";
/// Each netlink socket sends one request.
const SEQUENCE: u32 = 1;

/// A request for sockets. The kernel has a table for each protocol, and filters by family, state and
/// port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiagRequest {
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub(crate) protocol: c_int,
    /// `AF_INET` or `AF_INET6`. For TCP also `AF_UNSPEC`, which lists both in one walk.
    pub(crate) family: c_int,
    /// A bit for each state: `1 << TCP_LISTEN`, …
    pub(crate) states: u32,
    /// 0 for every port.
    pub(crate) port: u16,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum DiagError {
    /// A system call failed.
    Call(&'static str, io::Error),
    /// The kernel has no handler: `inet_diag`, `tcp_diag` or `udp_diag` is missing and could not be
    /// loaded.
    NoModule,
    /// The list changed during [`ATTEMPTS`] walks.
    Unsettled,
    /// The reply does not match the kernel's headers.
    Malformed,
}

impl DiagError {
    /// Whether a filter or a security module refuses netlink sockets.
    pub(super) fn is_refusal(&self) -> bool {
        let refusals = [libc::EAFNOSUPPORT, libc::EPERM, libc::EACCES];
        let is_refusal = |number| refusals.contains(&number);
        matches!(self, Self::Call(SOCKET, error) if error.raw_os_error().is_some_and(is_refusal))
    }
}

impl DiagRequest {
    /// Lists the matching sockets, each once, in the kernel's order.
    pub(crate) fn dump(self) -> Result<Vec<DiagSocket>, DiagError> {
        self.dump_with(inet_diag::ASK_MEMINFO)
    }

    /// The same with these attributes: bits `ASK_…`.
    pub(crate) fn dump_with(self, attributes: u8) -> Result<Vec<DiagSocket>, DiagError> {
        let mut outcome = Err(DiagError::Unsettled);
        for _ in 0..ATTEMPTS {
            outcome = self.ask(attributes);
            if !matches!(outcome, Err(DiagError::Unsettled)) {
                break;
            }
        }
        outcome
    }

    /// Whether a connection or datagram to this IP and the request's port would find a socket that is not
    /// bound to a device. The cost does not depend on the number of sockets.
    pub(crate) fn finds(self, ip: IpAddr, kernel: &OwnedFd) -> Result<bool, DiagError> {
        let mut request = self.bytes(inet_diag::ASK_MEMINFO);
        request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        // UDP swaps source and destination, so both get the address.
        request.copy_within(24..26, 26);
        let (source, destination, length) = (28, 44, if ip.is_ipv4() { 4 } else { 16 });
        for at in [source, destination] {
            match ip {
                IpAddr::V4(ip) => request[at..at + length].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => request[at..at + length].copy_from_slice(&ip.octets()),
            }
        }
        // INET_DIAG_NOCOOKIE: any cookie.
        request[64..72].fill(u8::MAX);

        rustix::net::send(kernel, &request, SendFlags::empty()).map_err(failed("send"))?;
        let mut buffer = [0; ONE];
        loop {
            let received = match rustix::net::recv(kernel, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                outcome => outcome.map_err(failed("recv"))?.0,
            };
            for frame in inet_diag::frames(&buffer[..received]) {
                match frame.map_err(|inet_diag::MalformedReply| DiagError::Malformed)?.body {
                    FrameBody::Socket(_) => return Ok(true),
                    FrameBody::Refused(libc::ENOENT) => return Ok(false),
                    FrameBody::Refused(errno) | FrameBody::Done(errno) => {
                        return Err(refused(errno));
                    }
                    FrameBody::Overrun | FrameBody::Nothing => {}
                }
            }
            if received == 0 {
                return Err(DiagError::Malformed);
            }
        }
    }

    /// The one socket with this identity; `None` if it is gone. The cost does not depend on the number of
    /// sockets. `states` and `port` do not count. `kernel`: from [`open`].
    pub(crate) fn one(
        self,
        id: DiagId,
        attributes: u8,
        kernel: &OwnedFd,
    ) -> Result<Option<DiagSocket>, DiagError> {
        let mut request = Self { family: id.family.into(), ..self }.bytes(attributes);
        request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        request[24..72].copy_from_slice(&id.id);
        rustix::net::send(kernel, &request, SendFlags::empty()).map_err(failed("send"))?;
        let mut buffer = [0; ONE];
        let received = loop {
            match rustix::net::recv(kernel, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                outcome => break outcome.map_err(failed("recv"))?.0,
            }
        };
        let frame = inet_diag::frames(&buffer[..received]).next();
        let frame = frame.ok_or(DiagError::Malformed)?;
        match frame.map_err(|inet_diag::MalformedReply| DiagError::Malformed)?.body {
            FrameBody::Socket(entry) => Ok(Some(entry)),
            // ESTALE: the cookie of another socket with the same addresses.
            FrameBody::Refused(libc::ENOENT | libc::ESTALE) => Ok(None),
            FrameBody::Refused(errno) | FrameBody::Done(errno) => Err(refused(errno)),
            FrameBody::Overrun | FrameBody::Nothing => Err(DiagError::Malformed),
        }
    }

    /// One attempt. A new netlink socket has no unread messages of an earlier attempt.
    fn ask(self, attributes: u8) -> Result<Vec<DiagSocket>, DiagError> {
        let kernel = match open() {
            Err(error) if error.is_refusal() => return self.read_tables(attributes, error),
            other => other?,
        };
        let both = self.family == libc::AF_UNSPEC;
        let request = match both {
            true => self.older_bytes(attributes).to_vec(),
            false => self.bytes(attributes).to_vec(),
        };
        rustix::net::send(&kernel, &request, SendFlags::empty()).map_err(failed("send"))?;

        let mut buffer = vec![0; RECEIVE];
        let mut answer = DiagReply::default();
        loop {
            let (received, whole) =
                match rustix::net::recv(&kernel, &mut buffer[..], RecvFlags::TRUNC) {
                    Err(Errno::INTR) => continue,
                    // The receive buffer overflowed, and part of the reply is lost.
                    Err(Errno::NOBUFS) => return Err(DiagError::Unsettled),
                    outcome => outcome.map_err(failed("recv"))?,
                };
            if answer.take(&buffer[..received], whole)? {
                return Ok(answer.entries);
            }
        }
    }

    /// The same from `/proc`; the error of netlink if `/proc` is not readable either.
    fn read_tables(self, attributes: u8, error: DiagError) -> Result<Vec<DiagSocket>, DiagError> {
        let Self { protocol, family, states, port } = self;
        let request = TableRequest { protocol, family, states, port };
        proc_net::list(request, attributes).map_err(|_| error)
    }

    /// `struct nlmsghdr` and `struct inet_diag_req_v2`.
    fn bytes(self, attributes: u8) -> [u8; 72] {
        let mut request = [0; 72];
        request[0..4].copy_from_slice(&72_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&inet_diag::SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
        // Both numbers are below 256.
        request[16] = self.family.to_le_bytes()[0];
        request[17] = self.protocol.to_le_bytes()[0];
        request[18] = attributes;
        request[20..24].copy_from_slice(&self.states.to_ne_bytes());
        request[24..26].copy_from_slice(&self.port.to_be_bytes());
        request
    }
}

/// The received part of a reply.
#[derive(Default)]
struct DiagReply {
    entries: Vec<DiagSocket>,
    seen: IntSet<u64>,
    interrupted: bool,
}

impl DiagReply {
    /// Adds a message whose full length is `whole`. Returns whether it was the last.
    fn take(&mut self, message: &[u8], whole: usize) -> Result<bool, DiagError> {
        if whole > message.len() || message.is_empty() {
            return Err(DiagError::Malformed);
        }
        for frame in inet_diag::frames(message) {
            let frame = frame.map_err(|inet_diag::MalformedReply| DiagError::Malformed)?;
            if frame.sequence != SEQUENCE {
                continue;
            }
            self.interrupted |= frame.interrupted;
            match frame.body {
                // A walk in several parts can report a socket twice.
                FrameBody::Socket(entry) if self.seen.insert(entry.cookie) => {
                    self.entries.push(entry);
                }
                FrameBody::Done(0) if !self.interrupted => return Ok(true),
                FrameBody::Done(0) | FrameBody::Overrun => return Err(DiagError::Unsettled),
                FrameBody::Done(errno) | FrameBody::Refused(errno) if errno != 0 => {
                    return Err(refused(errno));
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

impl DiagRequest {
    /// `struct nlmsghdr` and `struct inet_diag_req`: the older request, for TCP of both families.
    fn older_bytes(self, attributes: u8) -> [u8; 76] {
        let mut request = [0; 76];
        request[0..4].copy_from_slice(&76_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&inet_diag::TCPDIAG_GETSOCK.to_ne_bytes());
        request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
        request[19] = attributes;
        request[20..22].copy_from_slice(&self.port.to_be_bytes());
        request[68..72].copy_from_slice(&self.states.to_ne_bytes());
        request
    }
}

/// Requests an empty list of this protocol (`IPPROTO_TCP`, …): the cheapest test of whether sockets can
/// be listed.
///
/// # Errors
///
/// `ENOENT` when the kernel has no module for the protocol; otherwise the error of the call that
/// failed.
pub fn sock_diag_available(protocol: libc::c_int) -> io::Result<()> {
    let request = DiagRequest { protocol, family: libc::AF_INET, states: 0, port: 0 };
    request.dump().map(drop).map_err(|error| match error {
        DiagError::Call(_, source) => source,
        DiagError::NoModule => io::Error::from_raw_os_error(libc::ENOENT),
        DiagError::Unsettled => io::Error::from_raw_os_error(libc::EINTR),
        DiagError::Malformed => io::ErrorKind::InvalidData.into(),
    })
}

/// A netlink socket connected to the kernel, so that it receives no message of another process.
pub(crate) fn open() -> Result<OwnedFd, DiagError> {
    permits(SandboxedCall::NetlinkSocket).map_err(failed(SOCKET))?;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .map_err(failed(SOCKET))?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0)).map_err(failed("connect"))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE))
        .map_err(failed("setsockopt(SO_RCVTIMEO)"))?;
    Ok(socket)
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> DiagError {
    move |errno| DiagError::Call(call, errno.into())
}

fn refused(errno: i32) -> DiagError {
    match errno {
        // The older request fails with EOPNOTSUPP without inet_diag.
        libc::ENOENT | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP => DiagError::NoModule,
        libc::EINTR | libc::EBUSY => DiagError::Unsettled,
        _ => DiagError::Call("sock_diag", io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_without_a_module_is_told_from_an_empty_list() {
        let none =
            DiagRequest { protocol: libc::IPPROTO_TCP, family: libc::AF_INET, states: 0, port: 0 };
        assert_eq!(none.dump().unwrap(), []);
        // 253 is reserved for experiments and has no sock_diag handler anywhere.
        let stranger = DiagRequest { protocol: 253, ..none };
        assert!(matches!(stranger.dump(), Err(DiagError::NoModule)), "{:?}", stranger.dump());
        let nowhere = DiagRequest { family: libc::AF_UNIX + 200, ..none };
        assert!(nowhere.dump().is_err());
    }

    #[test]
    fn an_answer_is_whole_or_no_answer() {
        let message = |flags: u16, kind: u16, sequence: u32, payload: &[u8]| -> Vec<u8> {
            let length = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes();
            let (kind, flags) = (kind.to_ne_bytes(), flags.to_ne_bytes());
            [&length, &kind[..], &flags, &sequence.to_ne_bytes(), &[0; 4], payload].concat()
        };
        let socket = |cookie: u8| {
            let mut entry = [0; 72];
            (entry[0], entry[44]) = (2, cookie);
            message(2, inet_diag::SOCK_DIAG_BY_FAMILY, SEQUENCE, &entry)
        };
        let done = |errno: i32| message(2, 3, SEQUENCE, &(-errno).to_ne_bytes());
        let interrupted = message(0x10, 3, SEQUENCE, &[0; 4]);
        let overrun = message(0, 4, SEQUENCE, &[]);
        let foreign = message(2, 3, SEQUENCE + 1, &[0; 4]);
        let told = |messages: &[&[u8]]| {
            let mut answer = DiagReply::default();
            for bytes in messages {
                match answer.take(bytes, bytes.len()) {
                    Ok(true) => return format!("{} sockets", answer.entries.len()),
                    Ok(false) => {}
                    Err(failure) => return format!("{failure:?}"),
                }
            }
            "no end".to_owned()
        };
        assert_eq!(told(&[&socket(1), &socket(2), &done(0)]), "2 sockets");
        assert_eq!(told(&[&[socket(1), socket(1), done(0)].concat()]), "1 sockets");
        assert_eq!(told(&[&socket(1), &foreign, &done(0)]), "1 sockets");
        assert_eq!(told(&[&socket(1), &interrupted]), "Unsettled");
        assert_eq!(told(&[&socket(1), &overrun, &done(0)]), "Unsettled");
        assert_eq!(told(&[&socket(1), &done(libc::EINTR)]), "Unsettled");
        assert_eq!(told(&[&socket(1), &done(libc::ENOENT)]), "NoModule");
        assert_eq!(told(&[&socket(1)]), "no end");
        assert_eq!(told(&[&[]]), "Malformed");
        let whole = socket(1);
        for cut in 1..whole.len() {
            assert_eq!(told(&[&whole[..cut], &done(0)]), "Malformed", "after {cut} bytes");
        }
        // The kernel sent more than there was room for.
        let cut = DiagReply::default().take(&whole, whole.len() + 1);
        assert!(matches!(cut, Err(DiagError::Malformed)), "{cut:?}");
    }

    #[test]
    fn what_a_refusal_means() {
        assert!(matches!(refused(libc::ENOENT), DiagError::NoModule));
        assert!(matches!(refused(libc::EINTR), DiagError::Unsettled));
        // A missing permission is not an empty list.
        let DiagError::Call("sock_diag", error) = refused(libc::EPERM) else { panic!() };
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
