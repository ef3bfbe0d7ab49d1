//! `ls`: the sockets on ports and their processes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sameport_policy::addr::{Host, PortSpec};
use sameport_policy::holder::{Holder, HolderFacts, classify, needs_facts};
use sameport_policy::model::group_by_address;
use sameport_policy::model::netns::NetnsSpec;
use sameport_policy::model::{Address, Group, Member, Process, SocketState};
#[cfg(target_os = "linux")]
use sameport_sys::netns::local_addresses::device_index;
#[cfg(target_os = "linux")]
use sameport_sys::socket::resolve_host;

/// The options of `ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListRequest {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    /// Only the sockets on this port, or those that take traffic for this address.
    pub(crate) on: Option<PortSpec>,
    /// Connected sockets too.
    pub(crate) all: bool,
    /// With the details of the processes.
    pub(crate) details: bool,
    /// The network namespace; the caller's own if `None`.
    pub(crate) network: Option<NetnsSpec>,
}

/// The sockets at a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) groups: Vec<Group>,
    /// Whether no process was hidden from the caller.
    pub(crate) complete: bool,
    /// Whether the kernel lists bound sockets that do not listen.
    pub(crate) bound: bool,
    /// Whether a BPF iterator found the processes, not a scan of /proc.
    pub(crate) iterated: bool,
    /// The reason why a listed socket has no visible process, if there is one.
    pub(crate) nameless: Option<Nameless>,
    /// Whether an unlisted connection uses the requested port as its local port.
    pub(crate) connected: bool,
    /// For each cgroup id, the paths of the attachments that apply there; `None` where they cannot
    /// be read.
    pub(crate) attached: Option<BTreeMap<u64, Vec<PathBuf>>>,
    /// The facts about the holders: with `details` of all, else of those whose class is seldom a plain program.
    pub(crate) facts: HolderFacts,
    /// The time of the listing, since 1970.
    pub(crate) at: Duration,
}

impl Listing {
    /// The cgroups with an attachment that contain this socket.
    pub(crate) fn attached_to(&self, member: &Member) -> Option<&[PathBuf]> {
        let attached = self.attached.as_ref()?;
        if attached.is_empty() {
            return Some(&[]);
        }
        Some(attached.get(&member.socket.cgroup?).map_or(&[], Vec::as_slice))
    }

    /// The holder of a socket; `None` if no facts about it were collected.
    pub(crate) fn holder(&self, member: &Member) -> Option<Holder> {
        let is_known = |process: &Process| self.facts.processes.contains_key(&process.pid);
        if !member.processes.iter().any(is_known) {
            return None;
        }
        let key = |address: &Address| (address.protocol, address.port());
        let own = key(&member.socket.address);
        let first = self.groups.partition_point(|group| key(&group.address) < own);
        let on_port = self.groups[first..].iter().take_while(|group| key(&group.address) == own);
        // The class of a connection alone depends on other sockets.
        let is_connection = member.socket.state == SocketState::Connected;
        let on_port = on_port.filter(|_| is_connection).flat_map(|group| &group.members);
        let on_port: Vec<&Member> = on_port.collect();
        Some(classify(member, &on_port, &self.facts))
    }

    /// Every socket, in the order of the groups.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.members)
    }
}

/// The reason why a socket is listed without a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nameless {
    /// Its processes belong to another user.
    OtherUser,
    /// The processes are in another pid namespace, or the socket has no process.
    EvenForRoot,
}

/// The reason why the sockets could not be listed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The network namespace does not exist.
    Network(String),
    /// The network namespace may not be entered.
    NotPermitted(String),
    /// This system cannot list sockets.
    Machine(String),
    /// The system could list them, and failed.
    Look(String),
}

/// The ports that sockets listen on, in order; empty if they cannot be listed.
#[cfg(target_os = "linux")]
pub(crate) fn listening_ports() -> std::collections::BTreeSet<u16> {
    use sameport_sys::inspect::{SocketQuery, list_without_owners};

    let sockets = list_without_owners(&SocketQuery::everything()).unwrap_or_default();
    sockets.iter().map(|socket| socket.address.port()).filter(|port| *port != 0).collect()
}

/// Lists the sockets and groups them by address.
///
/// # Errors
///
/// When a name does not resolve, or the sockets cannot be listed.
pub(crate) fn list(request: &ListRequest) -> Result<Listing, Error> {
    let ips = request.on.as_ref().map_or(Ok(None), ips)?;
    list_on(request, ips.as_deref())
}

/// Lists the sockets at most once a second and at most half of the time, and passes each listing to
/// `print`, until that fails or the reader has gone. `is_unread` waits this long, or until the reader has
/// gone.
///
/// # Errors
///
/// Those of [`list`]: a network namespace may vanish meanwhile. Inside, those of `print`.
pub(crate) fn watch(
    request: &ListRequest,
    mut print: impl FnMut(Listing) -> io::Result<()>,
    is_unread: impl Fn(Duration) -> bool,
) -> Result<io::Result<()>, Error> {
    const LEAST: Duration = Duration::from_secs(1);
    let ips = request.on.as_ref().map_or(Ok(None), ips)?;
    let mut was_listed = false;
    loop {
        let begun = std::time::Instant::now();
        let listing = list_on(request, ips.as_deref()).map_err(|error| match error {
            Error::Network(why) if was_listed => Error::Look(why),
            error => error,
        })?;
        was_listed = true;
        let pause = LEAST.max(begun.elapsed());
        if let Err(error) = print(listing) {
            return Ok(Err(error));
        }
        if is_unread(pause) {
            return Ok(Ok(()));
        }
    }
}

fn list_on(request: &ListRequest, ips: Option<&[IpAddr]>) -> Result<Listing, Error> {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let Inspection { members, complete, bound, iterated } = look(request, request.all)?;
    let mut groups = group_by_address(members);
    let port = request.on.as_ref().map(|wanted| wanted.addr.port);
    let device = request.on.as_ref().and_then(|wanted| wanted.device.as_deref());
    let is_asked_for = |address: &Address| {
        let has_ip = match (ips, port) {
            (Some(ips), Some(port)) => {
                ips.iter().any(|ip| takes(address, SocketAddr::new(*ip, port)))
            }
            _ => true,
        };
        has_ip && device.is_none_or(|device| is_on(address, device))
    };
    groups.retain(|group| is_asked_for(&group.address));
    let connected = groups.is_empty()
        && port.is_some()
        && !request.all
        && look(request, true)?.members.iter().any(|it| {
            it.socket.state == SocketState::Connected && is_asked_for(&it.socket.address)
        });
    // Inode 0: the kernel finishes a connection without a process.
    let nameless = groups
        .iter()
        .flat_map(|group| &group.members)
        .any(|m| m.processes.is_empty() && m.socket.inode != 0);
    let reason = if is_root() { Nameless::EvenForRoot } else { Nameless::OtherUser };
    let nameless = nameless.then_some(reason);
    let attached = attached();
    let facts = holder_facts(&groups, request.details);
    Ok(Listing { groups, complete, bound, iterated, nameless, connected, attached, facts, at })
}

/// Whether a packet to this address can be for the other.
fn takes(theirs: &Address, address: SocketAddr) -> bool {
    theirs.overlaps(&Address::new(theirs.protocol, address))
}

/// Whether the socket can receive packets of this interface. `device` is its name, or, for a
/// link-local address, the number of the scope.
fn is_on(address: &Address, device: &str) -> bool {
    match (&address.device, address.socket) {
        (Some(own), _) if own == device => true,
        (None, SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
            v6.scope_id().to_string() == device || device_index(device) == Some(v6.scope_id())
        }
        (None, _) => true,
        (Some(_), SocketAddr::V6(v6)) => v6.scope_id() != 0 && v6.scope_id().to_string() == device,
        (Some(_), SocketAddr::V4(_)) => false,
    }
}

/// The IP addresses to compare; `None` for all.
fn ips(wanted: &PortSpec) -> Result<Option<Vec<IpAddr>>, Error> {
    match &wanted.addr.host {
        Host::Any => Ok(None),
        Host::Ip(ip) => Ok(Some(vec![*ip])),
        Host::Name(name) => resolve_host(name, wanted.addr.port)
            .map(|addresses| Some(addresses.into_iter().map(|address| address.ip()).collect()))
            .map_err(|source| Error::Name { name: name.clone(), source }),
    }
}

/// The sockets as the system lists them.
struct Inspection {
    members: Vec<Member>,
    complete: bool,
    bound: bool,
    iterated: bool,
}

#[cfg(target_os = "linux")]
fn look(request: &ListRequest, connected: bool) -> Result<Inspection, Error> {
    use sameport_sys::inspect;
    use sameport_sys::inspect::{Snapshot, SocketQuery, StateFilter};
    use sameport_sys::netns;
    use sameport_sys::netns::NetnsError;
    let query = SocketQuery {
        tcp: request.tcp,
        udp: request.udp,
        port: request.on.as_ref().map(|wanted| wanted.addr.port),
        states: if connected { StateFilter::Every } else { StateFilter::Unconnected },
        details: request.details,
        cgroups: true,
    };
    let seen = match &request.network {
        None => inspect::list_sockets(&query),
        Some(network) => netns::run_in(network, || inspect::list_sockets(&query)).map_err(
            |error| match error {
                NetnsError::NotPermitted(..) => Error::NotPermitted(error.to_string()),
                NetnsError::System(..) => Error::Look(error.to_string()),
                _ => Error::Network(error.to_string()),
            },
        )?,
    };
    match seen {
        Ok(Snapshot { members, complete, bound, iterated }) => {
            Ok(Inspection { members, complete, bound, iterated })
        }
        Err(error @ inspect::InspectError::Unsupported { .. }) => {
            Err(Error::Machine(error.to_string()))
        }
        Err(error) => Err(Error::Look(error.to_string())),
    }
}

/// With `details`, the facts about all holders and their units. Otherwise those about holders whose name does not
/// suffice: each process costs about 30 µs, and as much for each ancestor.
#[cfg(target_os = "linux")]
fn holder_facts(groups: &[Group], details: bool) -> HolderFacts {
    let members = groups.iter().flat_map(|group| &group.members);
    let members = members.filter(|member| details || needs_facts(member));
    if members.clone().next().is_none() {
        return HolderFacts::default();
    }
    let runtime = super::runtime_dir::runtime_dir();
    sameport_supervisor::control::holder_facts(members, runtime.as_deref(), details)
}

#[cfg(not(target_os = "linux"))]
fn holder_facts(_groups: &[Group], _details: bool) -> HolderFacts {
    HolderFacts::default()
}

#[cfg(target_os = "linux")]
fn attached() -> Option<BTreeMap<u64, Vec<PathBuf>>> {
    sameport_sys::bpf::cgroup_bind::cgroups_in_effect().ok()
}

#[cfg(not(target_os = "linux"))]
fn attached() -> Option<BTreeMap<u64, Vec<PathBuf>>> {
    None
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    sameport_sys::effective_user() == 0
}

#[cfg(not(target_os = "linux"))]
fn is_root() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn device_index(_name: &str) -> Option<u32> {
    None
}

#[cfg(not(target_os = "linux"))]
fn resolve_host(_name: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn look(_request: &ListRequest, _connected: bool) -> Result<Inspection, Error> {
    Err(Error::Machine("ls needs Linux".to_owned()))
}
