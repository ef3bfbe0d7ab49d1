//! Parses a port as sameport prints it: a port or an address, with its device and its protocol.

use std::fmt;
use std::str::FromStr;

use crate::addr_spec::{AddrSpec, AddrSpecError, Host, quoted};
use crate::protocol::Protocol;

/// IFNAMSIZ - 1: bytes in the longest name of an interface.
const LONGEST_DEVICE: usize = 15;

/// A port, or an address, in the one notation of every verb.
///
/// | text | meaning |
/// |---|---|
/// | an [`AddrSpec`]: `8080`, `127.0.0.1:8080`, `[::1]:8080`, `*:8080` | both protocols, unless an option names one |
/// | … `/tcp`, … `/udp` | that protocol only |
/// | `0.0.0.0%eth0:80`, `*%eth0:80`, `[::%eth0]:80` | on this interface; a link-local address names its scope in this way |
///
/// `Display` writes a text that parses to the same value: `8080/tcp` for a port alone. Every address
/// that an [`Address`](crate::Address) displays parses, unless its interface has a name with control
/// characters.
///
/// ```
/// use sameport_addr::{PortSpec, Protocol};
///
/// let spec: PortSpec = "9101/udp".parse()?;
/// assert_eq!((spec.addr.port, spec.protocol), (9101, Some(Protocol::Udp)));
/// let on_device: PortSpec = "0.0.0.0%eth0:80/tcp".parse()?;
/// assert_eq!(on_device.device.as_deref(), Some("eth0"));
/// assert_eq!(on_device.to_string(), "0.0.0.0%eth0:80/tcp");
/// # Ok::<(), sameport_addr::PortSpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortSpec {
    /// The host and the port.
    pub addr: AddrSpec,
    /// The name of the interface, or the number of a scope.
    pub device: Option<String>,
    /// The protocol; `None` if the text names none.
    pub protocol: Option<Protocol>,
}

impl PortSpec {
    /// Whether the text names a port alone, without an IP address or a device.
    ///
    /// ```
    /// use sameport_addr::PortSpec;
    ///
    /// assert!("80/udp".parse::<PortSpec>()?.is_port());
    /// assert!(!"127.0.0.1:80".parse::<PortSpec>()?.is_port());
    /// # Ok::<(), sameport_addr::PortSpecError>(())
    /// ```
    #[must_use]
    pub fn is_port(&self) -> bool {
        self.addr.host == Host::Any && self.device.is_none()
    }

    /// Parses a text whose port is not 0.
    ///
    /// ```
    /// use sameport_addr::PortSpec;
    ///
    /// assert_eq!(PortSpec::parse_fixed("80")?.addr.port, 80);
    /// assert!(PortSpec::parse_fixed("0").is_err());
    /// # Ok::<(), sameport_addr::PortSpecError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of parsing, and [`AddrSpecError::FixedPort`].
    pub fn parse_fixed(text: &str) -> Result<Self, PortSpecError> {
        let spec: Self = text.parse()?;
        match spec.addr.port {
            0 => Err(AddrSpecError::FixedPort(quoted(text)).into()),
            _ => Ok(spec),
        }
    }
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    /// # Errors
    ///
    /// [`PortSpecError`].
    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, None),
            Some((rest, name)) => {
                let all = [Protocol::Tcp, Protocol::Udp];
                let known = all.into_iter().find(|protocol| protocol.name() == name);
                (rest, Some(known.ok_or_else(|| PortSpecError::Protocol(quoted(text)))?))
            }
        };
        let (rest, device) = without_device(rest)?;
        Ok(Self { addr: rest.parse()?, device, protocol })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, device, protocol } = self;
        let text = match (&addr.host, device) {
            (Host::Any, None) => addr.port.to_string(),
            (_, None) => addr.to_string(),
            (Host::Any, Some(device)) => format!("*%{device}:{}", addr.port),
            (Host::Ip(ip), Some(device)) if ip.is_ipv6() => {
                format!("[{ip}%{device}]:{}", addr.port)
            }
            (Host::Ip(ip), Some(device)) => format!("{ip}%{device}:{}", addr.port),
            (Host::Name(name), Some(device)) => format!("{name}%{device}:{}", addr.port),
        };
        match protocol {
            None => f.pad(&text),
            Some(protocol) => f.pad(&format!("{text}/{protocol}")),
        }
    }
}

/// Takes `%DEVICE` out of an address. An interface can be named `a]b`, and none has a `:` in its name.
fn without_device(text: &str) -> Result<(String, Option<String>), PortSpecError> {
    let end = if text.starts_with('[') { "]:" } else { ":" };
    let found = text.split_once('%').and_then(|(host, rest)| {
        let (device, port) = rest.rsplit_once(end)?;
        Some((format!("{host}{end}{port}"), device))
    });
    let Some((rest, device)) = found else { return Ok((text.to_owned(), None)) };
    if is_device(device) {
        Ok((rest, Some(device.to_owned())))
    } else {
        Err(PortSpecError::Device(quoted(device)))
    }
}

/// Whether an interface can have this name (`dev_valid_name` of the kernel).
///
/// ```
/// assert!(sameport_addr::is_device("eth0") && !sameport_addr::is_device("a name too long"));
/// ```
#[must_use]
pub fn is_device(name: &str) -> bool {
    let is_forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..=LONGEST_DEVICE).contains(&name.len())
        && ![".", ".."].contains(&name)
        && !name.contains(is_forbidden)
}

/// The reason why a text is not a [`PortSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortSpecError {
    /// Something other than `/tcp` or `/udp` after the port.
    Protocol(String),
    /// Not the name of an interface.
    Device(String),
    /// Not an address and a port.
    Addr(AddrSpecError),
}

impl From<AddrSpecError> for PortSpecError {
    fn from(error: AddrSpecError) -> Self {
        Self::Addr(error)
    }
}

impl fmt::Display for PortSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(text) => {
                write!(
                    f,
                    "{text} ends with neither /tcp nor /udp: write PORT or HOST:PORT, and one of the two or \
                     nothing after it"
                )
            }
            Self::Device(text) => write!(
                f,
                "{text} is not an interface: its name has 1 to {LONGEST_DEVICE} bytes, without /, : \
                 and space"
            ),
            Self::Addr(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PortSpecError {}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::address::Address;

    fn read(text: &str) -> PortSpec {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_has_one_meaning() {
        let (tcp, udp) = (Some(Protocol::Tcp), Some(Protocol::Udp));
        let cases = [
            ("9101", ":9101", None, None),
            ("9101/tcp", ":9101", None, tcp),
            ("9101/udp", ":9101", None, udp),
            (":9101", ":9101", None, None),
            ("*:9101/udp", ":9101", None, udp),
            ("127.0.0.1:9101", "127.0.0.1:9101", None, None),
            ("127.0.0.1:9101/tcp", "127.0.0.1:9101", None, tcp),
            ("[::1]:9101/udp", "[::1]:9101", None, udp),
            ("localhost:9101/tcp", "localhost:9101", None, tcp),
            ("0.0.0.0%eth0:9101", "0.0.0.0:9101", Some("eth0"), None),
            ("*%eth0:9101/tcp", ":9101", Some("eth0"), tcp),
            ("[::%eth0]:9101/tcp", "[::]:9101", Some("eth0"), tcp),
            ("[fe80::1%2]:9101", "[fe80::1]:9101", Some("2"), None),
            ("[fe80::1%a]b%]:9101", "[fe80::1]:9101", Some("a]b%"), None),
            ("0.0.0.0%a%b:9101", "0.0.0.0:9101", Some("a%b"), None),
        ];
        for (text, addr, device, protocol) in cases {
            let spec = read(text);
            let expected = PortSpec {
                addr: addr.parse().unwrap(),
                device: device.map(str::to_owned),
                protocol,
            };
            assert_eq!(spec, expected, "{text}");
            assert_eq!(read(&spec.to_string()), spec, "{text}");
        }
        assert_eq!(read(":80/tcp").to_string(), "80/tcp");
        assert_eq!(read("*:80").to_string(), "80");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "/tcp",
            "9101/",
            "9101/sctp",
            "9101/TCP",
            "9101/tcp/tcp",
            "tcp/9101",
            "9101 /tcp",
            "0.0.0.0%:80",
            "0.0.0.0%a b:80",
            "0.0.0.0%abcdefghijklmnop:80",
            "[::1%eth0]",
            "::1:80/tcp",
            "127.0.0.1/tcp",
        ] {
            let error = text.parse::<PortSpec>().map(|spec| panic!("{text}: {spec}"));
            assert!(!error.unwrap_err().to_string().is_empty());
        }
        assert!(PortSpec::parse_fixed("0/tcp").is_err());
        assert!(PortSpec::parse_fixed("1/tcp").is_ok());
    }

    #[test]
    fn displayed_addresses_are_parsed() {
        for device in [None, Some("eth0".to_owned())] {
            for socket in ["0.0.0.0:80", "127.0.0.1:80", "[::]:80", "[::1]:80", "[fe80::1%2]:80"] {
                for (protocol, v6only) in [(Protocol::Tcp, false), (Protocol::Udp, true)] {
                    let socket: SocketAddr = socket.parse().unwrap();
                    let device = device.clone();
                    let address = Address { protocol, socket, device, v6only };
                    let spec = read(&address.labelled().to_string());
                    assert_eq!(spec.addr.port, 80, "{address}");
                    assert_eq!(spec.protocol, Some(protocol), "{address}");
                    let named = match &spec.addr.host {
                        Host::Any => address.is_dual_stack(),
                        Host::Ip(ip) => *ip == address.socket.ip(),
                        Host::Name(_) => false,
                    };
                    assert!(named, "{address}: {spec:?}");
                    assert_eq!(read(&address.to_string()).protocol, None);
                }
            }
        }
    }
}
