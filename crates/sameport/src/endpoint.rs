//! Conversion of texts, ports and addresses into endpoints, and name resolution.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use sameport_addr::{AddrSpec, AddrSpecError, Host, parse_port};

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

/// Bytes of the longest name of a host: RFC 1035, without the final dot.
const LONGEST_HOST: usize = 253;

/// A parsed address, before name resolution: wildcards, socket addresses and names with a port.
///
/// `Display` writes a text that [`ToAddress`] accepts; several addresses are separated by a comma
/// and a space.
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
pub struct Endpoint(Vec<EndpointAddr>);

#[derive(Debug, Clone)]
enum EndpointAddr {
    /// Every address of both families, on this port.
    Any(u16),
    Socket(SocketAddr),
    Name(String, u16),
}

/// A part of an endpoint after name resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResolvedAddr {
    /// Every address of both families, on this port.
    Any(u16),
    Socket(SocketAddr),
    /// The addresses of a name, in the resolver's order, without duplicates; at least one.
    Named(Vec<SocketAddr>),
}

/// A value that the functions of this crate accept as an address.
///
/// | type | meaning |
/// |---|---|
/// | `str`, `String` | one of the forms of the [crate's table](crate#addresses) |
/// | `u16` | a port on every address of both families |
/// | [`SocketAddr`], [`SocketAddrV4`], [`SocketAddrV6`] | that address |
/// | `(IpAddr, u16)`, `(Ipv4Addr, u16)`, `(Ipv6Addr, u16)`, `([u8; 4], u16)`, `([u16; 8], u16)` | an IP address and a port |
/// | `(&str, u16)`, `(String, u16)` | an IP address without brackets, a name, or `*` for every address, and a port |
/// | `[T]`, `[T; N]`, `Vec<T>` of any of these | several addresses |
/// | `&T` of any of these | the same |
/// | [`Endpoint`] | the result of [`ToAddress::to_endpoint`] |
///
/// These are the types of [`std::net::ToSocketAddrs`] and some more. Texts are parsed more strictly:
/// `::1:8080`, `127.1:80` and `localhost:080` are errors, because their meaning is not clear. The
/// host of a pair has no such rules.
///
/// Of several addresses, [`listen`](crate::listen) opens the first possible one, as std does, and
/// [`listen_all`](crate::listen_all) opens all of them.
///
/// ```
/// use std::net::Ipv4Addr;
///
/// sameport::listen(("localhost", 0))?;
/// sameport::listen((Ipv4Addr::LOCALHOST, 0))?;
/// sameport::listen(&[([127, 0, 0, 1], 0), ([127, 0, 0, 2], 0)][..])?;
/// # Ok::<(), sameport::Error>(())
/// ```
pub trait ToAddress {
    /// Parses the address, without name resolution.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadAddress`](crate::ErrorKind::BadAddress) if a text is not an address, a host
    /// is empty, or a list is empty.
    fn to_endpoint(&self) -> Result<Endpoint>;
}

impl ToAddress for str {
    fn to_endpoint(&self) -> Result<Endpoint> {
        let spec = match self.parse::<AddrSpec>() {
            Ok(spec) => spec,
            // std accepts scopes. The command line does not: it has devices for them.
            Err(AddrSpecError::Scope(text)) => {
                return with_scope(self).ok_or_else(|| {
                    Error::text(self, &format_args!("{text} is not an IPv6 address with a scope and a port: write [fe80::1%2]:8080"))
                });
            }
            Err(error) => return Err(Error::text(self, &error)),
        };
        Ok(Endpoint::one(match spec.host {
            Host::Any => EndpointAddr::Any(spec.port),
            Host::Ip(ip) => EndpointAddr::Socket(SocketAddr::new(ip, spec.port)),
            Host::Name(name) => EndpointAddr::Name(name, spec.port),
        }))
    }
}

/// Parses `[IPV6%SCOPE]:PORT`. The scope is a number, or the name of an interface, which the
/// resolver translates.
fn with_scope(text: &str) -> Option<Endpoint> {
    let (inside, port) = text.strip_prefix('[')?.split_once("]:")?;
    let port = parse_port(port).ok()?;
    let (ip, scope) = inside.split_once('%')?;
    ip.parse::<Ipv6Addr>().ok()?;
    if scope.is_empty() || scope.contains(['%', '[', ']', ' ']) {
        return None;
    }
    let number = format!("[{inside}]:{port}").parse();
    let name = || EndpointAddr::Name(inside.to_owned(), port);
    Some(Endpoint::one(number.map_or_else(|_| name(), EndpointAddr::Socket)))
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
        Ok(Endpoint::one(EndpointAddr::Any(*self)))
    }
}

impl ToAddress for SocketAddr {
    fn to_endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint::one(EndpointAddr::Socket(*self)))
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

impl ToAddress for (IpAddr, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::from(*self).to_endpoint()
    }
}

impl ToAddress for (Ipv4Addr, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::from(*self).to_endpoint()
    }
}

impl ToAddress for (Ipv6Addr, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::from(*self).to_endpoint()
    }
}

impl ToAddress for ([u8; 4], u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::from(*self).to_endpoint()
    }
}

impl ToAddress for ([u16; 8], u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        SocketAddr::from(*self).to_endpoint()
    }
}

impl ToAddress for (&str, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        let (host, port) = *self;
        if host == "*" {
            return port.to_endpoint();
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return (ip, port).to_endpoint();
        }
        let shown: String = host.escape_debug().take(60).collect();
        let bad = |note| Err(Error::new(ErrorKind::BadAddress, "address", shown).with_note(note));
        if host.is_empty() {
            return bad("the host is empty: write * for every address");
        }
        if host.len() > LONGEST_HOST {
            return bad("the host is too long: at most 253 bytes");
        }
        if host.contains(char::is_control) {
            return bad("the host has a control character");
        }
        if host.starts_with('[') {
            return bad("the host of a pair has no brackets: write (\"::1\", 8080)");
        }
        Ok(Endpoint::one(EndpointAddr::Name(host.to_owned(), port)))
    }
}

impl ToAddress for (String, u16) {
    fn to_endpoint(&self) -> Result<Endpoint> {
        (self.0.as_str(), self.1).to_endpoint()
    }
}

impl<T: ToAddress> ToAddress for [T] {
    fn to_endpoint(&self) -> Result<Endpoint> {
        let mut all = Vec::new();
        for one in self {
            all.extend(one.to_endpoint()?.0);
        }
        if all.is_empty() {
            return Err(Error::new(ErrorKind::BadAddress, "address", "")
                .with_note("the list of addresses is empty"));
        }
        Ok(Endpoint(all))
    }
}

impl<T: ToAddress, const N: usize> ToAddress for [T; N] {
    fn to_endpoint(&self) -> Result<Endpoint> {
        self.as_slice().to_endpoint()
    }
}

impl<T: ToAddress> ToAddress for Vec<T> {
    fn to_endpoint(&self) -> Result<Endpoint> {
        self.as_slice().to_endpoint()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_endpoint(&self) -> Result<Endpoint> {
        (**self).to_endpoint()
    }
}

impl Endpoint {
    fn one(address: EndpointAddr) -> Self {
        Self(vec![address])
    }

    /// Resolves the names of this endpoint.
    pub(crate) fn resolve(&self) -> Result<Vec<ResolvedAddr>> {
        let resolve = |address: &EndpointAddr| match address {
            EndpointAddr::Any(port) => Ok(ResolvedAddr::Any(*port)),
            EndpointAddr::Socket(address) => Ok(ResolvedAddr::Socket(*address)),
            EndpointAddr::Name(name, port) => {
                named(address, (name.as_str(), *port).to_socket_addrs())
            }
        };
        self.0.iter().map(resolve).collect()
    }

    /// As [`Endpoint::resolve`], on a thread of the current tokio runtime.
    #[cfg(feature = "tokio")]
    pub(crate) async fn resolve_in_tokio(&self) -> Result<Vec<ResolvedAddr>> {
        let mut all = Vec::new();
        for address in &self.0 {
            all.push(match address {
                EndpointAddr::Any(port) => ResolvedAddr::Any(*port),
                EndpointAddr::Socket(address) => ResolvedAddr::Socket(*address),
                EndpointAddr::Name(name, port) => {
                    named(address, tokio::net::lookup_host((name.as_str(), *port)).await)?
                }
            });
        }
        Ok(all)
    }
}

/// The addresses of a name.
fn named(
    name: &EndpointAddr,
    resolved: io::Result<impl Iterator<Item = SocketAddr>>,
) -> Result<ResolvedAddr> {
    let bad = || Error::new(ErrorKind::BadAddress, "resolve", name);
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in
        resolved.map_err(|os| bad().with_note("the name does not resolve").with_source(os))?
    {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err(bad().with_note("the name has no address"));
    }
    Ok(ResolvedAddr::Named(found))
}

impl ResolvedAddr {
    /// The socket addresses; the wildcard addresses of both families for [`ResolvedAddr::Any`].
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Any(port) => wildcards(*port).to_vec(),
            Self::Socket(address) => vec![*address],
            Self::Named(all) => all.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}")?;
        }
        Ok(())
    }
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Socket(address) => write!(f, "{address}"),
            // An IPv6 address with the name of an interface.
            Self::Name(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The wildcard addresses of IPv6 and IPv4.
pub(crate) fn wildcards(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
