//! An exclusive TCP listener on Linux that can restart over connections in TIME-WAIT.
//!
//! `bind` over a connection in TIME-WAIT needs `SO_REUSEADDR` on the new socket, and on the listener
//! that accepted the connection, which inherits the option: `inet_bind_conflict` of
//! `net/ipv4/inet_connection_sock.c`. While a listener listens, the option admits no other socket
//! (kernel rules `beside-listener-ra` and `bound-window-*`). It has two costs, and each step below
//! avoids one of them:
//!
//! - Between `bind` and `listen`, another socket with the option can be bound too. If it listens
//!   first, `listen` fails here, and reports the conflict. If it never listens, it stays bound,
//!   and can connect from the address: a client whose address and port it guesses gets its
//!   connection instead of the listener's. The first attempt is therefore a `bind` without the
//!   option, which refuses every other socket; the option follows after `listen`.
//! - After a restart over TIME-WAIT, such a socket may exist. The kernel lists it since Linux 6.8,
//!   and the listener is given up, with the connections that wait in it by then.
//!
//! A filter drops what arrives between `listen` and the option: a connection accepted before would
//! refuse a later restart. A client sends again after a second; some microseconds earlier, the port
//! would have refused it.

use std::io;
use std::net::SocketAddr;

use sameport_addr::{Address, Protocol};
use socket2::{SockFilter, Socket};

use super::bound_sockets::intruder;
use crate::error_kind::ErrorKind;
use crate::socket_job::{BindRefusal, FailedCall, SocketJob};

/// A classic BPF program that keeps 0 bytes of each packet: `BPF_RET | BPF_K`.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Binds a new socket to the address: with `SO_REUSEADDR` only if that is necessary.
pub(super) fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let Err(first) = socket.bind(&address.into()) else { return Ok(()) };
    // For port 0, the kernel has tried every port.
    let may_be_closing = first.raw_os_error() == Some(libc::EADDRINUSE) && address.port() != 0;
    let is_bound = may_be_closing
        && socket.set_reuse_address(true).is_ok()
        && socket.bind(&address.into()).is_ok();
    if is_bound { Ok(()) } else { Err(first) }
}

/// Listens. `own` is the owner of new sockets of this thread.
pub(super) fn listen(
    socket: &Socket,
    job: &SocketJob,
    backlog: i32,
    own: Option<u32>,
) -> Result<(), FailedCall> {
    let option = "setsockopt(exclusive)";
    if socket.reuse_address().map_err(FailedCall::of(option))? {
        socket.listen(backlog).map_err(FailedCall::of("listen"))?;
        return refuse_intruder(job, own);
    }
    // Where a sandbox refuses the filter, a connection of these microseconds is accepted at once.
    let is_filtered = socket.attach_filter(&DROP_ALL).is_ok();
    socket.listen(backlog).map_err(FailedCall::of("listen"))?;
    socket.set_reuse_address(true).map_err(FailedCall::of(option))?;
    if is_filtered {
        socket.detach_filter().map_err(FailedCall::of("setsockopt(filter)"))?;
    }
    Ok(())
}

/// Fails if a socket that does not listen is bound to the address. If the kernel does not list such
/// sockets, or a sandbox refuses the list, the function succeeds.
fn refuse_intruder(job: &SocketJob, own: Option<u32>) -> Result<(), FailedCall> {
    let mut address = Address::new(Protocol::Tcp, job.address);
    address.v6only = job.v6only;
    let Some(uid) = intruder(&address, own) else { return Ok(()) };
    let kind = if own == Some(uid) { ErrorKind::InUse } else { ErrorKind::InUseByAnotherUser };
    let refusal = BindRefusal { uid: Some(uid), ..kind.into() };
    let os = io::Error::from_raw_os_error(libc::EADDRINUSE);
    Err(FailedCall { call: "listen", os, refusal: Some(refusal) })
}
