//! Makes a socket shared before its bind, unless an earlier one of the same execution keeps it out.

use core::net::SocketAddr;

use crate::machine::{RawErrno, own_pid};
use crate::own_sockets::{AddedSocket, OwnSocket, OwnSockets};
use crate::protocol::Protocol;
use crate::reuse::{OwnStep, ReuseOptions};
use crate::settings::{Flag, Settings};
use crate::share::{self, BindAttempt, ShareDecision};
use crate::sockets::{ProgramSocket, REUSE_ADDRESS, REUSE_PORT, socket_inode};

static OWN: OwnSockets = OwnSockets::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SharingState {
    /// The library set SO_REUSEPORT.
    Shared,
    /// The program set SO_REUSEPORT.
    ByProgram,
    /// An earlier socket of the same execution keeps it out.
    KeptOut,
    NotShared,
}

/// The result for one socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedSocket {
    pub(crate) state: SharingState,
    added: Option<AddedSocket>,
    /// Whether the library has cleared SO_REUSEADDR for this bind.
    cleared: bool,
}

impl SharedSocket {
    pub(crate) const UNCHANGED: Self =
        Self { state: SharingState::NotShared, added: None, cleared: false };

    /// Gives a datagram socket that the kernel refuses as a shared one the program's own options again:
    /// `true` if the bind is worth another attempt. Beside sockets that all have SO_REUSEADDR it succeeds,
    /// whatever their users.
    pub(crate) fn undo(&mut self, socket: &ProgramSocket, errno: RawErrno) -> bool {
        let can_undo = self.cleared && errno == RawErrno::ADDRESS_IN_USE;
        if !can_undo
            || socket.set(REUSE_ADDRESS, true).is_err()
            || socket.set(REUSE_PORT, false).is_err()
        {
            return false;
        }
        (self.state, self.cleared) = (SharingState::NotShared, false);
        true
    }

    /// Takes note of a bind that failed.
    pub(crate) fn bind_failed(&self) {
        if let Some(added) = self.added {
            OWN.failed(added);
        }
    }
}

/// Makes the table of the execution's sockets, if sockets are shared.
pub(crate) fn prepare(settings: &Settings) {
    if settings.has(Flag::Share) {
        OWN.open();
    }
}

/// Makes a socket shared, if the settings, the program and its earlier sockets permit it.
pub(crate) fn share(
    settings: &Settings,
    socket: &ProgramSocket,
    address: SocketAddr,
) -> Result<SharedSocket, RawErrno> {
    let now = ReuseOptions {
        reuse_port: socket.has(REUSE_PORT),
        reuse_address: socket.has(REUSE_ADDRESS),
    };
    let inode = socket_inode(socket.fd).unwrap_or(0);
    let before = OWN.find(inode);
    if matches!(before, Some((_, _, true))) && !socket.is_unbound() {
        // The kernel refuses a second bind of one socket.
        let state = if now.reuse_port { SharingState::ByProgram } else { SharingState::NotShared };
        return Ok(SharedSocket { state, ..SharedSocket::UNCHANGED });
    }
    // The library changed the options at an attempt that failed.
    let options = before.map_or(now, |(_, before, _)| ReuseOptions {
        reuse_port: now.reuse_port && before.reuse_port,
        reuse_address: now.reuse_address || before.reuse_address,
    });
    let attempt = BindAttempt {
        protocol: Some(socket.protocol),
        address: Some(address),
        reuse_port: options.reuse_port,
        reuse_address: options.reuse_address,
        // A socket of another namespace is possible, but no setting excludes it.
        same_network: true,
    };
    let decision = share::decide(&attempt, settings.shares_port(socket.protocol, address.port()));
    if matches!(decision, ShareDecision::LeaveAlone(_)) {
        return Ok(SharedSocket::UNCHANGED);
    }
    let own = OwnSocket {
        pid: own_pid(),
        fd: socket.fd,
        inode,
        protocol: socket.protocol,
        ip: address.ip(),
        port: address.port(),
        v6only: socket.is_v6only(),
        device: socket.device(),
        options,
    };
    let added = (inode != 0).then(|| OWN.add(&own, before.map(|(added, _, _)| added))).flatten();
    let result = match decision {
        ShareDecision::Share { .. } if OWN.keep_out(&own, OwnStep::Bind) => unshare(socket, now),
        ShareDecision::Share { clear_reuse_address } => set_shared(socket, clear_reuse_address),
        _ => Ok(SharingState::ByProgram),
    };
    let cleared = decision == ShareDecision::Share { clear_reuse_address: true };
    let shared = SharedSocket { state: SharingState::NotShared, added, cleared };
    match result {
        Ok(state) => Ok(SharedSocket { state, ..shared }),
        Err(errno) => {
            shared.bind_failed();
            Err(errno)
        }
    }
}

fn set_shared(socket: &ProgramSocket, clear_reuse_address: bool) -> Result<SharingState, RawErrno> {
    if clear_reuse_address {
        socket.set(REUSE_ADDRESS, false)?;
    }
    socket.set(REUSE_PORT, true)?;
    Ok(SharingState::Shared)
}

/// Leaves the socket to the kernel, which refuses it. An earlier attempt can have made it shared.
fn unshare(socket: &ProgramSocket, now: ReuseOptions) -> Result<SharingState, RawErrno> {
    if now.reuse_port {
        socket.set(REUSE_PORT, false)?;
    }
    Ok(SharingState::KeptOut)
}

/// Before `listen`: leaves a shared socket to the kernel, if an earlier socket of the same execution
/// can listen on its address. Both have SO_REUSEADDR. Returns the socket, if it was changed.
pub(crate) fn keep_from_listening(settings: &Settings, fd: i32) -> Option<ProgramSocket> {
    if !settings.has(Flag::Share) {
        return None;
    }
    let own = OWN.bound(socket_inode(fd)?)?;
    let socket = ProgramSocket::of(fd)?;
    let new = OwnSocket { pid: own_pid(), ..own };
    (socket.protocol == Protocol::Tcp
        && !socket.listens()
        && OWN.keep_out(&new, OwnStep::Listen)
        && socket.set(REUSE_PORT, false).is_ok())
    .then_some(socket)
}

/// After a `listen` that failed: the socket keeps its address, which others share.
pub(crate) fn share_again(socket: &ProgramSocket) {
    // Fails if the program has closed the socket.
    let _ = socket.set(REUSE_PORT, true);
}
