//! The sockets that one worker has bound, to keep those of one execution apart.
//!
//! A worker and its children have one table. What it says is verified before it is used: a socket can be
//! closed without notice. The search for a closed socket ends with the descriptors of the process that
//! bound it; a socket that is open only in a child of an ended process counts as closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sameport_policy::bind::distinct;
use sameport_policy::bind::distinct::{EarlierSocket, OwnStep, ReuseOptions};
use sameport_policy::model::Address;
use sameport_sys::process::{Execution, execution};
use sameport_sys::socket::{SocketAccess, WorkerSocket, has_descriptor};

use super::call::SocketCall;

/// The limits of remembered sockets, for one port and for all. A forgotten one is shared.
const MOST_ON_PORT: usize = 64;
const MOST_PORTS: usize = 4096;

/// The number of descriptors among which a socket is searched that has moved to another number.
const MOST_DESCRIPTORS: usize = 256;

/// The bound sockets of one worker, by port.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnSockets(Arc<Mutex<HashMap<u16, Vec<OwnSocket>>>>);

#[derive(Debug, Clone)]
struct OwnSocket {
    tid: i32,
    fd: i32,
    inode: u64,
    address: Address,
    /// What the program itself set, before the socket was shared.
    options: ReuseOptions,
    /// `None`: not read yet.
    execution: Option<Execution>,
}

impl OwnSockets {
    fn ports(&self) -> MutexGuard<'_, HashMap<u16, Vec<OwnSocket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a socket that is about to be bound. `options`: those before it is shared.
    pub(super) fn add(&self, call: &SocketCall<'_>, address: &Address, options: ReuseOptions) {
        let inode = call.socket.inode();
        let socket = OwnSocket {
            tid: call.tid(),
            fd: call.fd,
            inode,
            address: address.clone(),
            options,
            execution: None,
        };
        let mut ports = self.ports();
        if ports.len() >= MOST_PORTS {
            ports.clear();
        }
        let on_port = ports.entry(address.port()).or_default();
        on_port.retain(|other| other.inode != inode);
        if on_port.len() >= MOST_ON_PORT {
            on_port.remove(0);
        }
        on_port.push(socket);
    }

    /// The options that the program itself had set on a socket when it bound it.
    pub(super) fn options_at_bind(&self, inode: u64, port: u16) -> Option<ReuseOptions> {
        let ports = self.ports();
        ports.get(&port)?.iter().find(|it| it.inode == inode).map(|own| own.options)
    }

    /// Whether an earlier socket of the caller's execution keeps the new one out, as it would without
    /// `sameport`.
    pub(super) fn keep_out(
        &self,
        call: &SocketCall<'_>,
        address: &Address,
        new: ReuseOptions,
        step: OwnStep,
    ) -> bool {
        let (port, inode) = (address.port(), call.socket.inode());
        let others: Vec<OwnSocket> = {
            let ports = self.ports();
            let on_port = ports.get(&port).into_iter().flatten();
            on_port
                .filter(|it| it.inode != inode && it.may_conflict(address, new))
                .cloned()
                .collect()
        };
        let mut caller = None;
        others.into_iter().any(|other| {
            let Some(earlier) = other.open_socket((call.tid(), call.fd)) else {
                self.forget(port, other.inode);
                return false;
            };
            if !distinct::conflicts(address, new, step, &earlier) {
                return false;
            }
            let caller = *caller.get_or_insert_with(|| execution(call.tid()));
            caller.is_some() && (other.tid == call.tid() || self.execution(&other) == caller)
        })
    }

    /// The execution that bound a socket.
    fn execution(&self, socket: &OwnSocket) -> Option<Execution> {
        let known = socket.execution.or_else(|| execution(socket.tid))?;
        let mut ports = self.ports();
        let on_port = ports.get_mut(&socket.address.port()).into_iter().flatten();
        for own in on_port.filter(|it| it.inode == socket.inode) {
            own.execution = Some(known);
        }
        Some(known)
    }

    fn forget(&self, port: u16, inode: u64) {
        let mut ports = self.ports();
        if let Some(on_port) = ports.get_mut(&port) {
            on_port.retain(|it| it.inode != inode);
            if on_port.is_empty() {
                ports.remove(&port);
            }
        }
    }
}

impl OwnSocket {
    /// Whether the two conflict if the earlier one listens: the most that can be.
    fn may_conflict(&self, address: &Address, new: ReuseOptions) -> bool {
        distinct::conflicts(address, new, OwnStep::Bind, &self.with(true))
    }

    fn with(&self, listens: bool) -> EarlierSocket {
        EarlierSocket { address: self.address.clone(), options: self.options, listens }
    }

    /// The socket, if its process still has it open and bound. A held socket can have taken its place.
    /// `new`: the thread and descriptor of the new socket.
    fn open_socket(&self, new: (i32, i32)) -> Option<EarlierSocket> {
        if new != (self.tid, self.fd)
            && let Ok(SocketAccess::Socket(socket)) = WorkerSocket::from_thread(self.tid, self.fd)
        {
            let bound = socket.bound_address(self.address.protocol).ok().flatten();
            if bound.as_ref() == Some(&self.address) {
                return Some(self.with(socket.is_listening() == Ok(true)));
            }
            if socket.inode() == self.inode {
                // Its bind failed.
                return None;
            }
        }
        has_descriptor(self.tid, self.inode, MOST_DESCRIPTORS).then(|| self.with(true))
    }
}
