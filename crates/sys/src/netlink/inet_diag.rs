//! Parses the reply of `sock_diag`: netlink frames with one `inet_diag_msg` for each socket. No input can
//! make it panic or loop.
//!
//! Source: `include/uapi/linux/{netlink,inet_diag}.h`; netlink(7), sock_diag(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct nlmsghdr`: length, type, flags, sequence, port id.
const HEADER: usize = 16;
/// `struct inet_diag_msg` without its attributes.
const ENTRY: usize = 72;
/// `struct nlattr`: length, type.
const ATTRIBUTE: usize = 4;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Type of the reply to the older request; its body is the same.
pub(crate) const TCPDIAG_GETSOCK: u16 = 18;
/// Sent for every listening or unconnected IPv6 socket, without a request
/// (`inet_diag_msg_attrs_fill`, Linux 4.3).
const INET_DIAG_SKV6ONLY: u16 = 11;
/// Sent on request: an array of u32 (`SK_MEMINFO_*`).
const INET_DIAG_SKMEMINFO: u16 = 7;
/// The bit that requests it.
pub(crate) const ASK_MEMINFO: u8 = 1 << (INET_DIAG_SKMEMINFO - 1);
/// Sent on request: `struct tcp_info` of a TCP socket.
const INET_DIAG_INFO: u16 = 2;
/// The bit that requests it. The kernel takes the lock of each socket for it.
pub(crate) const ASK_TCP_INFO: u8 = 1 << (INET_DIAG_INFO - 1);
/// Index of the number of dropped packets. Older kernels send a shorter array.
const SK_MEMINFO_DROPS: usize = 8;
/// Sent for every socket by newer kernels: `struct inet_diag_sockopt`, a bit for each option.
const INET_DIAG_SOCKOPT: u16 = 22;
const FREEBIND: u8 = 1 << 2;
const TRANSPARENT: u8 = 1 << 5;
/// Sent for every socket since Linux 5.8 (`CONFIG_SOCK_CGROUP_DATA`).
const INET_DIAG_CGROUP_ID: u16 = 21;

/// One frame of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetlinkFrame {
    /// The sequence number of the request.
    pub(crate) sequence: u32,
    /// The table changed during the walk: the request must be repeated.
    pub(crate) interrupted: bool,
    pub(crate) body: FrameBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameBody {
    Socket(DiagSocket),
    /// The end of the reply: 0, or the errno of a failed walk.
    Done(i32),
    /// The request was refused, with this errno; 0 is an acknowledgement.
    Refused(i32),
    /// The kernel lost part of the reply: the request must be repeated.
    Overrun,
    /// A frame without information.
    Nothing,
}

/// A socket as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiagSocket {
    /// `TCP_LISTEN`, `TCP_CLOSE`, …, for UDP too.
    pub(crate) state: u8,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// The peer's IP, the unspecified one without a peer.
    pub(crate) peer_ip: IpAddr,
    /// The peer's port, 0 without a peer.
    pub(crate) peer_port: u16,
    /// Index of the interface of `SO_BINDTODEVICE`, 0 for none.
    pub(crate) interface: u32,
    /// Unique among all sockets since boot.
    pub(crate) cookie: u64,
    /// Milliseconds until the running timer expires: in TIME_WAIT, until the entry is removed.
    pub(crate) expires: u32,
    pub(crate) receive_queue: u32,
    pub(crate) send_queue: u32,
    pub(crate) uid: u32,
    /// 0 for a socket that no process has open.
    pub(crate) inode: u32,
    pub(crate) v6only: bool,
    /// The id of its cgroup.
    pub(crate) cgroup: Option<u64>,
    /// Number of dropped packets.
    pub(crate) drops: Option<u32>,
    pub(crate) transparent: Option<bool>,
    pub(crate) freebind: Option<bool>,
    pub(crate) traffic: Option<TcpTraffic>,
    pub(crate) id: DiagId,
}

/// The identity of a socket in a request for this one: its family and `struct inet_diag_sockid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiagId {
    pub(crate) family: u8,
    pub(crate) id: [u8; 48],
}

/// The data of a TCP connection so far: fields of `struct tcp_info` (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpTraffic {
    /// Milliseconds since data was sent, in steps of a jiffy.
    pub(crate) sent_age: u32,
    /// Milliseconds since data was received.
    pub(crate) received_age: u32,
    /// Received bytes in order; a FIN counts as one (Linux 4.1).
    pub(crate) received: u64,
    /// Sent bytes, with retransmissions (Linux 4.19).
    pub(crate) sent: u64,
    /// Bytes that wait for their transmission (Linux 4.6).
    pub(crate) unsent: u32,
}

impl TcpTraffic {
    /// Reads the bytes of `struct tcp_info`. `None` if an older kernel sends fewer.
    pub(crate) fn read(info: &[u8]) -> Option<Self> {
        const LAST_DATA_SENT: usize = 44;
        const LAST_DATA_RECV: usize = 52;
        const BYTES_RECEIVED: usize = 128;
        const NOTSENT_BYTES: usize = 144;
        const BYTES_SENT: usize = 200;
        Some(Self {
            sent_age: u32_at(info, LAST_DATA_SENT)?,
            received_age: u32_at(info, LAST_DATA_RECV)?,
            received: u64_at(info, BYTES_RECEIVED)?,
            sent: u64_at(info, BYTES_SENT)?,
            unsent: u32_at(info, NOTSENT_BYTES)?,
        })
    }
}

/// The reply does not match the kernel's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedReply;

/// The frames of one `recv`, in order. Ends after the first malformed frame.
pub(crate) fn frames(bytes: &[u8]) -> NetlinkFrames<'_> {
    NetlinkFrames { rest: bytes }
}

pub(crate) struct NetlinkFrames<'a> {
    rest: &'a [u8],
}

impl Iterator for NetlinkFrames<'_> {
    type Item = Result<NetlinkFrame, MalformedReply>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = split(self.rest, u32_at(self.rest, 0), HEADER);
        self.rest = frame.map_or(&[], |(_, rest)| rest);
        Some(frame.and_then(|(frame, _)| read_frame(frame)).ok_or(MalformedReply))
    }
}

/// Splits off the first record, `length` bytes including its header. The next record begins at the next
/// multiple of four; the last one may lack this padding.
fn split(bytes: &[u8], length: Option<u32>, header: usize) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length?).ok()?;
    let record = bytes.get(..length).filter(|record| record.len() >= header)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((record, rest))
}

fn read_frame(frame: &[u8]) -> Option<NetlinkFrame> {
    let kind = u16_at(frame, 4)?;
    let flags = u16_at(frame, 6)?;
    let payload = frame.get(HEADER..)?;
    let body = match kind {
        NLMSG_NOOP => FrameBody::Nothing,
        NLMSG_ERROR => FrameBody::Refused(errno_at_start(payload)?),
        // Old kernels send this frame without a payload.
        NLMSG_DONE if payload.is_empty() => FrameBody::Done(0),
        NLMSG_DONE => FrameBody::Done(errno_at_start(payload)?),
        NLMSG_OVERRUN => FrameBody::Overrun,
        SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => FrameBody::Socket(read_entry(payload)?),
        _ => FrameBody::Nothing,
    };
    Some(NetlinkFrame {
        sequence: u32_at(frame, 8)?,
        interrupted: flags & NLM_F_DUMP_INTR != 0,
        body,
    })
}

/// The kernel sends negated errnos.
fn errno_at_start(payload: &[u8]) -> Option<i32> {
    let bytes = payload.first_chunk::<4>()?;
    Some(i32::from_ne_bytes(*bytes).saturating_neg())
}

fn read_entry(payload: &[u8]) -> Option<DiagSocket> {
    let (fixed, attributes) = payload.split_at_checked(ENTRY)?;
    let family = i32::from(*fixed.first()?);
    let (ip, peer_ip) = (ip_at(family, fixed, 8)?, ip_at(family, fixed, 24)?);
    let Attributes { v6only, cgroup, drops, options, traffic } = read_attributes(attributes);
    let option = |bit: u8| options.map(|options| options & bit != 0);
    Some(DiagSocket {
        state: *fixed.get(1)?,
        ip,
        port: u16::from_be_bytes(*fixed.get(4..)?.first_chunk()?),
        peer_ip,
        peer_port: u16::from_be_bytes(*fixed.get(6..)?.first_chunk()?),
        interface: u32_at(fixed, 40)?,
        cookie: u64::from(u32_at(fixed, 48)?) << 32 | u64::from(u32_at(fixed, 44)?),
        expires: u32_at(fixed, 52)?,
        receive_queue: u32_at(fixed, 56)?,
        send_queue: u32_at(fixed, 60)?,
        uid: u32_at(fixed, 64)?,
        inode: u32_at(fixed, 68)?,
        v6only,
        cgroup,
        drops,
        transparent: option(TRANSPARENT),
        freebind: option(FREEBIND),
        traffic,
        id: DiagId { family: *fixed.first()?, id: *fixed.get(4..)?.first_chunk()? },
    })
}

fn ip_at(family: i32, bytes: &[u8], at: usize) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The attributes of a socket that are used.
#[derive(Default)]
struct Attributes {
    v6only: bool,
    cgroup: Option<u64>,
    drops: Option<u32>,
    /// The first byte of `struct inet_diag_sockopt`.
    options: Option<u8>,
    traffic: Option<TcpTraffic>,
}

/// Reads up to the first malformed attribute. The first attribute of a type counts.
fn read_attributes(mut attributes: &[u8]) -> Attributes {
    let mut read = Attributes::default();
    let mut has_v6only = false;
    while let Some((record, rest)) =
        split(attributes, u16_at(attributes, 0).map(u32::from), ATTRIBUTE)
    {
        let value = &record[ATTRIBUTE..];
        match u16_at(record, 2) {
            Some(INET_DIAG_SKV6ONLY) if !has_v6only => {
                has_v6only = true;
                read.v6only = value.first().is_some_and(|value| *value != 0);
            }
            Some(INET_DIAG_CGROUP_ID) if read.cgroup.is_none() => {
                read.cgroup = value.first_chunk().map(|value| u64::from_ne_bytes(*value));
            }
            Some(INET_DIAG_INFO) if read.traffic.is_none() => {
                read.traffic = TcpTraffic::read(value);
            }
            Some(INET_DIAG_SKMEMINFO) if read.drops.is_none() => {
                read.drops = u32_at(value, 4 * SK_MEMINFO_DROPS);
            }
            Some(INET_DIAG_SOCKOPT) if read.options.is_none() => {
                // C fills bit fields from the lowest bit on little-endian machines, else from the
                // highest.
                let little = cfg!(target_endian = "little");
                read.options = value.first().map(|it| if little { *it } else { it.reverse_bits() });
            }
            _ => {}
        }
        attributes = rest;
    }
    read
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "inet_diag_tests.rs"]
mod tests;
