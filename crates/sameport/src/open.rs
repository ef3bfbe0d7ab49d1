//! Opens sockets: checks the options, creates the socket, sets the options, binds, listens.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockRef, Socket, Type};

use crate::endpoint::{ResolvedAddr, wildcards};
use crate::error::{Error, Result, kind_of};
use crate::error_kind::ErrorKind;
use crate::options::Options;
use crate::socket_job::{FailedCall, Role, SocketJob};
use crate::support::{DualStack, Sharing};
use crate::system::{Here, System};
use crate::targets::{self, Target, WithoutIpv6};

/// Ports to try on port 0 when the port of the first address is in use on the next one.
const PORT_ATTEMPTS: usize = 16;

/// The socket to open for these options and address.
pub(crate) fn job(options: &Options, role: Role, address: SocketAddr) -> SocketJob {
    let v6only = address.is_ipv6() && options.v6only.unwrap_or(false);
    SocketJob { role, tcp: role == Role::Listener, address, v6only }
}

/// Opens the first possible address of an endpoint.
pub(crate) fn first(options: &Options, role: Role, resolved: &[ResolvedAddr]) -> Result<Socket> {
    first_by(options, role, resolved, open)
}

/// Binds the first possible address of an endpoint; [`start`] is the rest.
pub(crate) fn bind_first(
    options: &Options,
    role: Role,
    resolved: &[ResolvedAddr],
) -> Result<Socket> {
    first_by(options, role, resolved, bound)
}

fn first_by(
    options: &Options,
    role: Role,
    resolved: &[ResolvedAddr],
    open: impl Fn(&Options, &SocketJob) -> Result<Socket>,
) -> Result<Socket> {
    let mut last = None;
    for target in targets::first_of(options, resolved) {
        match open_target(options, role, target, &open) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::BadAddress, "open", "no address")))
}

/// Opens all addresses of an endpoint, or none.
pub(crate) fn all(options: &Options, role: Role, resolved: &[ResolvedAddr]) -> Result<Vec<Socket>> {
    let targets = targets::all_of(options, resolved, Here::support().dual_stack);
    if let Some((first, second)) = targets::overlapping(&targets).filter(|_| !options.shared) {
        return Err(Error::new(ErrorKind::BadAddress, "open", second)
            .with_note(format!("overlaps {first}, which exclusive sockets cannot")));
    }
    let chosen = targets.iter().filter(|target| target.address.port() == 0).count();
    if chosen < 2 {
        return each(options, role, &targets).map_err(|(error, _)| error);
    }
    // The port of the first address can be in use on the next one. The sockets of each attempt stay
    // open until the end, so that the system chooses another port each time.
    let mut attempts = Vec::new();
    loop {
        match each(options, role, &targets) {
            Ok(sockets) => return Ok(sockets),
            Err((error, opened)) => {
                let in_use =
                    matches!(error.kind(), ErrorKind::InUse | ErrorKind::InUseByAnotherUser);
                attempts.push(opened);
                if !in_use || attempts.len() == PORT_ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
}

/// Opens each of the addresses; those with port 0 get the same port. The error contains the sockets
/// opened before the failed one.
fn each(
    options: &Options,
    role: Role,
    targets: &[Target],
) -> std::result::Result<Vec<Socket>, (Error, Vec<Socket>)> {
    // The port that the system chose for port 0.
    let mut chosen = None;
    let mut sockets = Vec::new();
    let mut absent = None;
    for (index, target) in targets.iter().enumerate() {
        // An address that contains one of ours, or is within it, is vacant like that one.
        let is_ours = targets[..index].iter().any(|ours| ours.overlaps(target));
        let mut target = *target;
        let any_port = target.address.port() == 0;
        let mut vacant = Ok(());
        if let Some(port) = chosen.filter(|_| any_port) {
            // The system chose a free port on the first address. On the others, a shared bind could
            // join an existing group.
            target.address.set_port(port);
            if !is_ours {
                vacant = check_vacant(options, role, target);
            }
        }
        let opened = vacant.and_then(|()| open_target(options, role, target, open));
        match opened.and_then(|socket| Ok((local_addr(&socket, target.address)?.port(), socket))) {
            Ok((got, socket)) => {
                if any_port {
                    chosen = Some(got);
                }
                sockets.push(socket);
            }
            Err(error)
                if target.without_ipv6 == WithoutIpv6::Omit
                    && target.address.is_ipv6()
                    && may_lack_ipv6(&error)
                    && lacks_ipv6() =>
            {
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

/// Opens one address of an endpoint.
fn open_target(
    options: &Options,
    role: Role,
    target: Target,
    open: impl Fn(&Options, &SocketJob) -> Result<Socket>,
) -> Result<Socket> {
    let with = Options { v6only: target.v6only, ..options.clone() };
    match open(&with, &job(&with, role, target.address)) {
        // The IPv4 wildcard address is for machines without IPv6, not for other errors.
        Err(error) if target.without_ipv6 == WithoutIpv6::Ipv4 && may_lack_ipv6(&error) => {
            let [_, ipv4] = wildcards(target.address.port());
            let with = Options { v6only: None, ..with };
            open(&with, &job(&with, role, ipv4))
        }
        result => result,
    }
}

/// Fails if any socket has the address, even a shared one: binds an exclusive socket to it.
fn check_vacant(options: &Options, role: Role, target: Target) -> Result<()> {
    let v6only = target.v6only;
    let exclusive = Options { shared: false, balanced: false, v6only, ..options.clone() };
    let job = job(&exclusive, role, target.address);
    let probe = create(&job)?;
    set_options(&exclusive, &SockRef::from(&probe), &job)?;
    bind(&exclusive, &probe, &job)
}

pub(crate) fn local_addr(socket: &Socket, address: impl Display) -> Result<SocketAddr> {
    let failed = |os| Error::os("getsockname", &address, os);
    socket
        .local_addr()
        .map_err(failed)?
        .as_socket()
        .ok_or_else(|| failed(io::ErrorKind::Other.into()))
}

/// Whether an error on an IPv6 address can mean that the machine has no IPv6.
fn may_lack_ipv6(error: &Error) -> bool {
    matches!(
        (error.call(), error.kind()),
        ("socket", ErrorKind::Unsupported) | ("bind", ErrorKind::AddressNotHere)
    )
}

/// Whether the machine has no IPv6: the IPv6 loopback address cannot be bound.
fn lacks_ipv6() -> bool {
    let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let result =
        Socket::new(Domain::IPV6, Type::DGRAM, None).and_then(|s| s.bind(&loopback.into()));
    result.is_err_and(|error| {
        matches!(kind_of(&error), ErrorKind::Unsupported | ErrorKind::AddressNotHere)
    })
}

/// Opens one socket. The options are set before `bind`, and a listener listens at once, so that no
/// other socket can be bound in between.
fn open(options: &Options, job: &SocketJob) -> Result<Socket> {
    let socket = bound(options, job)?;
    start(options, &socket, job)?;
    Ok(socket)
}

/// Creates and binds one socket, which does not listen yet.
pub(crate) fn bound(options: &Options, job: &SocketJob) -> Result<Socket> {
    check(options, job)?;
    let socket = create(job)?;
    set_options(options, &SockRef::from(&socket), job)?;
    if job.role == Role::Listener && !options.shared {
        Here::bind_exclusive(&socket, job).map_err(|os| bind_error(job, os))?;
    } else {
        bind(options, &socket, job)?;
    }
    Ok(socket)
}

/// Listens, if the socket is a listener, and sets the blocking mode.
pub(crate) fn start(options: &Options, socket: &Socket, job: &SocketJob) -> Result<()> {
    let address = job.address;
    if job.role == Role::Listener {
        let listened = match options.shared {
            true => socket.listen(options.backlog).map_err(FailedCall::of("listen")),
            false => Here::listen_exclusive(socket, job, options.backlog),
        };
        listened.map_err(|failed| listen_error(job, failed))?;
    }
    if options.nonblocking {
        socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", address, os))?;
    }
    Ok(())
}

pub(crate) fn create(job: &SocketJob) -> Result<Socket> {
    let r#type = if job.tcp { Type::STREAM } else { Type::DGRAM };
    Socket::new(Domain::for_address(job.address), r#type, None)
        .map_err(|os| Error::os("socket", job.address, os))
}

pub(crate) fn bind(options: &Options, socket: &Socket, job: &SocketJob) -> Result<()> {
    let address = job.address;
    socket.bind(&address.into()).map_err(|os| bind_error(job, os))?;
    if options.shared && Here::shares_after_bind(job) {
        Here::set_shared(&SockRef::from(socket), job)
            .map_err(|os| Error::os("setsockopt(sharing)", address, os))?;
    }
    Ok(())
}

pub(crate) fn bind_error(job: &SocketJob, os: io::Error) -> Error {
    let address = job.address;
    if address.port() == 0 && kind_of(&os) == ErrorKind::InUse {
        // All ports of the range are in use.
        return Error::os("bind", address, os)
            .with_kind(ErrorKind::Other)
            .with_note("no port is left in the range that the system picks from");
    }
    let refusal = Here::explain(kind_of(&os), job);
    Error::refused("bind", address, os, refusal)
}

/// The error of a call that makes a socket a listener.
fn listen_error(job: &SocketJob, failed: FailedCall) -> Error {
    let FailedCall { call, os, refusal } = failed;
    let refusal = refusal.unwrap_or_else(|| Here::explain(kind_of(&os), job));
    Error::refused(call, job.address, os, refusal)
}

/// Rejects contradictory and unsupported options.
pub(crate) fn check(options: &Options, job: &SocketJob) -> Result<()> {
    let reject = |kind, note| Err(Error::new(kind, "open", job.address).with_note(note));
    if options.v6only.is_some() && job.address.is_ipv4() {
        return reject(ErrorKind::BadAddress, "v6only is for IPv6 addresses");
    }
    // The longest device name of any system has 31 bytes; Linux and macOS allow 15.
    let is_name = |name: &str| (1..=31).contains(&name.len()) && !name.contains('\0');
    if options.device.as_deref().is_some_and(|name| !is_name(name)) {
        return reject(ErrorKind::BadAddress, "a device name has 1 to 31 bytes, and no NUL");
    }
    if !options.balanced && !job.is_dual_stack() {
        return Ok(());
    }
    let support = Here::support();
    if job.is_dual_stack() && support.dual_stack == DualStack::TwoSockets {
        return reject(
            ErrorKind::Unsupported,
            "no socket takes IPv4 and IPv6 on this system: use listen_all, or v6only",
        );
    }
    if options.balanced {
        if !options.shared {
            return reject(ErrorKind::BadAddress, "an exclusive socket has nothing to balance");
        }
        if support.sharing != Sharing::Balanced {
            return reject(ErrorKind::Unsupported, "sharing is not balanced on this system");
        }
        if job.is_dual_stack() && support.dual_stack == DualStack::OneSocketNotBalanced {
            return reject(
                ErrorKind::Unsupported,
                "a socket for IPv4 and IPv6 is not balanced on this system: use listen_all",
            );
        }
    }
    Ok(())
}

/// Sets the options that must be set before `bind`.
pub(crate) fn set_options(options: &Options, socket: &SockRef<'_>, job: &SocketJob) -> Result<()> {
    let (address, ipv6) = (job.address, job.address.is_ipv6());
    let failed = |call| move |os| Error::os(call, address, os);
    if let Some(only) = v6only_value(options, job) {
        // Only if the value differs: on a bound socket, setting even the same value fails.
        if socket.only_v6().map_err(failed("getsockopt(v6only)"))? != only {
            socket.set_only_v6(only).map_err(failed("setsockopt(v6only)"))?;
        }
    }
    if let Some(name) = &options.device {
        Here::set_device(socket, name, ipv6).map_err(|os| {
            let error = Error::os("setsockopt(device)", address, os);
            match error.kind() {
                ErrorKind::NotPermitted | ErrorKind::Unsupported => error,
                _ => error
                    .with_kind(ErrorKind::AddressNotHere)
                    .with_note(format!("no device {name:?}")),
            }
        })?;
    }
    if options.transparent {
        Here::set_transparent(socket, ipv6).map_err(failed("setsockopt(transparent)"))?;
    }
    if options.freebind {
        Here::set_freebind(socket, ipv6).map_err(failed("setsockopt(freebind)"))?;
    }
    if options.shared && !Here::shares_after_bind(job) {
        Here::set_shared(socket, job).map_err(failed("setsockopt(sharing)"))
    } else {
        Here::set_exclusive(socket, job).map_err(failed("setsockopt(exclusive)"))
    }
}

/// The value of `IPV6_V6ONLY`, where it matters. It is set explicitly because the defaults of systems
/// differ, and an administrator can change most of them.
fn v6only_value(options: &Options, job: &SocketJob) -> Option<bool> {
    let SocketAddr::V6(address) = job.address else { return None };
    let includes_ipv4 = address.ip().is_unspecified() || is_mapped(job.address);
    options.v6only.or(if job.role == Role::Client {
        Some(job.v6only)
    } else {
        includes_ipv4.then_some(false)
    })
}

/// Whether an address is an IPv4 one in the form of IPv6 (`::ffff:127.0.0.1`).
pub(crate) fn is_mapped(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}
