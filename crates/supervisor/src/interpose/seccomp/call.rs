//! A worker's call, its socket, and the worker's own rights.

use std::net::SocketAddr;
use std::sync::OnceLock;

use sameport_policy::bind::sockaddr;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::seccomp::calls::{AddrArgument, Architecture, WorkerCall};
use sameport_sys::Errno;
use sameport_sys::process;
use sameport_sys::process::read_memory;
use sameport_sys::seccomp::{Notification, NotifyListener};
use sameport_sys::socket::WorkerSocket;

use crate::conflict::RefusedCaller;
use crate::pool::BlockedCall;
use crate::report::{AnsweredCall, CallKind};

/// A call on a TCP or UDP socket.
#[derive(Debug)]
pub(super) struct SocketCall<'a> {
    pub(super) listener: &'a NotifyListener,
    pub(super) notification: Notification,
    /// The worker's descriptor.
    pub(super) fd: i32,
    /// A duplicate of its socket.
    pub(super) socket: WorkerSocket,
    pub(super) protocol: Protocol,
    pub(super) is_v6: bool,
}

/// The options of a socket that are a part of its address.
#[derive(Debug)]
pub(super) struct AddressOptions {
    pub(super) v6only: bool,
    pub(super) device: Option<String>,
}

impl SocketCall<'_> {
    pub(super) fn tid(&self) -> i32 {
        self.notification.tid
    }

    /// Whether the caller still waits for the answer. Facts are read through a thread id: only if the
    /// caller waits, they belong to this thread and not to a later one with the same id.
    pub(super) fn is_waiting(&self) -> bool {
        self.listener.is_waiting(self.notification.id)
    }

    pub(super) fn blocked(&self) -> BlockedCall<'_> {
        let (tid, fd) = (self.tid(), self.fd);
        BlockedCall { listener: self.listener, id: self.notification.id, tid, fd }
    }

    pub(super) fn address_options(&self) -> Result<AddressOptions, Errno> {
        let v6only = self.is_v6 && self.socket.is_v6only()?;
        Ok(AddressOptions { v6only, device: self.socket.device() })
    }

    /// The socket's address once it is bound there.
    pub(super) fn address_at(&self, options: &AddressOptions, socket: SocketAddr) -> Address {
        let AddressOptions { v6only, device } = options;
        // Linux sets the option itself on a socket that is bound to one IPv6 address, so the option
        // distinguishes addresses only on the wildcard.
        let v6only = *v6only && socket.is_ipv6() && socket.ip().is_unspecified();
        Address { protocol: self.protocol, socket, device: device.clone(), v6only }
    }

    /// The report of the answer, for a call whose outcome is worth knowing. `is_shared`: whether the
    /// socket has `SO_REUSEPORT` by now.
    pub(super) fn answered(
        &self,
        kind: CallKind,
        address: Address,
        is_shared: bool,
    ) -> AnsweredCall {
        let (tid, port) = (self.tid(), address.port());
        let caller = RefusedCaller {
            pid: tid,
            uid: self.socket.owner(),
            shared: is_shared,
            needs_privilege: was_low_port(port) && !may_bind(tid, port),
        };
        let (inode, number) = (self.socket.inode(), self.notification.number);
        let (fd, protocol) = (self.fd, self.protocol);
        AnsweredCall { tid, fd, inode, number, kind, protocol, address, caller }
    }
}

/// Whether the worker itself could bind this port. A root supervisor must not lend its rights.
pub(super) fn may_bind(tid: i32, port: u16) -> bool {
    port == 0
        || port >= process::first_unprivileged_port()
        || process::thread_rights(tid).is_some_and(|rights| rights.bind_low_ports)
}

/// Whether the port needed a privilege when the supervisor started: exact enough for an explanation,
/// and without a look at `/proc` for each bind.
fn was_low_port(port: u16) -> bool {
    static FIRST: OnceLock<u16> = OnceLock::new();
    port < *FIRST.get_or_init(process::first_unprivileged_port)
}

/// Whether the worker itself could set `IP_TRANSPARENT`.
pub(super) fn may_be_transparent(tid: i32) -> bool {
    process::thread_rights(tid).is_some_and(|rights| rights.bind_nonlocal)
}

/// The call, with the arguments of an i386 `socketcall` read from the worker's memory.
pub(super) fn read_call(
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
pub(super) fn read_address(tid: i32, argument: AddrArgument) -> Option<SocketAddr> {
    // The kernel takes the length as a C int.
    let length = usize::try_from(argument.length & u64::from(u32::MAX)).ok()?;
    let mut bytes = [0; sockaddr::LONGEST];
    let bytes = bytes.get_mut(..length)?;
    read_memory(tid, argument.address, bytes).ok()?;
    sockaddr::read(bytes)
}
