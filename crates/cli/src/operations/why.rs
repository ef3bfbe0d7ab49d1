//! Whether an address could be bound, by whom it is held, and what would work. Looks and decides;
//! binds nothing.

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

/// What somebody would like to bind.
#[derive(Debug, Clone)]
pub(crate) struct WhyRequest {
    pub(crate) address: AddrSpec,
    pub(crate) protocol: Protocol,
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    pub(crate) v6only: bool,
    pub(crate) device: Option<String>,
    /// Whose socket it would be, by name or number; `None` for the caller's.
    pub(crate) user: Option<String>,
}

/// Something that is on the port already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresentSocket {
    Socket(Box<Member>),
    /// What is left of a connection.
    Left(TimeWait),
}

/// What was found out about one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WhyAnswer {
    pub(crate) wish: BindRequest,
    /// The login name of the user who wishes, if there is one.
    pub(crate) user: Option<String>,
    pub(crate) prediction: Prediction,
    /// What is on the port, in the order of the prediction's indices.
    pub(crate) there: Vec<PresentSocket>,
    /// The named runs that have some of it, by the pid of their supervisor.
    pub(crate) runs: BTreeMap<i32, RunName>,
    /// What is known of it, read or inferred, in the same order.
    pub(crate) known: Vec<ExistingSocket>,
    /// The guard that would refuse it before the kernel looked at anything else.
    pub(crate) guard: Option<GuardEntry>,
    /// What would work, where it cannot be bound as it was wished.
    pub(crate) remedies: Vec<Remedy>,
    /// Whether sockets that are bound and do nothing else could be seen: not before Linux 6.8.
    pub(crate) bound_seen: bool,
}

impl WhyAnswer {
    /// Whether it can be bound; `None` where that depends on what cannot be seen.
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
    /// The processes that serve a socket: not the supervisor of a named run, which only keeps it.
    pub(crate) fn servers<'a>(&self, member: &'a Member) -> Vec<&'a Process> {
        let is_supervisor = |process: &&Process| self.runs.contains_key(&process.pid);
        let servers: Vec<_> = member.processes.iter().filter(|it| !is_supervisor(it)).collect();
        if servers.is_empty() { member.processes.iter().collect() } else { servers }
    }

    /// The named run that has this socket.
    pub(crate) fn run(&self, member: &Member) -> Option<&RunName> {
        member.processes.iter().find_map(|process| self.runs.get(&process.pid))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The user database does not know this one.
    NoUser(String),
    /// Only root can ask for this one.
    OtherUser(String),
    /// `IPV6_V6ONLY` and an address that is IPv4.
    V6onlyOfIpv4(IpAddr),
    /// This kernel does not tell.
    Machine(String),
    /// It could tell, and did not.
    Look(String),
}

/// One answer an address: a name can have several.
///
/// # Errors
///
/// [`Error`].
pub(crate) fn ask(request: &WhyRequest) -> Result<Vec<WhyAnswer>, Error> {
    let uid = request.user.as_deref().map_or(Ok(effective_user()), whose)?;
    let ips = ips(&request.address)?;
    if let Some(ip) = ips.iter().find(|ip| request.v6only && ip.is_ipv4()) {
        return Err(Error::V6onlyOfIpv4(*ip));
    }
    let query =
        SocketQuery::only(request.protocol).on(request.address.port).in_states(StateFilter::Every);
    let seen = inspect::list_sockets(&query.with_details()).map_err(failed)?;
    let left = match request.protocol {
        Protocol::Tcp => netlink::time_wait_sockets(request.address.port).map_err(failed)?,
        Protocol::Udp => vec![],
    };
    let gone: HashSet<u64> = left.iter().map(|left| left.cookie).collect();
    let mut members = seen.members;
    // What is left of a connection is in both lists until the other end has closed.
    members.retain(|member| member.socket.inode != 0 || !gone.contains(&member.socket.cookie));
    let others = [existing_sockets(&members), left.iter().map(other).collect()].concat();
    let sockets = members.into_iter().map(|member| PresentSocket::Socket(Box::new(member)));
    let there: Vec<PresentSocket> =
        sockets.chain(left.into_iter().map(PresentSocket::Left)).collect();
    let runs = named_runs(&there);
    let scene = WhyFacts { there, others, runs, bound: seen.bound };
    ips.into_iter().map(|ip| answer(request, uid, ip, &scene)).collect()
}

fn whose(user: &str) -> Result<u32, Error> {
    let known = user.parse().ok().or_else(|| users::user_id(user));
    let uid = known.ok_or_else(|| Error::NoUser(user.to_owned()))?;
    match effective_user() {
        own if own == 0 || own == uid => Ok(uid),
        _ => Err(Error::OtherUser(user.to_owned())),
    }
}

/// What was seen, and what is known of it, index by index.
struct WhyFacts {
    there: Vec<PresentSocket>,
    others: Vec<ExistingSocket>,
    runs: BTreeMap<i32, RunName>,
    bound: bool,
}

/// A supervisor has the listening sockets of its workers open, too.
fn named_runs(there: &[PresentSocket]) -> BTreeMap<i32, RunName> {
    let members = there.iter().filter_map(|there| match there {
        PresentSocket::Socket(member) => Some(member),
        PresentSocket::Left(_) => None,
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
    scene: &WhyFacts,
) -> Result<WhyAnswer, Error> {
    let WhyFacts { there, others, runs, bound } = scene;
    let wild = ip == Ipv6Addr::UNSPECIFIED;
    let address = Address {
        protocol: request.protocol,
        socket: SocketAddr::new(ip, request.address.port),
        device: request.device.clone(),
        v6only: request.v6only || (wild && local_addresses::v6only_by_default()),
    };
    let WhyRequest { reuse_port, reuse_address, .. } = *request;
    let wish = BindRequest { reuse_port, reuse_address, ..BindRequest::plain(address, uid) };
    let machine = machine(request, uid, ip)?;
    let prediction = predict(&wish, &machine, others);
    let remedies = match prediction.result {
        PredictedResult::Refused(_) => {
            let query = SocketQuery::only(request.protocol).in_states(StateFilter::Every);
            let everywhere = inspect::list_without_owners(&query).map_err(failed)?;
            let everywhere: Vec<_> = everywhere.into_iter().map(|socket| socket.address).collect();
            remedies(&wish, &machine, others, &everywhere)
        }
        PredictedResult::Granted | PredictedResult::Uncertain(_) => vec![],
    };
    let guard = guarded(request.address.port, request.protocol, uid);
    let guard = guard.filter(|guard| !guard.admits).map(|guard| guard.entry);
    Ok(WhyAnswer {
        wish,
        guard,
        user: users::user_name(uid),
        prediction,
        there: there.clone(),
        runs: runs.clone(),
        known: others.clone(),
        remedies,
        bound_seen: *bound,
    })
}

/// As a server that was told no more than the port: every address, of both families.
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
        // Of another user, what it may do is not known; as a rule nothing.
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

/// The kernel keeps its options, and tells them to nobody.
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
