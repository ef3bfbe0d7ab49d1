//! `net.ipv4.ip_local_reserved_ports` of this thread's network namespace: ports that the kernel does not
//! pick by itself, for either protocol and family (Linux 2.6.35).
//!
//! This is what closes `listen` and `connect` without `bind`, which pass no hook.

use std::collections::BTreeSet;
use std::io;

use sameport_rules::reserved;

const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The reserved ports.
///
/// # Errors
/// Where the file cannot be read.
pub fn reserved() -> io::Result<BTreeSet<u16>> {
    reserved::read(&std::fs::read_to_string(FILE)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reserves these ports and no others. Nothing is written where that is so already.
///
/// # Errors
/// Where the file cannot be written: `EROFS` in most containers.
pub fn reserve(ports: &BTreeSet<u16>) -> io::Result<()> {
    if reserved()? == *ports {
        return Ok(());
    }
    std::fs::write(FILE, format!("{}\n", reserved::write(ports)))
}
