//! Parses `HOST:PORT` strictly: each text has one meaning, and an unusual spelling is an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Bytes in the longest valid address: a DNS name of 253 bytes, `:` and five digits.
const LONGEST: usize = 253 + 6;

/// Characters of a rejected text that the error message quotes.
const QUOTED: usize = 60;

/// A host and a port, before name resolution.
///
/// | text | host | port |
/// |---|---|---|
/// | `8080`, `:8080`, `*:8080` | [`Host::Any`] | 8080 |
/// | `127.0.0.1:8080`, `[::1]:8080` | [`Host::Ip`] | 8080 |
/// | `localhost:8080`, `db-1.example.org:0` | [`Host::Name`] | 8080, 0 |
///
/// `Display` writes a text that parses to the same value.
///
/// ```
/// use sameport_addr::{AddrSpec, Host};
///
/// let spec: AddrSpec = "localhost:8080".parse()?;
/// assert_eq!(spec, AddrSpec { host: Host::Name("localhost".into()), port: 8080 });
/// assert_eq!(spec.to_string(), "localhost:8080");
///
/// let error = "::1:8080".parse::<AddrSpec>().unwrap_err();
/// assert!(error.to_string().ends_with("write an IPv6 address in brackets, such as [::1]:8080"));
/// # Ok::<(), sameport_addr::AddrSpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddrSpec {
    /// The local or remote host.
    pub host: Host,
    /// The port. For a socket to be bound, 0 lets the system choose.
    pub port: u16,
}

/// The part of an [`AddrSpec`] before the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every address of both families: the text has nothing, or `*`, before the port.
    Any,
    /// One IP address, or the wildcard address of one family.
    Ip(IpAddr),
    /// A host name: labels of letters, digits, `-` and `_`, joined by dots.
    Name(String),
}

impl FromStr for AddrSpec {
    type Err = AddrSpecError;

    /// Parses an address without resolving a name.
    ///
    /// # Errors
    ///
    /// Every text that the table of [`AddrSpec`] does not list: see [`AddrSpecError`].
    fn from_str(text: &str) -> Result<Self, AddrSpecError> {
        if text.is_empty() {
            return Err(AddrSpecError::Empty);
        }
        if text.len() > LONGEST {
            return Err(AddrSpecError::TooLong(quoted(text)));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return parse_bracketed(text, rest);
        }
        match text.split_once(':') {
            None if could_be_port(text) => Ok(Self { host: Host::Any, port: parse_port(text)? }),
            None => Err(AddrSpecError::NoPort(quoted(text))),
            Some((_, after)) if after.contains(':') => Err(several_colons(text)),
            Some(("" | "*", after)) => Ok(Self { host: Host::Any, port: port_of(text, after)? }),
            Some((before, after)) => {
                Ok(Self { host: host(text, before)?, port: port_of(text, after)? })
            }
        }
    }
}

impl fmt::Display for AddrSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Any => write!(f, ":{port}"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

/// Parses a port from 0 to 65535: digits only, without sign, space or leading zero.
///
/// # Errors
///
/// [`AddrSpecError::Port`].
///
/// ```
/// assert_eq!(sameport_addr::parse_port("8080"), Ok(8080));
/// assert!(sameport_addr::parse_port("080").is_err());
/// ```
pub fn parse_port(text: &str) -> Result<u16, AddrSpecError> {
    digits(text).ok_or_else(|| AddrSpecError::Port(quoted(text)))
}

/// Parses a port from 1 to 65535, for places where the system cannot choose the port.
///
/// # Errors
///
/// [`AddrSpecError::FixedPort`].
///
/// ```
/// assert_eq!(sameport_addr::parse_fixed_port("80"), Ok(80));
/// assert!(sameport_addr::parse_fixed_port("0").is_err());
/// ```
pub fn parse_fixed_port(text: &str) -> Result<u16, AddrSpecError> {
    digits(text).filter(|&port| port != 0).ok_or_else(|| AddrSpecError::FixedPort(quoted(text)))
}

/// The reason why a text is not an address.
///
/// Each variant holds the rejected text, quoted, escaped and shortened to 60 characters. `Display`
/// is one line: the text and the expected form.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddrSpecError {
    /// The text is empty.
    Empty,
    /// The text is longer than 259 bytes.
    TooLong(String),
    /// Not a port from 0 to 65535.
    Port(String),
    /// Not a port from 1 to 65535.
    FixedPort(String),
    /// A host without a port.
    NoPort(String),
    /// An IPv6 address without brackets.
    NoBrackets(String),
    /// Brackets that contain no IPv6 address, are not closed, or precede something other than a port.
    BadIpv6(String),
    /// An IPv6 scope such as `%eth0`.
    Scope(String),
    /// A host whose last label is a number, but which is not an IPv4 address.
    BadIpv4(String),
    /// Not a valid host name.
    BadName(String),
}

impl fmt::Display for AddrSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the address is empty: write a port, such as 8080"),
            Self::TooLong(text) => {
                write!(
                    f,
                    "{text} is too long for an address: write HOST:PORT, at most {LONGEST} bytes"
                )
            }
            Self::Port(text) => {
                write!(f, "{text} is not a port: write a number from 0 to 65535, digits only")
            }
            Self::FixedPort(text) => {
                write!(f, "{text} is not a fixed port: write a number from 1 to 65535, digits only")
            }
            Self::NoPort(text) => {
                write!(f, "{text} has no port: write HOST:PORT, such as localhost:8080")
            }
            Self::NoBrackets(text) => {
                write!(
                    f,
                    "{text} is not clear: write an IPv6 address in brackets, such as [::1]:8080"
                )
            }
            Self::BadIpv6(text) => {
                write!(f, "{text} is not an IPv6 address and a port: write [::1]:8080")
            }
            Self::Scope(text) => {
                write!(
                    f,
                    "{text} has a scope: write the address without it, and name the device instead"
                )
            }
            Self::BadIpv4(text) => {
                write!(
                    f,
                    "{text} is not an IPv4 address: write four numbers from 0 to 255, such as 127.0.0.1:8080"
                )
            }
            Self::BadName(text) => {
                write!(
                    f,
                    "{text} is not a host name and a port: write letters, digits, '-', '_' and '.', such as localhost:8080"
                )
            }
        }
    }
}

impl std::error::Error for AddrSpecError {}

/// Parses `[IPV6]:PORT`. `rest` is `text` without the opening bracket.
fn parse_bracketed(text: &str, rest: &str) -> Result<AddrSpec, AddrSpecError> {
    let bad = || AddrSpecError::BadIpv6(quoted(text));
    let (inside, after) = rest.split_once(']').ok_or_else(bad)?;
    if inside.contains('%') {
        return Err(AddrSpecError::Scope(quoted(text)));
    }
    let ip: Ipv6Addr = inside.parse().map_err(|_| bad())?;
    let port = match after.strip_prefix(':') {
        Some(port) => port_of(text, port)?,
        None if after.is_empty() => return Err(AddrSpecError::NoPort(quoted(text))),
        None => return Err(bad()),
    };
    Ok(AddrSpec { host: Host::Ip(ip.into()), port })
}

/// The error for two or more colons without brackets: usually an IPv6 address.
fn several_colons(text: &str) -> AddrSpecError {
    if text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
        AddrSpecError::NoBrackets(quoted(text))
    } else if text.contains('%') {
        AddrSpecError::Scope(quoted(text))
    } else {
        AddrSpecError::BadName(quoted(text))
    }
}

/// Parses the host before the colon: an IPv4 address or a name.
fn host(text: &str, before: &str) -> Result<Host, AddrSpecError> {
    if let Ok(ip) = before.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let name = before.strip_suffix('.').unwrap_or(before);
    if ends_in_number(name) {
        return Err(AddrSpecError::BadIpv4(quoted(text)));
    }
    // The final dot of a fully qualified name is not part of a label or of the length.
    if name.len() <= 253 && name.split('.').all(is_label) {
        Ok(Host::Name(before.to_owned()))
    } else {
        Err(AddrSpecError::BadName(quoted(text)))
    }
}

/// Whether the last label is a decimal or hexadecimal number.
///
/// Resolvers parse `127.1` and `0x7f.1` as IPv4 addresses. No top-level domain is a number, so the
/// WHATWG URL standard rejects such names, and so does this parser.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether a text without a colon looks like a port, so that the error message is about ports.
fn could_be_port(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-', ' ']);
    !number.contains('.')
        && number.chars().next().map_or(true, |first| first.is_numeric() || first.is_whitespace())
}

/// Parses the port of an address. A missing port is reported with the whole address.
fn port_of(text: &str, port: &str) -> Result<u16, AddrSpecError> {
    match port {
        "" => Err(AddrSpecError::NoPort(quoted(text))),
        port => digits(port).ok_or_else(|| AddrSpecError::Port(quoted(port))),
    }
}

fn digits(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The text in quotes, escaped for terminals and shortened.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (at, c) in text.chars().enumerate() {
        if at == QUOTED {
            quoted.push_str("...");
            break;
        }
        quoted.extend(c.escape_debug());
    }
    quoted.push('"');
    quoted
}
