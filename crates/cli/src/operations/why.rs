//! `why`: whether an address can be bound, the sockets in the way, and the remedies. Binds nothing.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sameport_policy::addr::{AddrSpec, Host};
use sameport_policy::guard::Binder;
use sameport_policy::holder::{Holder, classify_all, time_wait};
use sameport_policy::model::{Address, Member, Protocol, SocketState};
use sameport_policy::predict::{
    BindRequest, ExistingSocket, PortLimits, PredictedRefusal, PredictedResult, Prediction, Remedy,
    SocketUse, existing_sockets, predict, remedies,
};
use sameport_supervisor::control::holder_facts;
use sameport_supervisor::guards;
use sameport_supervisor::guards::record::GuardEntry;
use sameport_sys::inspect;
use sameport_sys::inspect::{SocketQuery, StateFilter};
use sameport_sys::netlink;
use sameport_sys::netlink::TimeWait;
use sameport_sys::netns::local_addresses;
use sameport_sys::socket::resolve_host;
use sameport_sys::systemd;
use sameport_sys::users;
use sameport_sys::{effective_user, process};

use super::runtime_dir::runtime_dir;

/// The options of `why`.
#[derive(Debug, Clone)]
pub(crate) struct WhyRequest {
    pub(crate) address: AddrSpec,
    pub(crate) protocol: Protocol,
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    pub(crate) v6only: bool,
    pub(crate) device: Option<String>,
    /// The owner of the socket, by name or number; `None` for the caller.
    pub(crate) user: Option<String>,
}

/// A socket or connection that uses the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortUser {
    Socket(Box<Member>),
    /// A closed connection in TIME_WAIT.
    TimeWait(TimeWait),
}

/// The answer for one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WhyAnswer {
    pub(crate) request: BindRequest,
    /// The login name of the owner, if there is one.
    pub(crate) user: Option<String>,
    pub(crate) prediction: Prediction,
    /// The sockets on the port, in the order of the prediction's indices.
    pub(crate) sockets: Vec<PortUser>,
    /// Their holders, in the same order.
    pub(crate) holders: Vec<Holder>,
    /// The user who asks, and who follows the remedies.
    pub(crate) caller: u32,
    /// The facts about these sockets, read or inferred, in the same order.
    pub(crate) known: Vec<ExistingSocket>,
    /// The guard that refuses the bind.
    pub(crate) guard: Option<GuardEntry>,
    /// The remedies, where the address cannot be bound, or perhaps not.
    pub(crate) remedies: Vec<Remedy>,
    /// Where a privilege is missing: the prediction for a user with it, if the sockets prevent the bind even
    /// then, and the remedies.
    pub(crate) privileged: Option<(Prediction, Vec<Remedy>)>,
    /// The listeners on the same port of the address that clients of the same name use as well, such as [::1]
    /// beside 127.0.0.1: indices of `sockets`.
    pub(crate) siblings: Vec<usize>,
    /// Whether systemd runs here (sd_booted(3)).
    pub(crate) has_systemd: bool,
    /// Whether the kernel lists bound sockets that do not listen (Linux 6.8).
    pub(crate) bound_seen: bool,
}

impl WhyAnswer {
    /// Whether the address can be bound; `None` where that depends on hidden facts.
    pub(crate) fn granted(&self) -> Option<bool> {
        match self.prediction.result {
            _ if self.guard.is_some() => Some(false),
            PredictedResult::Granted => Some(true),
            PredictedResult::Refused(_) => Some(false),
            PredictedResult::Uncertain(_) => None,
        }
    }
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The user database has no such user.
    NoUser(String),
    /// Only root can ask for another user.
    OtherUser(String),
    /// `IPV6_V6ONLY` with an IPv4 address.
    V6onlyOfIpv4(IpAddr),
    /// This kernel cannot list sockets.
    Machine(String),
    /// The kernel could list them, and failed.
    Look(String),
}

/// One answer for each address of the name.
///
/// # Errors
///
/// [`Error`].
pub(crate) fn ask(request: &WhyRequest) -> Result<Vec<WhyAnswer>, Error> {
    let uid = request.user.as_deref().map_or(Ok(effective_user()), user_id)?;
    let ips = ips(&request.address)?;
    if let Some(ip) = ips.iter().find(|ip| request.v6only && ip.is_ipv4()) {
        return Err(Error::V6onlyOfIpv4(*ip));
    }
    let request = &WhyRequest { device: device(request), ..request.clone() };
    let query =
        SocketQuery::only(request.protocol).on(request.address.port).in_states(StateFilter::Every);
    let snapshot = inspect::list_sockets(&query.with_details()).map_err(failed)?;
    let closing = match request.protocol {
        Protocol::Tcp => netlink::time_wait_sockets(request.address.port).map_err(failed)?,
        Protocol::Udp => vec![],
    };
    let closed: HashSet<u64> = closing.iter().map(|it| it.cookie).collect();
    let mut members = snapshot.members;
    // A closing connection is in both lists until the other end has closed.
    members.retain(|member| member.socket.inode != 0 || !closed.contains(&member.socket.cookie));
    let others = [existing_sockets(&members), closing.iter().map(other).collect()].concat();
    let runtime = runtime_dir();
    let mut holders = classify_all(&members, &holder_facts(&members, runtime.as_deref(), true));
    holders.extend(closing.iter().map(|_| time_wait(None)));
    let sockets = members.into_iter().map(|member| PortUser::Socket(Box::new(member)));
    let sockets: Vec<PortUser> =
        sockets.chain(closing.into_iter().map(PortUser::TimeWait)).collect();
    let facts = WhyFacts { sockets, others, holders, bound: snapshot.bound };
    ips.into_iter().map(|ip| answer(request, uid, ip, &facts)).collect()
}

/// The requested interface by its name. A listed link-local address has the number of its scope.
fn device(request: &WhyRequest) -> Option<String> {
    let device = request.device.clone()?;
    let named = device.parse().ok().filter(|_| !local_addresses::has_device(&device));
    named.and_then(local_addresses::device_name).or(Some(device))
}

fn user_id(user: &str) -> Result<u32, Error> {
    let known = user.parse().ok().or_else(|| users::user_id(user));
    let uid = known.ok_or_else(|| Error::NoUser(user.to_owned()))?;
    match effective_user() {
        own if own == 0 || own == uid => Ok(uid),
        _ => Err(Error::OtherUser(user.to_owned())),
    }
}

/// The sockets on the port and the facts about them, index by index.
struct WhyFacts {
    sockets: Vec<PortUser>,
    others: Vec<ExistingSocket>,
    holders: Vec<Holder>,
    bound: bool,
}

fn answer(
    request: &WhyRequest,
    uid: u32,
    ip: IpAddr,
    facts: &WhyFacts,
) -> Result<WhyAnswer, Error> {
    let WhyFacts { sockets, others, holders, bound } = facts;
    let wild = ip == Ipv6Addr::UNSPECIFIED;
    let address = Address {
        protocol: request.protocol,
        socket: SocketAddr::new(ip, request.address.port),
        device: request.device.clone(),
        v6only: request.v6only || (wild && local_addresses::v6only_by_default()),
    };
    let WhyRequest { reuse_port, reuse_address, .. } = *request;
    let bind = BindRequest { reuse_port, reuse_address, ..BindRequest::plain(address, uid) };
    let machine = machine(request, uid, ip)?;
    let prediction = predict(&bind, &machine, others);
    let all_remedies = |limits: &PortLimits| {
        let query = SocketQuery::only(request.protocol).in_states(StateFilter::Every);
        let everywhere = inspect::list_without_owners(&query).map_err(failed)?;
        let everywhere: Vec<_> = everywhere.into_iter().map(|socket| socket.address).collect();
        Ok(remedies(&bind, limits, others, &everywhere, &local_addresses::list()))
    };
    let remedies = match prediction.result {
        PredictedResult::Refused(_) | PredictedResult::Uncertain(_) => all_remedies(&machine)?,
        PredictedResult::Granted => vec![],
    };
    let privileged = match prediction.result {
        PredictedResult::Refused(PredictedRefusal::NeedsPrivilege) => {
            let limits = PortLimits { may_bind_low: true, ..machine };
            let prediction = predict(&bind, &limits, others);
            match prediction.result {
                PredictedResult::Refused(_) => {
                    let mut remedies = all_remedies(&limits)?;
                    // The port that is free without the privilege is better.
                    remedies.retain(|remedy| !matches!(remedy, Remedy::OtherPort(_)));
                    Some((prediction, remedies))
                }
                _ => None,
            }
        }
        _ => None,
    };
    let guard = guards::of_port(request.address.port, request.protocol);
    // A process as this one, of the user in question.
    let guard = guard.filter(|guard| {
        let binder = sameport_sys::bpf::guard::binder(std::process::id().cast_signed());
        binder.is_ok_and(|binder| !guard.rule().allows(&Binder { uid, ..binder }))
    });
    Ok(WhyAnswer {
        siblings: siblings(&bind.address, sockets),
        request: bind,
        guard,
        user: users::user_name(uid),
        prediction,
        sockets: sockets.clone(),
        holders: holders.clone(),
        caller: effective_user(),
        known: others.clone(),
        remedies,
        privileged,
        bound_seen: *bound,
        has_systemd: systemd::is_booted(),
    })
}

/// The listeners on the address of the other family that a client reaches by the same name: `localhost` is
/// 127.0.0.1 and [::1], and the name of a machine can have addresses of both families.
fn siblings(address: &Address, sockets: &[PortUser]) -> Vec<usize> {
    let ip: IpAddr = match address.socket.ip() {
        ip if ip == Ipv4Addr::LOCALHOST => Ipv6Addr::LOCALHOST.into(),
        ip if ip == Ipv6Addr::LOCALHOST => Ipv4Addr::LOCALHOST.into(),
        ip if ip == Ipv4Addr::UNSPECIFIED => Ipv6Addr::UNSPECIFIED.into(),
        ip if ip == Ipv6Addr::UNSPECIFIED && address.v6only => Ipv4Addr::UNSPECIFIED.into(),
        _ => return vec![],
    };
    let socket = SocketAddr::new(ip, address.port());
    let sibling = Address { socket, v6only: ip == Ipv6Addr::UNSPECIFIED, ..address.clone() };
    let is_there = |user: &PortUser| match user {
        PortUser::Socket(member) => {
            let theirs = &member.socket.address;
            member.socket.state == SocketState::Waiting
                && theirs.overlaps(&sibling)
                && !theirs.overlaps(address)
        }
        PortUser::TimeWait(_) => false,
    };
    (0..sockets.len()).filter(|index| is_there(&sockets[*index])).collect()
}

/// A port alone is every address of both families, as for most servers.
fn ips(wanted: &AddrSpec) -> Result<Vec<IpAddr>, Error> {
    match &wanted.host {
        Host::Any if local_addresses::has_ipv6() => Ok(vec![Ipv6Addr::UNSPECIFIED.into()]),
        Host::Any => Ok(vec![Ipv4Addr::UNSPECIFIED.into()]),
        Host::Ip(ip) => Ok(vec![*ip]),
        Host::Name(name) => {
            let found = resolve_host(name, wanted.port);
            let found = found.map_err(|source| Error::Name { name: name.clone(), source })?;
            Ok(found.into_iter().map(|address| address.ip()).collect())
        }
    }
}

fn machine(request: &WhyRequest, uid: u32, ip: IpAddr) -> Result<PortLimits, Error> {
    let device = request.device.as_deref();
    let rights = match uid {
        // The capabilities of another user are not known; usually none.
        uid if uid != effective_user() => None,
        _ if local_addresses::owns_netns() => {
            process::thread_rights(std::process::id().cast_signed())
        }
        _ => None,
    };
    let is_local = local_addresses::is_local(ip, device);
    Ok(PortLimits {
        may_bind_low: rights.is_some_and(|rights| rights.bind_low_ports),
        may_be_transparent: rights.is_some_and(|rights| rights.bind_nonlocal),
        unprivileged_port_start: process::first_unprivileged_port(),
        is_local: is_local
            .map_err(|error| Error::Look(format!("cannot tell whether {ip} is local: {error}")))?,
        nonlocal_bind: local_addresses::nonlocal_bind_allowed(ip),
        device_exists: device.is_none_or(local_addresses::has_device),
    })
}

/// The kernel does not report the options of TIME_WAIT.
fn other(left: &TimeWait) -> ExistingSocket {
    ExistingSocket {
        address: left.address.clone(),
        usage: SocketUse::TimeWait,
        uid: 0,
        reuse_port: None,
        reuse_address: None,
    }
}

fn failed(error: inspect::InspectError) -> Error {
    match error {
        inspect::InspectError::Unsupported { .. } => Error::Machine(error.to_string()),
        _ => Error::Look(error.to_string()),
    }
}
