//! Conversion of texts, ports and addresses into endpoints, and name resolution.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use sameport_addr::{AddrSpec, Host};

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

/// A parsed address, before name resolution: a wildcard, a socket address or a name with a port.
///
/// `Display` writes a text that [`ToAddress`] accepts.
///
/// ```
/// use sameport::ToAddress;
///
/// let endpoint = "localhost:0".to_endpoint()?;
/// assert_eq!(endpoint.to_string(), "localhost:0");
/// sameport::listen(endpoint)?;
/// # Ok::<(), sameport::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Endpoint(pub(crate) EndpointAddr);

#[derive(Debug, Clone)]
pub(crate) enum EndpointAddr {
    /// Every address of both families, on this port.
    Any(u16),
    Socket(SocketAddr),
    Name(String, u16),
}

/// A value that the functions of this crate accept as an address.
///
/// A text has one of the forms of the [crate's table](crate#addresses). A `u16` is a port on every
/// address of both families. Also std's socket addresses, pairs of an IP address and a port, and
/// [`Endpoint`].
pub trait ToAddress {
    /// Parses the address, without name resolution.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadAddress`](crate::ErrorKind::BadAddress) if a text is not an address.
    fn to_endpoint(&self) -> Result<Endpoint>;
}

impl ToAddress for str {
    fn to_endpoint(&self) -> Result<Endpoint> {
        let spec = self.parse::<AddrSpec>().map_err(|error| Error::text(self, &error))?;
        Ok(Endpoint(match spec.host {
            Host::Any => EndpointAddr::Any(spec.port),
            Host::Ip(ip) => EndpointAddr::Socket(SocketAddr::new(ip, spec.port)),
            Host::Name(name) => EndpointAddr::Name(name, spec.port),
        }))
    }
}

impl ToAddress for String {
    fn to_endpoint(&self) -> Result<Endpoint> {
        self.as_str().to_endpoint()
    }
}

impl ToAddress for Endpoint {
    fn to_endpoint(&self) -> Result<Endpoint> {
        Ok(self.clone())
    }
}

impl ToAddress for u16 {
    fn to_endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint(EndpointAddr::Any(*self)))
    }
}

impl ToAddress for SocketAddr {
    fn to_endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint(EndpointAddr::Socket(*self)))
    }
}

impl ToAddress for SocketAddrV4 {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::V4(*self).to_endpoint()
    }
}

impl ToAddress for SocketAddrV6 {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::V6(*self).to_endpoint()
    }
}

impl<I: Into<IpAddr> + Copy> ToAddress for (I, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::new(self.0.into(), self.1).to_endpoint()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_endpoint(&self) -> Result<Endpoint> {
        (**self).to_endpoint()
    }
}

impl Endpoint {
    /// The socket addresses of this endpoint, in the resolver's order, without duplicates; at least
    /// one. `Any` yields the wildcard addresses of IPv6 and IPv4.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>> {
        match &self.0 {
            EndpointAddr::Any(port) => Ok(wildcards(*port).to_vec()),
            EndpointAddr::Socket(address) => Ok(vec![*address]),
            EndpointAddr::Name(name, port) => {
                let bad = || Error::new(ErrorKind::BadAddress, "resolve", self);
                let mut found: Vec<SocketAddr> = Vec::new();
                let resolved = (name.as_str(), *port).to_socket_addrs();
                for address in resolved
                    .map_err(|os| bad().with_note("the name does not resolve").with_source(os))?
                {
                    if !found.contains(&address) {
                        found.push(address);
                    }
                }
                if found.is_empty() {
                    Err(bad().with_note("the name has no address"))
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
            EndpointAddr::Any(port) => write!(f, ":{port}"),
            EndpointAddr::Socket(address) => write!(f, "{address}"),
            EndpointAddr::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The wildcard addresses of IPv6 and IPv4.
pub(crate) fn wildcards(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
