//! `net.ipv4.ip_local_reserved_ports` of this thread's network namespace: ports that the kernel does not
//! pick by itself, for either protocol and family (Linux 2.6.35).
//!
//! This is what closes `listen` and `connect` without `bind`, which pass no hook.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};

use sameport_policy::guard::reserved_ports;

const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The reserved ports.
///
/// # Errors
/// Where the file cannot be read.
pub fn reserved() -> io::Result<BTreeSet<u16>> {
    reserved_ports::parse(&text()?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The file, read at once: the kernel cuts it off where the first read ends, without a word
/// (`proc_do_large_bitmap`), and `read_to_string` begins with 32 bytes.
pub(crate) fn text() -> io::Result<String> {
    // Every other port, each with its comma, is the longest.
    let mut text = vec![0; 32_768 * "65535,".len()];
    let length = File::open(FILE)?.read(&mut text)?;
    text.truncate(length);
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reserves these ports and no others. Does not write if they are reserved already. The kernel accepts more
/// than a page in pieces, and adds the later ones to the first.
///
/// # Errors
/// Where the file cannot be written: `EROFS` in most containers.
pub fn reserve(ports: &BTreeSet<u16>) -> io::Result<()> {
    if reserved()? == *ports {
        return Ok(());
    }
    std::fs::write(FILE, format!("{}\n", reserved_ports::format(ports)))
}
