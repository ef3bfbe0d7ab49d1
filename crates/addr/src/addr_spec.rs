//! What a user writes as an address, read strictly: one spelling, one meaning, no guesses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// The longest text that can be an address: a DNS name of 253 bytes, `:` and five digits.
const LONGEST: usize = 253 + 6;

/// How much of a wrong argument is repeated in the error.
const SHOWN: usize = 60;

/// An address as wanted, before anything was resolved.
///
/// | written | host | port |
/// |---|---|---|
/// | `8080`, `:8080`, `*:8080` | [`Host::Every`] | 8080 |
/// | `127.0.0.1:8080`, `[::1]:8080` | [`Host::Ip`] | 8080 |
/// | `localhost:8080`, `db-1.example.org:0` | [`Host::Name`] | 8080, 0 |
///
/// `Display` writes a text that parses to the same value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddrSpec {
    /// Which of the machine's addresses.
    pub host: Host,
    /// The port; 0 asks the system to pick one.
    pub port: u16,
}

/// The part of a wanted address before the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every address of both families: nothing, or `*`, was written before the port.
    Every,
    /// One address, or the wildcard of one family.
    Ip(IpAddr),
    /// A name still to be resolved: labels of letters, digits, `-` and `_`, joined by dots.
    Name(String),
}

impl FromStr for AddrSpec {
    type Err = AddrSpecError;

    /// Reads an address. Never resolves a name, and takes no time worth naming on any input.
    ///
    /// # Errors
    /// A [`WantedError`] that names the text and says what to write instead.
    fn from_str(text: &str) -> Result<Self, AddrSpecError> {
        if text.is_empty() {
            return Err(AddrSpecError::Empty);
        }
        if text.len() > LONGEST {
            return Err(AddrSpecError::TooLong(shown(text)));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return bracketed(text, rest);
        }
        match text.split_once(':') {
            None if could_be_port(text) => Ok(Self { host: Host::Every, port: port(text)? }),
            None => Err(AddrSpecError::NoPort(shown(text))),
            Some((_, after)) if after.contains(':') => Err(several_colons(text)),
            Some(("" | "*", after)) => Ok(Self { host: Host::Every, port: port_of(text, after)? }),
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
            Host::Every => write!(f, ":{port}"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

/// Reads a bare port, 0 to 65535: digits only, no sign, no space, no leading zero.
///
/// # Errors
/// [`WantedError::Port`].
pub fn port(text: &str) -> Result<u16, AddrSpecError> {
    digits(text).ok_or_else(|| AddrSpecError::Port(shown(text)))
}

/// Reads a bare port where the system must not be left to pick one: 1 to 65535.
///
/// # Errors
/// [`WantedError::FixedPort`].
pub fn fixed_port(text: &str) -> Result<u16, AddrSpecError> {
    digits(text).filter(|&port| port != 0).ok_or_else(|| AddrSpecError::FixedPort(shown(text)))
}

/// Why a text is not an address. `Display` is one line: the text, shortened, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddrSpecError {
    /// Nothing was written.
    Empty,
    /// Longer than any address can be.
    TooLong(String),
    /// Not a port from 0 to 65535.
    Port(String),
    /// Not a port from 1 to 65535.
    FixedPort(String),
    /// A host alone.
    NoPort(String),
    /// An IPv6 address that is not in brackets.
    NoBrackets(String),
    /// Brackets around something else than an IPv6 address, or not closed, or without a port.
    BadIpv6(String),
    /// An IPv6 scope such as `%eth0`.
    Scope(String),
    /// Ends in a number like an IPv4 address, but is none.
    BadIpv4(String),
    /// Not a host name.
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

/// `[IPV6]:PORT`, of which `rest` is what follows the opening bracket.
fn bracketed(text: &str, rest: &str) -> Result<AddrSpec, AddrSpecError> {
    let bad = || AddrSpecError::BadIpv6(shown(text));
    let (inside, after) = rest.split_once(']').ok_or_else(bad)?;
    if inside.contains('%') {
        return Err(AddrSpecError::Scope(shown(text)));
    }
    let ip: Ipv6Addr = inside.parse().map_err(|_| bad())?;
    let port = match after.strip_prefix(':') {
        Some(port) => port_of(text, port)?,
        None if after.is_empty() => return Err(AddrSpecError::NoPort(shown(text))),
        None => return Err(bad()),
    };
    Ok(AddrSpec { host: Host::Ip(ip.into()), port })
}

/// Two colons or more without a bracket: nearly always IPv6.
fn several_colons(text: &str) -> AddrSpecError {
    if text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
        AddrSpecError::NoBrackets(shown(text))
    } else if text.contains('%') {
        AddrSpecError::Scope(shown(text))
    } else {
        AddrSpecError::BadName(shown(text))
    }
}

/// The host before the colon: an IPv4 address or a name.
fn host(text: &str, before: &str) -> Result<Host, AddrSpecError> {
    if let Ok(ip) = before.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let name = before.strip_suffix('.').unwrap_or(before);
    if ends_in_number(name) {
        return Err(AddrSpecError::BadIpv4(shown(text)));
    }
    // The dot of a fully qualified name counts neither as a label nor towards the length.
    if name.len() <= 253 && name.split('.').all(is_label) {
        Ok(Host::Name(before.to_owned()))
    } else {
        Err(AddrSpecError::BadName(shown(text)))
    }
}

/// Resolvers read `127.1` and `0x7f.1` as IPv4 addresses that nobody expects; no top-level domain
/// is a number, so nothing is lost by refusing them (the rule of the WHATWG URL standard).
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

/// Whether a text without a colon was meant as a port, so that the error speaks of ports.
fn could_be_port(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-', ' ']);
    !number.contains('.')
        && number.chars().next().is_none_or(|first| first.is_numeric() || first.is_whitespace())
}

/// The port of an address: the error shows the whole address.
fn port_of(text: &str, port: &str) -> Result<u16, AddrSpecError> {
    match port {
        "" => Err(AddrSpecError::NoPort(shown(text))),
        port => digits(port).ok_or_else(|| AddrSpecError::Port(shown(port))),
    }
}

fn digits(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The text in quotes, safe for a terminal, shortened.
fn shown(text: &str) -> String {
    let mut shown = String::from("\"");
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN {
            shown.push_str("...");
            break;
        }
        shown.extend(c.escape_debug());
    }
    shown.push('"');
    shown
}
/// A time as people write it: a whole number with `ms`, `s`, `m` or `h`, or of seconds without; at
/// most a day.
///
/// # Errors
///
/// Says what to write.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRITE: &str = "write a number and ms, s, m or h, such as 500ms, 30s or 2m, at most 24h";
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(WRITE),
    };
    let number: u64 = number.parse().map_err(|_| WRITE)?;
    match number.checked_mul(milliseconds) {
        Some(total) if total <= DAY => Ok(Duration::from_millis(total)),
        _ => Err(WRITE),
    }
}
