//! The structures of `bpf/guard.bpf.c`, as bytes. The object is little-endian.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sameport_policy::addr::Protocol;
use sameport_policy::guard::{AllowRule, CgroupStep, Guard};

/// `struct settings`.
pub(super) type RawGuardSettings = [u8; 16];
/// `struct port`.
pub(super) type RawPort = [u8; 16];
/// `struct guard`.
pub(super) type RawGuard = [u8; 8];
/// `struct allowed`.
pub(super) type RawAllowed = [u8; 24];
/// `struct name`.
pub(super) type RawName = [u8; 160];
/// `struct event`.
pub(super) type RawDenial = [u8; 80];

/// Matches every generation.
const ANY: u64 = u64::MAX;

pub(super) fn settings(mark: u64, since: SystemTime) -> RawGuardSettings {
    let mut bytes = [0; 16];
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    bytes[..8].copy_from_slice(&mark.to_le_bytes());
    bytes[8..].copy_from_slice(&since.as_secs().to_le_bytes());
    bytes
}

pub(super) fn read_settings(bytes: &RawGuardSettings) -> (u64, SystemTime) {
    (u64_at(bytes, 0), UNIX_EPOCH + Duration::from_secs(u64_at(bytes, 8)))
}

pub(super) fn port(guard: &Guard) -> RawPort {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&guard.netns_cookie.to_le_bytes());
    bytes[8..10].copy_from_slice(&guard.port.to_le_bytes());
    bytes[10] = number(guard.protocol);
    bytes
}

pub(super) fn value(guard: &Guard, number: u32) -> RawGuard {
    let has = |what: fn(&AllowRule) -> bool| u8::from(guard.allow.iter().any(what));
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4] = u8::from(guard.report_only);
    bytes[5] = has(|allowed| matches!(allowed, AllowRule::Executable(Some(_))));
    bytes[6] = has(|allowed| matches!(allowed, AllowRule::Cgroup(_)));
    bytes
}

/// An entry of the map `allow`, for the guard with this number. `place`: the last step of a cgroup's path.
/// `None` for a rule that matches no process.
pub(super) fn allowed(number: u32, allowed: &AllowRule, place: u32) -> Option<(RawAllowed, u64)> {
    let (kind, first, second, value) = match allowed {
        AllowRule::User(uid) => (1_u32, u64::from(*uid), 0, ANY),
        AllowRule::Cgroup(_) => (2, u64::from(place), 0, ANY),
        AllowRule::Executable(None) => return None,
        AllowRule::Executable(Some(file)) => {
            (3, file.device, file.inode, file.generation.map_or(ANY, u64::from))
        }
    };
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..8].copy_from_slice(&kind.to_le_bytes());
    bytes[8..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..].copy_from_slice(&second.to_le_bytes());
    Some((bytes, value))
}

/// A name that is too long is truncated, and matches nothing.
pub(super) fn name(step: &CgroupStep) -> RawName {
    let mut bytes = [0; 160];
    bytes[..4].copy_from_slice(&step.from.to_le_bytes());
    let length = step.name.len().min(156);
    bytes[4..4 + length].copy_from_slice(&step.name.as_bytes()[..length]);
    bytes
}

/// A bind as recorded by the programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DenialBytes {
    /// From 1; 0 for an unused entry.
    pub(super) number: u64,
    /// Time since boot.
    pub(super) time: Duration,
    pub(super) network: u64,
    pub(super) cgroup: u64,
    pub(super) ip: IpAddr,
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) report_only: bool,
    pub(super) program: String,
}

pub(super) fn written(bytes: &RawDenial) -> DenialBytes {
    let program = &bytes[64..];
    let end = program.iter().position(|byte| *byte == 0).unwrap_or(program.len());
    DenialBytes {
        number: u64_at(bytes, 0),
        time: Duration::from_nanos(u64_at(bytes, 8)),
        network: u64_at(bytes, 16),
        cgroup: u64_at(bytes, 24),
        ip: IpAddr::from(part::<16>(bytes, 32)).to_canonical(),
        pid: u32::from_le_bytes(part(bytes, 48)),
        uid: u32::from_le_bytes(part(bytes, 52)),
        port: u16::from_le_bytes(part(bytes, 56)),
        protocol: if bytes[58] == number(Protocol::Tcp) { Protocol::Tcp } else { Protocol::Udp },
        report_only: bytes[59] != 0,
        program: String::from_utf8_lossy(&program[..end]).into_owned(),
    }
}

/// The number of the protocol in IP.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}
