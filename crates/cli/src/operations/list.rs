//! Who is on which port.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use sameport_rules::groups::groups;
use sameport_rules::sockets::{Address, Group, Member};
use sameport_rules::wanted::{Host, Wanted};

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    /// Only what is on this port, or takes traffic for this address.
    pub(crate) on: Option<Wanted>,
}

/// Who was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) groups: Vec<Group>,
    /// Whether everybody is named: no process was hidden from the caller.
    pub(crate) complete: bool,
    /// Whether a socket is listed of which no process could be seen.
    pub(crate) nameless: Option<Nameless>,
    /// The cgroups in which `attach` acts, by their number, with the paths of those it was done
    /// for; `None` where it could not be told.
    pub(crate) attached: Option<BTreeMap<u64, Vec<PathBuf>>>,
}

impl Listing {
    /// The cgroups that `attach` was done for and that this socket is in.
    pub(crate) fn attached_to(&self, member: &Member) -> Option<&[PathBuf]> {
        let attached = self.attached.as_ref()?;
        if attached.is_empty() {
            return Some(&[]);
        }
        Some(attached.get(&member.socket.cgroup?).map_or(&[], Vec::as_slice))
    }
}

/// Why a socket is listed without a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nameless {
    /// Its processes belong to another user.
    OtherUser,
    /// Root does not see them either: they are in another pid namespace, or there are none.
    EvenForRoot,
}

/// Why there is no listing.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// This system does not tell.
    Machine(String),
    /// It could tell, and did not.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing to ask there"))]
    Look(String),
}

/// Looks, and groups what it saw.
///
/// # Errors
///
/// When a name does not resolve, or the system does not tell.
pub(crate) fn list(request: &Request) -> Result<Listing, Error> {
    let port = request.on.as_ref().map(|wanted| wanted.port);
    let ips = request.on.as_ref().map_or(Ok(None), ips)?;
    let (members, complete) = look(request.tcp, request.udp, port)?;
    let mut groups = groups(members);
    if let (Some(ips), Some(port)) = (ips, port) {
        groups.retain(|group| ips.iter().any(|ip| takes(group, SocketAddr::new(*ip, port))));
    }
    let nameless = groups.iter().flat_map(|group| &group.members).any(|m| m.processes.is_empty());
    let reason = if is_root() { Nameless::EvenForRoot } else { Nameless::OtherUser };
    Ok(Listing { groups, complete, nameless: nameless.then_some(reason), attached: attached() })
}

/// Whether some packet to this address could be for the group.
fn takes(group: &Group, address: SocketAddr) -> bool {
    group.address.overlaps(&Address::new(group.address.protocol, address))
}

/// The IPs to look at; `None` for all.
fn ips(wanted: &Wanted) -> Result<Option<Vec<IpAddr>>, Error> {
    match &wanted.host {
        Host::Every => Ok(None),
        Host::Ip(ip) => Ok(Some(vec![*ip])),
        Host::Name(name) => (name.as_str(), wanted.port)
            .to_socket_addrs()
            .map(|addresses| Some(addresses.map(|address| address.ip()).collect()))
            .map_err(|source| Error::Name { name: name.clone(), source }),
    }
}

#[cfg(target_os = "linux")]
fn look(tcp: bool, udp: bool, port: Option<u16>) -> Result<(Vec<Member>, bool), Error> {
    use sameport_linux::look;
    match look::members(&look::Query { tcp, udp, port, ..look::Query::everything() }) {
        Ok(seen) => Ok((seen.members, seen.complete)),
        Err(error @ look::Error::Unsupported { .. }) => Err(Error::Machine(error.to_string())),
        Err(error) => Err(Error::Look(error.to_string())),
    }
}

#[cfg(target_os = "linux")]
fn attached() -> Option<BTreeMap<u64, Vec<PathBuf>>> {
    sameport_linux::cgroup::reached().ok()
}

#[cfg(not(target_os = "linux"))]
fn attached() -> Option<BTreeMap<u64, Vec<PathBuf>>> {
    None
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    sameport_linux::effective_user() == 0
}

#[cfg(not(target_os = "linux"))]
fn is_root() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn look(_tcp: bool, _udp: bool, _port: Option<u16>) -> Result<(Vec<Member>, bool), Error> {
    Err(Error::Machine("ls needs Linux".to_owned()))
}
