//! Sockets that exist before the workers: passed by the service manager, from a socket unit or from
//! its file descriptor store, and opened for `--listen`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{OwnedFd, RawFd};

use sameport_policy::addr::{AddrSpec, Host};
use sameport_policy::model::{Address, Protocol, is_of_other_group};
use sameport_policy::systemd::{Activation, StoredName};
use sameport_sys::Errno;
use sameport_sys::fd::inherit;
use sameport_sys::socket::{WorkerSocket, open_listener, resolve_host};

use crate::error::InheritError;
use crate::orphans::OrphanedSocket;
use crate::plan::{NamedOptions, RunPlan};

/// Number of the first passed descriptor, `SD_LISTEN_FDS_START`.
const FIRST_FD: RawFd = 3;

/// A socket that exists before the workers.
#[derive(Debug)]
pub(crate) struct InheritedSocket {
    pub socket: WorkerSocket,
    pub address: Address,
    pub origin: Origin,
    /// Whether workers inherit it as an open descriptor (LISTEN_FDS).
    pub passed: bool,
}

/// Where a socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A socket unit, which keeps it open too.
    Unit,
    /// An earlier run, by the service manager's file descriptor store, under this name.
    Stored(StoredName),
    /// `--listen`.
    Opened,
}

/// Fails if the service manager passed sockets: a plain run has no use for them.
pub(crate) fn refuse(activation: &Activation) -> Result<(), InheritError> {
    match names(activation)?.len() {
        0 => Ok(()),
        count => Err(InheritError::Unnamed(count)),
    }
}

fn names(activation: &Activation) -> Result<Vec<String>, InheritError> {
    activation.socket_names(std::process::id()).map_err(InheritError::InvalidActivation)
}

/// How sockets are opened and checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InheritOptions {
    /// The owner of a private group's sockets.
    owner: Option<u32>,
    freebind: bool,
}

impl InheritOptions {
    pub(crate) fn of(plan: &RunPlan) -> Self {
        Self { owner: plan.owner(), freebind: plan.bind_options.freebind }
    }
}

/// Takes the sockets that the service manager passed, and opens the other addresses of `--listen`. Those
/// that `orphaned` has are marked as passed to workers.
///
/// To be called once in a process, before it opens descriptors that its children inherit.
pub(crate) fn gather(
    named: &NamedOptions,
    activation: &Activation,
    options: InheritOptions,
    orphaned: &mut [OrphanedSocket],
) -> Result<Vec<InheritedSocket>, InheritError> {
    let owner = options.owner;
    let names = names(activation)?;
    if !named.hold && !names.is_empty() {
        return Err(InheritError::NotHeld);
    }
    let mut inherited: Vec<InheritedSocket> = Vec::new();
    for (name, number) in names.into_iter().zip(FIRST_FD..) {
        let fd = inherit::take(number).map_err(|errno| InheritError::NotOpen(number, errno))?;
        let socket = passed(fd, number, name.clone())?;
        if socket.origin == Origin::Unit && owner.is_some() {
            return Err(InheritError::AlreadyBound { number, name });
        }
        if socket.origin != Origin::Unit && is_of_other_group(socket.socket.owner(), owner) {
            return Err(InheritError::OtherGroup { address: socket.address });
        }
        // A socket unit's socket can be in the store too.
        match inherited.iter_mut().find(|it| it.socket.inode() == socket.socket.inode()) {
            None => inherited.push(socket),
            Some(known) if socket.origin == Origin::Unit => known.origin = Origin::Unit,
            Some(_) => {}
        }
    }
    for spec in &named.listen {
        let mut is_there = false;
        for socket in &mut inherited {
            if matches(&socket.address, spec)? {
                socket.passed = true;
                is_there = true;
            }
        }
        for socket in &mut *orphaned {
            if matches(&socket.address, spec)? {
                socket.passed = true;
                is_there = true;
            }
        }
        if is_there {
            continue;
        }
        for socket in open(spec, options)? {
            let address = socket.bound_address(Protocol::Tcp)?.ok_or(Errno::ADDRNOTAVAIL)?;
            inherited.push(InheritedSocket {
                socket,
                address,
                origin: Origin::Opened,
                passed: true,
            });
        }
    }
    Ok(inherited)
}

fn passed(fd: OwnedFd, number: RawFd, name: String) -> Result<InheritedSocket, InheritError> {
    let socket = WorkerSocket::from_fd(fd)?;
    let address = match socket.protocol() {
        Ok(Some(Protocol::Tcp)) if !socket.is_listening()? => None,
        Ok(Some(protocol)) => socket.bound_address(protocol)?,
        // Another protocol, or not a socket.
        Ok(None) | Err(_) => None,
    };
    let Some(address) = address else {
        return Err(InheritError::NotListening { number, name });
    };
    let stored = name.parse::<StoredName>().ok().filter(|stored| stored.inode == socket.inode());
    let origin = stored.map_or(Origin::Unit, Origin::Stored);
    Ok(InheritedSocket { socket, address, origin, passed: false })
}

/// Environment changes for a worker that inherits `count` sockets. LISTEN_PID and LISTEN_FDS are set
/// at its start; those of the supervisor are not for the worker.
pub(crate) fn variables(count: usize) -> Vec<(OsString, Option<OsString>)> {
    let names = (count > 0).then(|| vec!["sameport"; count].join(":").into());
    let removed = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS"].map(|name| (name.into(), None));
    removed.into_iter().chain([("LISTEN_FDNAMES".into(), names)]).collect()
}

/// Whether `--listen` with this value would open this address.
fn matches(address: &Address, spec: &AddrSpec) -> Result<bool, InheritError> {
    if address.protocol != Protocol::Tcp || address.port() != spec.port {
        return Ok(false);
    }
    let ip = address.socket.ip();
    Ok(match &spec.host {
        Host::Any => ip.is_unspecified() && !address.v6only,
        Host::Ip(host) => ip == *host,
        Host::Name(name) => resolve(name, spec)?.iter().any(|resolved| resolved.ip() == ip),
    })
}

/// Opens the listeners of one `--listen`, as the `sameport` library does: one for each address of a
/// name, one for both families without a host.
fn open(spec: &AddrSpec, options: InheritOptions) -> Result<Vec<WorkerSocket>, InheritError> {
    let InheritOptions { owner, freebind } = options;
    let open = |address| {
        open_listener(address, owner, freebind).map_err(|errno| InheritError::Open(address, errno))
    };
    match &spec.host {
        Host::Ip(ip) => Ok(vec![open((*ip, spec.port).into())?]),
        Host::Any => match open((Ipv6Addr::UNSPECIFIED, spec.port).into()) {
            Err(InheritError::Open(_, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => {
                Ok(vec![open((Ipv4Addr::UNSPECIFIED, spec.port).into())?])
            }
            dual_stack => Ok(vec![dual_stack?]),
        },
        Host::Name(name) => {
            let mut sockets = Vec::new();
            let mut no_ipv6 = None;
            for address in resolve(name, spec)? {
                match open(address) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) if address.is_ipv6() && !has_ipv6() => no_ipv6 = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match no_ipv6.filter(|_| sockets.is_empty()) {
                Some(error) => Err(error),
                None => Ok(sockets),
            }
        }
    }
}

fn resolve(name: &str, spec: &AddrSpec) -> Result<Vec<SocketAddr>, InheritError> {
    resolve_host(name, spec.port).map_err(|error| InheritError::Resolve(spec.clone(), error))
}

/// Whether this machine has an IPv6 loopback address.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
