//! The structures that the programs `bind.bpf.c` and `source.bpf.c` read and write, as bytes. Those of
//! rules are in `sameport_policy::bind::keys`. The objects are little-endian.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sameport_policy::bind::keys::{mapped, unmapped};

/// `struct settings` of `bind.bpf.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawSettings {
    pub(super) network: Option<u64>,
    pub(super) since: SystemTime,
    pub(super) every_port: bool,
    pub(super) rules: u32,
}

impl RawSettings {
    pub(super) fn bytes(self) -> [u8; 24] {
        let since = self.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.network.unwrap_or(0).to_le_bytes());
        bytes[8..16].copy_from_slice(&since.as_secs().to_le_bytes());
        bytes[16..20].copy_from_slice(&u32::from(self.every_port).to_le_bytes());
        bytes[20..].copy_from_slice(&self.rules.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; 24]) -> Self {
        Self {
            network: Some(u64_at(bytes, 0)).filter(|cookie| *cookie != 0),
            since: UNIX_EPOCH + Duration::from_secs(u64_at(bytes, 8)),
            every_port: u32_at(bytes, 16) != 0,
            rules: u32_at(bytes, 20),
        }
    }
}

/// `struct source` of `source.bpf.c`.
pub(super) fn source(from: SocketAddr, network: Option<u64>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&network.unwrap_or(0).to_le_bytes());
    bytes[8..24].copy_from_slice(&mapped(from.ip()));
    bytes[24..26].copy_from_slice(&from.port().to_le_bytes());
    bytes[26] = if from.is_ipv4() { 4 } else { 6 };
    bytes
}

pub(super) fn read_source(bytes: &[u8; 32]) -> SocketAddr {
    address(bytes, 8, u16_at(bytes, 24), bytes[26] == 4)
}

/// `struct event` of `bind.bpf.c`.
pub(super) type RawEvent = [u8; 64];

/// The address whose IP is at `at`, written as 16 bytes.
pub(super) fn address(bytes: &[u8], at: usize, port: u16, is_v4: bool) -> SocketAddr {
    SocketAddr::new(unmapped(part(bytes, at), is_v4), port)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(bytes, at))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(part(bytes, at))
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_structures_are_read_back() {
        for (network, every_port, rules) in [(None, true, 0), (Some(7), false, 1000)] {
            let since = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let fixed = RawSettings { network, since, every_port, rules };
            assert_eq!(RawSettings::read(&fixed.bytes()), fixed);
        }
        for text in ["10.0.0.7:0", "127.0.0.1:49888", "[::1]:0", "[2001:db8::7]:65535"] {
            let from = text.parse().unwrap();
            assert_eq!(read_source(&source(from, Some(3))), from);
        }
    }
}
