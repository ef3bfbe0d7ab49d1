//! What may be given as an address, and what it resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use sameport_addr::addr_spec::{Host, Wanted};

use crate::error::{Error, Kind, Result};

/// An address as given by the caller, read but not resolved.
#[derive(Debug, Clone)]
pub struct Place(pub(crate) Where);

#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// Every address of both families.
    Every(u16),
    Socket(SocketAddr),
    Name(String, u16),
}

/// What the functions of this crate take as an address.
///
/// Texts are read as in the [table of the crate](crate#addresses); a text that is none of these is
/// an error of kind [`Kind::BadAddress`]. A `u16` is a port on every address of both families.
pub trait ToAddress {
    /// Reads the address. Resolves nothing.
    ///
    /// # Errors
    /// [`Kind::BadAddress`], for texts.
    fn to_place(&self) -> Result<Place>;
}

impl ToAddress for str {
    fn to_place(&self) -> Result<Place> {
        self.parse::<Wanted>().map_err(|error| Error::text(self, &error))?.to_place()
    }
}

impl ToAddress for String {
    fn to_place(&self) -> Result<Place> {
        self.as_str().to_place()
    }
}

impl ToAddress for Wanted {
    fn to_place(&self) -> Result<Place> {
        Ok(Place(match &self.host {
            Host::Every => Where::Every(self.port),
            Host::Ip(ip) => Where::Socket(SocketAddr::new(*ip, self.port)),
            Host::Name(name) => Where::Name(name.clone(), self.port),
        }))
    }
}

impl ToAddress for Place {
    fn to_place(&self) -> Result<Place> {
        Ok(self.clone())
    }
}

impl ToAddress for u16 {
    fn to_place(&self) -> Result<Place> {
        Ok(Place(Where::Every(*self)))
    }
}

impl ToAddress for SocketAddr {
    fn to_place(&self) -> Result<Place> {
        Ok(Place(Where::Socket(*self)))
    }
}

impl ToAddress for SocketAddrV4 {
    fn to_place(&self) -> Result<Place> {
        SocketAddr::V4(*self).to_place()
    }
}

impl ToAddress for SocketAddrV6 {
    fn to_place(&self) -> Result<Place> {
        SocketAddr::V6(*self).to_place()
    }
}

impl<I: Into<IpAddr> + Copy> ToAddress for (I, u16) {
    fn to_place(&self) -> Result<Place> {
        SocketAddr::new(self.0.into(), self.1).to_place()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_place(&self) -> Result<Place> {
        (**self).to_place()
    }
}

impl Place {
    /// The socket addresses this can mean, in the resolver's order, without duplicates; at least
    /// one. Every address is the IPv6 wildcard, then the IPv4 one.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>> {
        match &self.0 {
            Where::Every(port) => Ok(wildcards(*port).to_vec()),
            Where::Socket(address) => Ok(vec![*address]),
            Where::Name(name, port) => {
                let bad = || Error::new(Kind::BadAddress, "resolve", self);
                let mut found: Vec<SocketAddr> = Vec::new();
                let resolved = (name.as_str(), *port).to_socket_addrs();
                for address in
                    resolved.map_err(|os| bad().noting("the name does not resolve").because(os))?
                {
                    if !found.contains(&address) {
                        found.push(address);
                    }
                }
                if found.is_empty() {
                    Err(bad().noting("the name has no address"))
                } else {
                    Ok(found)
                }
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Every(port) => write!(f, ":{port}"),
            Where::Socket(address) => write!(f, "{address}"),
            Where::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The wildcards of IPv6 and of IPv4.
pub(crate) fn wildcards(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
