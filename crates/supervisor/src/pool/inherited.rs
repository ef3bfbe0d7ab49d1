//! Sockets that a run has before its workers start: passed on by the service manager, from a socket
//! unit or from what it has kept for us, and opened for `--listen`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::os::fd::{OwnedFd, RawFd};

use sameport::Options;
use sameport_policy::addr::{AddrSpec, Host};
use sameport_policy::model::{Address, Protocol, is_private_uid};
use sameport_policy::systemd::{Activation, StoredName};
use sameport_sys::Errno;
use sameport_sys::fd::inherit;
use sameport_sys::socket::WorkerSocket;

use crate::error::InheritError;
use crate::plan::NamedOptions;

/// Where passed descriptors begin, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// A socket that a run has before its workers start.
#[derive(Debug)]
pub(crate) struct InheritedSocket {
    pub socket: WorkerSocket,
    pub address: Address,
    pub from: Origin,
    /// Workers find it open (LISTEN_FDS).
    pub passed: bool,
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A socket unit's, which has it open itself.
    Unit,
    /// One of ours that the manager has kept, under this name.
    Kept(StoredName),
    /// Opened for `--listen`.
    Opened,
}

/// A run without a name can do nothing with sockets.
pub(crate) fn refuse(activation: &Activation) -> Result<(), InheritError> {
    match names(activation)?.len() {
        0 => Ok(()),
        count => Err(InheritError::Unnamed(count)),
    }
}

fn names(activation: &Activation) -> Result<Vec<String>, InheritError> {
    activation.of(std::process::id()).map_err(InheritError::InvalidActivation)
}

/// Takes what was passed on, and opens what `--listen` wants of other addresses. Once in a process,
/// before it opens anything that its children are to have. `owner`: whose the sockets of a private group
/// are.
pub(crate) fn gather(
    named: &NamedOptions,
    activation: &Activation,
    owner: Option<u32>,
) -> Result<Vec<InheritedSocket>, InheritError> {
    let names = names(activation)?;
    if !named.hold && !names.is_empty() {
        return Err(InheritError::NotHeld);
    }
    let mut given: Vec<InheritedSocket> = Vec::new();
    for (name, number) in names.into_iter().zip(FIRST..) {
        let descriptor =
            inherit::take(number).map_err(|errno| InheritError::NotOpen(number, errno))?;
        let one = passed_on(descriptor, number, name.clone())?;
        if one.from == Origin::Unit && owner.is_some() {
            return Err(InheritError::AlreadyBound { number, name });
        }
        if one.from != Origin::Unit && is_others(&one.socket, owner) {
            return Err(InheritError::OtherGroup { address: one.address });
        }
        // A socket unit's socket that was also kept for us.
        match given.iter_mut().find(|other| other.socket.inode() == one.socket.inode()) {
            None => given.push(one),
            Some(other) if one.from == Origin::Unit => other.from = Origin::Unit,
            Some(_) => {}
        }
    }
    for wanted in &named.listen {
        let mut there = false;
        for one in &mut given {
            if is_wanted(&one.address, wanted)? {
                one.passed = true;
                there = true;
            }
        }
        if !there {
            open(wanted, owner, &mut given)?;
        }
    }
    Ok(given)
}

fn passed_on(
    descriptor: OwnedFd,
    number: RawFd,
    name: String,
) -> Result<InheritedSocket, InheritError> {
    let socket = WorkerSocket::of_descriptor(descriptor)?;
    // What is no socket at all cannot be asked.
    let address = match socket.protocol() {
        Ok(Some(Protocol::Tcp)) if !socket.is_listening()? => None,
        Ok(Some(protocol)) => socket.bound(protocol)?,
        Ok(None) | Err(_) => None,
    };
    let Some(address) = address else {
        return Err(InheritError::NotListening { number, name });
    };
    let kept = name.parse::<StoredName>().ok().filter(|kept| kept.inode == socket.inode());
    Ok(InheritedSocket {
        socket,
        address,
        from: kept.map_or(Origin::Unit, Origin::Kept),
        passed: false,
    })
}

/// What is changed in the environment of workers, of which each finds so many sockets open. What was
/// passed to us is no worker's to take; LISTEN_PID and LISTEN_FDS come with what is.
pub(crate) fn variables(passed: usize) -> Vec<(OsString, Option<OsString>)> {
    let names = (passed > 0).then(|| vec!["sameport"; passed].join(":").into());
    let ours = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS"].map(|name| (name.into(), None));
    ours.into_iter().chain([("LISTEN_FDNAMES".into(), names)]).collect()
}

/// Whether `--listen` would open this address.
fn is_wanted(address: &Address, wanted: &AddrSpec) -> Result<bool, InheritError> {
    if address.protocol != Protocol::Tcp || address.port() != wanted.port {
        return Ok(false);
    }
    let ip = address.socket.ip();
    Ok(match &wanted.host {
        Host::Any => ip.is_unspecified() && !address.v6only,
        Host::Ip(wanted) => ip == *wanted,
        Host::Name(name) => {
            let unresolved = |error| InheritError::Resolve(wanted.clone(), error);
            let mut all = (name.as_str(), wanted.port).to_socket_addrs().map_err(unresolved)?;
            all.any(|resolved| resolved.ip() == ip)
        }
    })
}

/// Whether no socket of ours could join this one, or anybody's could.
fn is_others(socket: &WorkerSocket, owner: Option<u32>) -> bool {
    match owner {
        Some(owner) => socket.owner() != owner,
        None => is_private_uid(socket.owner()),
    }
}

fn open(
    wanted: &AddrSpec,
    owner: Option<u32>,
    given: &mut Vec<InheritedSocket>,
) -> Result<(), InheritError> {
    let sockets = match owner {
        None => {
            let listeners = Options::shared().listen_all(wanted).map_err(InheritError::Open)?;
            let sockets = listeners.into_iter().map(|it| WorkerSocket::of_descriptor(it.into()));
            sockets.collect::<Result<Vec<_>, _>>()?
        }
        Some(owner) => open_private(wanted, owner)?,
    };
    for socket in sockets {
        // It listens, so it is bound.
        let address = socket.bound(Protocol::Tcp)?.ok_or(Errno::ADDRNOTAVAIL)?;
        given.push(InheritedSocket { socket, address, from: Origin::Opened, passed: true });
    }
    Ok(())
}

/// The same for sockets that get their owner before they are bound.
fn open_private(wanted: &AddrSpec, owner: u32) -> Result<Vec<WorkerSocket>, InheritError> {
    let port = wanted.port;
    let open = |address| {
        let opened = WorkerSocket::listening(address, owner);
        opened.map_err(|errno| InheritError::OpenPrivate(address, errno))
    };
    match &wanted.host {
        Host::Ip(ip) => Ok(vec![open((*ip, port).into())?]),
        Host::Name(name) => {
            let unresolved = |error| InheritError::Resolve(wanted.clone(), error);
            let all = (name.as_str(), port).to_socket_addrs().map_err(unresolved)?;
            // One name can be written twice in /etc/hosts.
            all.collect::<BTreeSet<_>>().into_iter().map(open).collect()
        }
        Host::Any => match open((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(InheritError::OpenPrivate(_, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => {
                Ok(vec![open((Ipv4Addr::UNSPECIFIED, port).into())?])
            }
            both => Ok(vec![both?]),
        },
    }
}
