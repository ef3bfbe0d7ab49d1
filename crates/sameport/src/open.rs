//! Opening sockets: check, make, set, bind, listen, in this order and in one step.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use socket2::{Domain, SockRef, Socket, Type};

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::place::{Endpoint, EndpointAddr, wildcards};
use crate::support::{DualStack, Sharing};
use crate::system::{self, Role, SocketJob};

/// How often another port is tried when port 0 gave one that is taken on the next address.
const PORT_ATTEMPTS: usize = 16;

/// The socket that these options make of an address.
pub(crate) fn job(options: &Options, role: Role, address: SocketAddr) -> SocketJob {
    let v6only = address.is_ipv6() && options.v6only.unwrap_or(false);
    SocketJob { role, tcp: role == Role::Listener, address, v6only }
}

/// Opens the first of the addresses that can be had.
pub(crate) fn first(options: &Options, role: Role, place: &Endpoint) -> Result<Socket> {
    let addresses = match place.0 {
        // The IPv4 wildcard is for machines without IPv6 only, and never a second choice.
        EndpointAddr::Every(port) => {
            let [every, ipv4] = wildcards(port);
            return match open(options, &job(options, role, every)) {
                Err(error) if options.v6only != Some(true) && is_absent_ipv6(&error) => {
                    open(options, &job(options, role, ipv4))
                }
                result => result,
            };
        }
        _ => place.resolve()?,
    };
    let mut last = None;
    for address in addresses {
        match open(options, &job(options, role, address)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::BadAddress, "resolve", place)))
}

/// Opens all of the addresses, or none.
pub(crate) fn all(options: &Options, role: Role, place: &Endpoint) -> Result<Vec<Socket>> {
    let mut options = options.clone();
    let addresses = match place.0 {
        EndpointAddr::Every(_) if !splits(&options) => {
            return first(&options, role, place).map(|s| vec![s]);
        }
        EndpointAddr::Every(port) => {
            // One socket a family: the IPv6 one must leave IPv4 to the other.
            options.v6only = Some(true);
            wildcards(port).to_vec()
        }
        _ => place.resolve()?,
    };
    if addresses[0].port() != 0 {
        return each(&options, role, &addresses).map_err(|(error, _)| error);
    }
    // A port that is free on the first address can be taken on the next. What was opened on it is
    // kept until the end, so that the system picks another one each time.
    let mut kept = Vec::new();
    loop {
        match each(&options, role, &addresses) {
            Ok(sockets) => return Ok(sockets),
            Err((error, opened)) => {
                let taken =
                    matches!(error.kind(), ErrorKind::InUse | ErrorKind::InUseByAnotherUser);
                kept.push(opened);
                if !taken || kept.len() == PORT_ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
}

/// Whether a bare port needs a socket for each family.
fn splits(options: &Options) -> bool {
    options.v6only.is_none()
        && match system::support().dual_stack {
            DualStack::OneSocket => false,
            DualStack::OneSocketNotBalanced => options.shared,
            DualStack::TwoSockets => true,
        }
}

/// Opens each of the addresses, or gives back what was opened before the one that failed.
fn each(
    options: &Options,
    role: Role,
    addresses: &[SocketAddr],
) -> std::result::Result<Vec<Socket>, (Error, Vec<Socket>)> {
    let mut port = addresses[0].port();
    let mut sockets = Vec::new();
    let mut absent = None;
    for address in addresses {
        let mut address = *address;
        address.set_port(port);
        let options = Options {
            // A resolved name mixes families; the option is for those that know it.
            v6only: options.v6only.filter(|_| address.is_ipv6()),
            ..options.clone()
        };
        // The system picked the port for the first; on the others it may be somebody's group.
        let picked = port != addresses[0].port();
        let vacant = if picked { vacant(&options, role, address) } else { Ok(()) };
        let opened = vacant.and_then(|()| open(&options, &job(&options, role, address)));
        match opened.and_then(|socket| Ok((local(&socket, address)?.port(), socket))) {
            Ok((got, socket)) => {
                port = got;
                sockets.push(socket);
            }
            Err(error) if address.is_ipv6() && is_absent_ipv6(&error) && ipv6_is_absent() => {
                absent = Some(error);
            }
            Err(error) => return Err((error, sockets)),
        }
    }
    match absent {
        Some(error) if sockets.is_empty() => Err((error, sockets)),
        _ => Ok(sockets),
    }
}

/// Whether nobody is on an address, not even somebody who would share it.
fn vacant(options: &Options, role: Role, address: SocketAddr) -> Result<()> {
    let alone = Options { shared: false, balanced: false, ..options.clone() };
    let job = job(&alone, role, address);
    let probe = make(&job)?;
    put(&alone, &SockRef::from(&probe), &job)?;
    bind(&alone, &probe, &job)
}

fn local(socket: &Socket, address: SocketAddr) -> Result<SocketAddr> {
    let failed = |os| Error::os("getsockname", address, os);
    socket
        .local_addr()
        .map_err(failed)?
        .as_socket()
        .ok_or_else(|| failed(io::ErrorKind::Other.into()))
}

/// Whether an error on an IPv6 address can come from a machine without IPv6.
fn is_absent_ipv6(error: &Error) -> bool {
    matches!(
        (error.call(), error.kind()),
        ("socket", ErrorKind::Unsupported) | ("bind", ErrorKind::AddressNotHere)
    )
}

/// Whether not even the IPv6 loopback address can be bound.
fn ipv6_is_absent() -> bool {
    let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let tried = Socket::new(Domain::IPV6, Type::DGRAM, None).and_then(|s| s.bind(&loopback.into()));
    tried.is_err_and(|error| {
        matches!(system::kind_of(&error), ErrorKind::Unsupported | ErrorKind::AddressNotHere)
    })
}

/// Opens one socket: what `bind` gives is already shared or exclusive, and a listener is listening
/// when it is returned, so that nobody can slip in between.
pub(crate) fn open(options: &Options, job: &SocketJob) -> Result<Socket> {
    let address = job.address;
    check(options, job)?;
    let socket = make(job)?;
    put(options, &SockRef::from(&socket), job)?;
    bind(options, &socket, job)?;
    if job.role == Role::Listener {
        socket.listen(options.backlog).map_err(|os| {
            let refusal = system::refused(&os, job);
            Error::refused("listen", address, os, refusal)
        })?;
    }
    if options.nonblocking {
        socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", address, os))?;
    }
    Ok(socket)
}

pub(crate) fn make(job: &SocketJob) -> Result<Socket> {
    let r#type = if job.tcp { Type::STREAM } else { Type::DGRAM };
    Socket::new(Domain::for_address(job.address), r#type, None)
        .map_err(|os| Error::os("socket", job.address, os))
}

pub(crate) fn bind(options: &Options, socket: &Socket, job: &SocketJob) -> Result<()> {
    let address = job.address;
    socket.bind(&address.into()).map_err(|os| bind_error(job, os))?;
    if options.shared && system::waits_for_port(job) {
        system::share(&SockRef::from(socket), job)
            .map_err(|os| Error::os("setsockopt(sharing)", address, os))?;
    }
    Ok(())
}

pub(crate) fn bind_error(job: &SocketJob, os: io::Error) -> Error {
    let address = job.address;
    if address.port() == 0 && system::kind_of(&os) == ErrorKind::InUse {
        // Nobody is in the way: the whole range is taken.
        return Error::os("bind", address, os)
            .of_kind(ErrorKind::Other)
            .noting("no port is left in the range that the system picks from");
    }
    let refusal = system::refused(&os, job);
    Error::refused("bind", address, os, refusal)
}

/// What can be said against a socket before it is made.
pub(crate) fn check(options: &Options, job: &SocketJob) -> Result<()> {
    let no = |kind, note| Err(Error::new(kind, "open", job.address).noting(note));
    if options.v6only.is_some() && job.address.is_ipv4() {
        return no(ErrorKind::BadAddress, "v6only is for IPv6 addresses");
    }
    // The longest name of any system is 31 bytes; Linux and macOS have 15.
    let is_name = |name: &str| (1..=31).contains(&name.len()) && !name.contains('\0');
    if options.device.as_deref().is_some_and(|name| !is_name(name)) {
        return no(ErrorKind::BadAddress, "a device name has 1 to 31 bytes, and no NUL");
    }
    let needs_truth = options.balanced || job.is_dual_stack();
    if !needs_truth {
        return Ok(());
    }
    let support = system::support();
    if job.is_dual_stack() && support.dual_stack == DualStack::TwoSockets {
        return no(
            ErrorKind::Unsupported,
            "no socket takes IPv4 and IPv6 on this system: use listen_all, or v6only",
        );
    }
    if options.balanced {
        if !options.shared {
            return no(ErrorKind::BadAddress, "an exclusive socket has nothing to balance");
        }
        if support.sharing != Sharing::Balanced {
            return no(ErrorKind::Unsupported, "sharing is not balanced on this system");
        }
        if job.is_dual_stack() && support.dual_stack == DualStack::OneSocketNotBalanced {
            return no(
                ErrorKind::Unsupported,
                "a socket for IPv4 and IPv6 is not balanced on this system: use listen_all",
            );
        }
    }
    Ok(())
}

/// Sets every option that must be there before `bind`.
pub(crate) fn put(options: &Options, socket: &SockRef<'_>, job: &SocketJob) -> Result<()> {
    let (address, ipv6) = (job.address, job.address.is_ipv6());
    let failed = |call| move |os| Error::os(call, address, os);
    if let Some(only) = wanted_v6only(options, job) {
        // Set only where it differs: a bound socket would refuse even its own value.
        if socket.only_v6().map_err(failed("getsockopt(v6only)"))? != only {
            socket.set_only_v6(only).map_err(failed("setsockopt(v6only)"))?;
        }
    }
    if let Some(name) = &options.device {
        system::device(socket, name, ipv6).map_err(|os| {
            let error = Error::os("setsockopt(device)", address, os);
            match error.kind() {
                ErrorKind::NotPermitted | ErrorKind::Unsupported => error,
                _ => error.of_kind(ErrorKind::AddressNotHere).noting(format!("no device {name:?}")),
            }
        })?;
    }
    if options.transparent {
        system::transparent(socket, ipv6).map_err(failed("setsockopt(transparent)"))?;
    }
    if options.freebind {
        system::freebind(socket, ipv6).map_err(failed("setsockopt(freebind)"))?;
    }
    if options.shared && !system::waits_for_port(job) {
        system::share(socket, job).map_err(failed("setsockopt(sharing)"))
    } else {
        system::exclude(socket).map_err(failed("setsockopt(exclusive)"))
    }
}

/// What `IPV6_V6ONLY` has to be, if it matters: systems differ in their default, and most let an
/// administrator change it.
fn wanted_v6only(options: &Options, job: &SocketJob) -> Option<bool> {
    let SocketAddr::V6(address) = job.address else { return None };
    let takes_ipv4 = address.ip().is_unspecified() || address.ip().to_ipv4_mapped().is_some();
    options.v6only.or(if job.role == Role::Caller {
        Some(job.v6only)
    } else {
        takes_ipv4.then_some(false)
    })
}
