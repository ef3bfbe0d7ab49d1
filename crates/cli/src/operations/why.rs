//! `why`: whether an address can be bound, the sockets in the way, and the remedies. Binds nothing.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sameport_policy::addr::{AddrSpec, Host};
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::model::name::RunName;
use sameport_policy::model::{Address, Member, Process, Protocol};
use sameport_policy::predict::{
    BindRequest, ExistingSocket, PortLimits, PredictedResult, Prediction, Remedy, SocketUse,
    existing_sockets, predict, remedies,
};
use sameport_sys::inspect;
use sameport_sys::inspect::{SocketQuery, StateFilter};
use sameport_sys::netlink;
use sameport_sys::netlink::TimeWait;
use sameport_sys::netns::local_addresses;
use sameport_sys::socket::resolve_host;
use sameport_sys::users;
use sameport_sys::{effective_user, process};

use super::guard::of_port as guarded;
use super::guard::record::GuardEntry;

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
    /// The named runs with sockets on the port, by the pid of their supervisor.
    pub(crate) runs: BTreeMap<i32, RunName>,
    /// The facts about these sockets, read or inferred, in the same order.
    pub(crate) known: Vec<ExistingSocket>,
    /// The guard that refuses the bind.
    pub(crate) guard: Option<GuardEntry>,
    /// The remedies, where the address cannot be bound.
    pub(crate) remedies: Vec<Remedy>,
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

impl WhyAnswer {
    /// The processes that serve a socket, without the supervisor of a named run, which only holds it.
    pub(crate) fn servers<'a>(&self, member: &'a Member) -> Vec<&'a Process> {
        let is_supervisor = |process: &&Process| self.runs.contains_key(&process.pid);
        let servers: Vec<_> = member.processes.iter().filter(|it| !is_supervisor(it)).collect();
        if servers.is_empty() { member.processes.iter().collect() } else { servers }
    }

    /// The named run of this socket.
    pub(crate) fn run(&self, member: &Member) -> Option<&RunName> {
        member.processes.iter().find_map(|process| self.runs.get(&process.pid))
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
    let time_wait = match request.protocol {
        Protocol::Tcp => netlink::time_wait_sockets(request.address.port).map_err(failed)?,
        Protocol::Udp => vec![],
    };
    let closed: HashSet<u64> = time_wait.iter().map(|it| it.cookie).collect();
    let mut members = snapshot.members;
    // A closing connection is in both lists until the other end has closed.
    members.retain(|member| member.socket.inode != 0 || !closed.contains(&member.socket.cookie));
    let others = [existing_sockets(&members), time_wait.iter().map(other).collect()].concat();
    let sockets = members.into_iter().map(|member| PortUser::Socket(Box::new(member)));
    let sockets: Vec<PortUser> =
        sockets.chain(time_wait.into_iter().map(PortUser::TimeWait)).collect();
    let runs = named_runs(&sockets);
    let facts = WhyFacts { sockets, others, runs, bound: snapshot.bound };
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
    runs: BTreeMap<i32, RunName>,
    bound: bool,
}

/// The named runs whose supervisor has a socket on the port open.
fn named_runs(port_users: &[PortUser]) -> BTreeMap<i32, RunName> {
    let members = port_users.iter().filter_map(|user| match user {
        PortUser::Socket(member) => Some(member),
        PortUser::TimeWait(_) => None,
    });
    let processes = members.flat_map(|member| &member.processes);
    let named = processes.filter_map(|process| {
        let command = &process.details.as_ref()?.command;
        let words: Vec<OsString> = command.iter().map(OsString::from).collect();
        let is_ours = process.program == sameport_supervisor::PROGRAM;
        let name = is_ours.then(|| RunLine::read(&words)).flatten()?.name?;
        Some((process.pid, name))
    });
    named.collect()
}

fn answer(
    request: &WhyRequest,
    uid: u32,
    ip: IpAddr,
    facts: &WhyFacts,
) -> Result<WhyAnswer, Error> {
    let WhyFacts { sockets, others, runs, bound } = facts;
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
    let remedies = match prediction.result {
        PredictedResult::Refused(_) => {
            let query = SocketQuery::only(request.protocol).in_states(StateFilter::Every);
            let everywhere = inspect::list_without_owners(&query).map_err(failed)?;
            let everywhere: Vec<_> = everywhere.into_iter().map(|socket| socket.address).collect();
            remedies(&bind, &machine, others, &everywhere)
        }
        PredictedResult::Granted | PredictedResult::Uncertain(_) => vec![],
    };
    let guard = guarded(request.address.port, request.protocol, uid);
    let guard = guard.filter(|guard| !guard.admits).map(|guard| guard.entry);
    Ok(WhyAnswer {
        request: bind,
        guard,
        user: users::user_name(uid),
        prediction,
        sockets: sockets.clone(),
        runs: runs.clone(),
        known: others.clone(),
        remedies,
        bound_seen: *bound,
    })
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
