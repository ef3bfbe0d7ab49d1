//! What may be given as an address, and what it resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use sameport_addr::{AddrSpec, Host};

use crate::error::{Error, ErrorKind, Result};

/// An address as given by the caller, read but not resolved.
#[derive(Debug, Clone)]
pub struct Endpoint(pub(crate) EndpointAddr);

#[derive(Debug, Clone)]
pub(crate) enum EndpointAddr {
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
    fn to_place(&self) -> Result<Endpoint>;
}

impl ToAddress for str {
    fn to_place(&self) -> Result<Endpoint> {
        self.parse::<AddrSpec>().map_err(|error| Error::text(self, &error))?.to_place()
    }
}

impl ToAddress for String {
    fn to_place(&self) -> Result<Endpoint> {
        self.as_str().to_place()
    }
}

impl ToAddress for AddrSpec {
    fn to_place(&self) -> Result<Endpoint> {
        Ok(Endpoint(match &self.host {
            Host::Any => EndpointAddr::Every(self.port),
            Host::Ip(ip) => EndpointAddr::Socket(SocketAddr::new(*ip, self.port)),
            Host::Name(name) => EndpointAddr::Name(name.clone(), self.port),
        }))
    }
}

impl ToAddress for Endpoint {
    fn to_place(&self) -> Result<Endpoint> {
        Ok(self.clone())
    }
}

impl ToAddress for u16 {
    fn to_place(&self) -> Result<Endpoint> {
        Ok(Endpoint(EndpointAddr::Every(*self)))
    }
}

impl ToAddress for SocketAddr {
    fn to_place(&self) -> Result<Endpoint> {
        Ok(Endpoint(EndpointAddr::Socket(*self)))
    }
}

impl ToAddress for SocketAddrV4 {
    fn to_place(&self) -> Result<Endpoint> {
        SocketAddr::V4(*self).to_place()
    }
}

impl ToAddress for SocketAddrV6 {
    fn to_place(&self) -> Result<Endpoint> {
        SocketAddr::V6(*self).to_place()
    }
}

impl<I: Into<IpAddr> + Copy> ToAddress for (I, u16) {
    fn to_place(&self) -> Result<Endpoint> {
        SocketAddr::new(self.0.into(), self.1).to_place()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_place(&self) -> Result<Endpoint> {
        (**self).to_place()
    }
}

impl Endpoint {
    /// The socket addresses this can mean, in the resolver's order, without duplicates; at least
    /// one. Every address is the IPv6 wildcard, then the IPv4 one.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>> {
        match &self.0 {
            EndpointAddr::Every(port) => Ok(wildcards(*port).to_vec()),
            EndpointAddr::Socket(address) => Ok(vec![*address]),
            EndpointAddr::Name(name, port) => {
                let bad = || Error::new(ErrorKind::BadAddress, "resolve", self);
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

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EndpointAddr::Every(port) => write!(f, ":{port}"),
            EndpointAddr::Socket(address) => write!(f, "{address}"),
            EndpointAddr::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The wildcards of IPv6 and of IPv4.
pub(crate) fn wildcards(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
