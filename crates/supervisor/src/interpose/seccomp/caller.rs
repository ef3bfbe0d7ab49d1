//! What a worker's call says, and what the worker itself could do.

use std::net::SocketAddr;
use std::sync::OnceLock;

use sameport_policy::bind::sockaddr;
use sameport_policy::seccomp::calls::{AddrArgument, Architecture, WorkerCall};
use sameport_sys::Errno;
use sameport_sys::process;
use sameport_sys::process::read_memory;
use sameport_sys::seccomp::Notification;

/// Whether the worker itself could bind this port. A root supervisor must not lend its rights.
pub(crate) fn may_bind(tid: i32, port: u16) -> bool {
    port == 0
        || port >= process::first_unprivileged_port()
        || process::thread_rights(tid).is_some_and(|rights| rights.bind_low_ports)
}

/// Whether a port was a low one when we started. Good enough for words, and every bind asks.
pub(crate) fn seems_low(port: u16) -> bool {
    static FIRST: OnceLock<u16> = OnceLock::new();
    port < *FIRST.get_or_init(process::first_unprivileged_port)
}

pub(crate) fn may_be_transparent(tid: i32) -> bool {
    process::thread_rights(tid).is_some_and(|rights| rights.bind_nonlocal)
}

/// The call, with the arguments of an i386 `socketcall` fetched from the worker's memory.
pub(crate) fn read_call(
    machine: Architecture,
    notification: &Notification,
) -> Result<Option<WorkerCall>, Errno> {
    let Notification { tid, arch, number, args, .. } = *notification;
    let read = WorkerCall::read(machine, arch, number, args);
    let Some(WorkerCall::Socketcall { call, arguments }) = read else { return Ok(read) };
    let Some(count) = WorkerCall::socketcall_words(call) else { return Ok(None) };
    let mut words = [0u32; 6];
    for (word, at) in words.iter_mut().take(count).zip((arguments..).step_by(size_of::<u32>())) {
        let mut bytes = [0; size_of::<u32>()];
        read_memory(tid, at, &mut bytes)?;
        *word = u32::from_ne_bytes(bytes);
    }
    Ok(WorkerCall::from_socketcall(call, words))
}

/// The address in the worker's memory, as far as the kernel would read it.
pub(crate) fn read_address(tid: i32, named: AddrArgument) -> Option<SocketAddr> {
    // The kernel takes the length as a C int.
    let length = usize::try_from(named.length & u64::from(u32::MAX)).ok()?;
    let mut bytes = [0; sockaddr::LONGEST];
    let bytes = bytes.get_mut(..length)?;
    read_memory(tid, named.address, bytes).ok()?;
    sockaddr::read(bytes)
}
