//! Who is on which port.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

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
    Ok(Listing { groups, complete })
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
    match look::members(&look::Query { tcp, udp, port }) {
        Ok(seen) => Ok((seen.members, seen.complete)),
        Err(error @ look::Error::Unsupported { .. }) => Err(Error::Machine(error.to_string())),
        Err(error) => Err(Error::Look(error.to_string())),
    }
}

#[cfg(not(target_os = "linux"))]
fn look(_tcp: bool, _udp: bool, _port: Option<u16>) -> Result<(Vec<Member>, bool), Error> {
    Err(Error::Machine("ls needs Linux".to_owned()))
}
