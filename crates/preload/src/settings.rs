//! The settings from the environment, kept in static memory.
//!
//! They are read once: by the constructor, or by the first call that needs them, because a
//! constructor of another library can call `bind` earlier. All values are atomics, concurrent
//! readers store the same values, and no value is reset. Several threads, a signal handler or a
//! `vfork`ed child can therefore read them at the same time without locks, and a program that later
//! overwrites its environment (to change its title) has no effect.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr as _;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::map::{MapRule, RuleSide, take_protocol};
use crate::protocol::Protocol;
use crate::source;

/// Maximum number of rules in SAMEPORT_MAP.
pub(crate) const MAX_RULES: usize = 1024;

/// Bytes of the longest abstract name of a Unix socket: unix(7).
pub(crate) const MAX_NAME: usize = 107;

/// A bit of [`Settings::flags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// The variables have been read.
    Read = 1,
    /// A variable is invalid: every bind fails.
    Invalid = 1 << 1,
    /// SAMEPORT_SHARE, REUSE_PORT.
    Share = 1 << 2,
    /// SAMEPORT_PORTS is set: only its ports are shared.
    SomePorts = 1 << 3,
    /// REUSE_ADDR.
    ReuseAddress = 1 << 4,
    /// SAMEPORT_TRANSPARENT, IP_TRANSPARENT.
    Transparent = 1 << 5,
    /// SAMEPORT_CHILDREN=strip.
    Strip = 1 << 6,
    /// The report that the library is loaded has been sent.
    LoadReported = 1 << 7,
    /// SAMEPORT_FREEBIND.
    Freebind = 1 << 8,
}

/// An optional protocol, an optional IP address and an optional port.
struct AtomicAddr {
    /// The IP version (0 for none), plus 8 for TCP only or 16 for UDP only, plus the port << 16.
    head: AtomicU64,
    ip: [AtomicU64; 2],
}

impl AtomicAddr {
    const fn new() -> Self {
        Self { head: AtomicU64::new(0), ip: [const { AtomicU64::new(0) }; 2] }
    }

    fn store(&self, protocol: Option<Protocol>, side: &RuleSide) {
        let (family, bits) = match side.ip {
            None => (0, 0),
            Some(IpAddr::V4(ip)) => (4, u128::from(ip.to_bits())),
            Some(IpAddr::V6(ip)) => (6, ip.to_bits()),
        };
        let protocol = match protocol {
            None => 0,
            Some(Protocol::Tcp) => 8,
            Some(Protocol::Udp) => 16,
        };
        self.ip[0].store(u64::try_from(bits >> 64).unwrap_or(0), Relaxed);
        self.ip[1].store(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0), Relaxed);
        let port = u64::from(side.port.unwrap_or(0));
        self.head.store(port << 16 | family | protocol, Relaxed);
    }

    fn load(&self) -> (Option<Protocol>, RuleSide) {
        let head = self.head.load(Relaxed);
        let bits =
            u128::from(self.ip[0].load(Relaxed)) << 64 | u128::from(self.ip[1].load(Relaxed));
        let ip = match head & 7 {
            4 => u32::try_from(bits).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
            6 => Some(Ipv6Addr::from_bits(bits).into()),
            _ => None,
        };
        let protocol = match head & 24 {
            8 => Some(Protocol::Tcp),
            16 => Some(Protocol::Udp),
            _ => None,
        };
        let port = u16::try_from(head >> 16 & 0xffff).ok().filter(|port| *port != 0);
        (protocol, RuleSide { ip, port })
    }
}

/// All settings of the library.
pub(crate) struct Settings {
    flags: AtomicU32,
    /// One bit for each port, for TCP and for UDP.
    ports: [[AtomicU64; 1024]; 2],
    rules: [(AtomicAddr, AtomicAddr); MAX_RULES],
    rule_count: AtomicUsize,
    /// SAMEPORT_SOURCE.
    source: AtomicAddr,
    /// BIND_ADDR, one address for each family.
    bindp_ips: [AtomicAddr; 2],
    /// BIND_PORT; 0 if unset.
    bindp_port: AtomicU16,
    name: [AtomicU64; 14],
    name_length: AtomicUsize,
}

/// The reason why a variable is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingError {
    NotASwitch,
    NotAPort,
    NotARule,
    TooManyRules,
    NotAnAddress,
    TwoOfOneFamily,
    NotAName,
    NotAChoice,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotASwitch => "write 1 or 0",
            Self::NotAPort => "write a port, 1 to 65535",
            Self::NotARule => "write FROM=TO, several separated by commas",
            Self::TooManyRules => "1024 rules are the most",
            Self::NotAnAddress => "write an IP address",
            Self::TwoOfOneFamily => "one IPv4 and one IPv6 address are the most",
            Self::NotAName => "write the name of an abstract socket, 1 to 107 bytes",
            Self::NotAChoice => "write inherit or strip",
        })
    }
}

/// The variables of sameport.
pub(crate) const SAMEPORT_VARIABLES: &[&str] = &[
    "SAMEPORT_SHARE",
    "SAMEPORT_PORTS",
    "SAMEPORT_MAP",
    "SAMEPORT_SOURCE",
    "SAMEPORT_TRANSPARENT",
    "SAMEPORT_FREEBIND",
    "SAMEPORT_REPORT",
    "SAMEPORT_CHILDREN",
];

/// The variables of bindp, read only if no variable of sameport is set, because other programs use
/// these names too.
pub(crate) const BINDP_VARIABLES: &[&str] =
    &["BIND_ADDR", "BIND_PORT", "REUSE_ADDR", "REUSE_PORT", "IP_TRANSPARENT"];

impl Settings {
    pub(crate) const fn new() -> Self {
        Self {
            flags: AtomicU32::new(0),
            ports: [const { [const { AtomicU64::new(0) }; 1024] }; 2],
            rules: [const { (AtomicAddr::new(), AtomicAddr::new()) }; MAX_RULES],
            rule_count: AtomicUsize::new(0),
            source: AtomicAddr::new(),
            bindp_ips: [const { AtomicAddr::new() }; 2],
            bindp_port: AtomicU16::new(0),
            name: [const { AtomicU64::new(0) }; 14],
            name_length: AtomicUsize::new(0),
        }
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.load(core::sync::atomic::Ordering::Acquire) & flag as u32 != 0
    }

    /// Sets a flag and returns whether it was set before.
    pub(crate) fn set(&self, flag: Flag) -> bool {
        self.flags.fetch_or(flag as u32, core::sync::atomic::Ordering::AcqRel) & flag as u32 != 0
    }

    /// Applies one variable.
    pub(crate) fn set_variable(&self, name: &str, value: &str) -> Result<(), SettingError> {
        match name {
            "SAMEPORT_SHARE" | "REUSE_PORT" => self.set_switch(Flag::Share, value),
            "SAMEPORT_TRANSPARENT" | "IP_TRANSPARENT" => self.set_switch(Flag::Transparent, value),
            "SAMEPORT_FREEBIND" => self.set_switch(Flag::Freebind, value),
            "REUSE_ADDR" => self.set_switch(Flag::ReuseAddress, value),
            "SAMEPORT_PORTS" => self.set_ports(value),
            "SAMEPORT_MAP" => self.set_rules(value),
            "SAMEPORT_SOURCE" => {
                let from = source::read(value).map_err(|_| SettingError::NotAnAddress)?;
                let port = Some(from.port()).filter(|port| *port != 0);
                self.source.store(None, &RuleSide { ip: Some(from.ip()), port });
                Ok(())
            }
            "BIND_ADDR" => self.set_bindp_ips(value),
            "BIND_PORT" => {
                self.bindp_port.store(port(value)?, Relaxed);
                Ok(())
            }
            "SAMEPORT_REPORT" => self.set_report_name(value.as_bytes()),
            "SAMEPORT_CHILDREN" => match value {
                "inherit" => Ok(()),
                "strip" => {
                    self.set(Flag::Strip);
                    Ok(())
                }
                _ => Err(SettingError::NotAChoice),
            },
            _ => Ok(()),
        }
    }

    fn set_switch(&self, flag: Flag, value: &str) -> Result<(), SettingError> {
        match value {
            "1" => {
                self.set(flag);
                Ok(())
            }
            "" | "0" => Ok(()),
            _ => Err(SettingError::NotASwitch),
        }
    }

    fn set_ports(&self, list: &str) -> Result<(), SettingError> {
        for text in list.split(',') {
            let (only, text) = take_protocol(text).ok_or(SettingError::NotAPort)?;
            let port = port(text)?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if only.is_none_or(|only| only == protocol) {
                    let words = &self.ports[table_of(protocol)];
                    words[usize::from(port / 64)].fetch_or(1 << (port % 64), Relaxed);
                }
            }
        }
        self.set(Flag::SomePorts);
        Ok(())
    }

    fn set_rules(&self, list: &str) -> Result<(), SettingError> {
        let mut count = 0;
        for text in list.split(',') {
            let rule = MapRule::from_str(text).map_err(|_| SettingError::NotARule)?;
            let (from, to) = self.rules.get(count).ok_or(SettingError::TooManyRules)?;
            from.store(rule.protocol, &rule.from);
            to.store(None, &rule.to);
            count += 1;
        }
        self.rule_count.fetch_max(count, Relaxed);
        Ok(())
    }

    /// BIND_ADDR: one address, or one address of each family, separated by a comma.
    fn set_bindp_ips(&self, list: &str) -> Result<(), SettingError> {
        let mut ips = [None; 2];
        for text in list.split(',') {
            let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            let ip = IpAddr::from_str(text).map_err(|_| SettingError::NotAnAddress)?;
            let index = usize::from(ip.is_ipv6());
            if ips[index].replace(ip).is_some() {
                return Err(SettingError::TwoOfOneFamily);
            }
        }
        for (cell, ip) in self.bindp_ips.iter().zip(ips) {
            cell.store(None, &RuleSide { ip, port: None });
        }
        Ok(())
    }

    fn set_report_name(&self, name: &[u8]) -> Result<(), SettingError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(SettingError::NotAName);
        }
        for (word, bytes) in self.name.iter().zip(name.chunks(8)) {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            word.store(u64::from_ne_bytes(padded), Relaxed);
        }
        self.name_length.store(name.len(), Relaxed);
        Ok(())
    }

    /// Whether a setting changes `bind`.
    pub(crate) fn affects_bind(&self) -> bool {
        self.has(Flag::Share)
            || self.has(Flag::ReuseAddress)
            || self.has(Flag::Transparent)
            || self.has(Flag::Freebind)
            || self.rule_count.load(Relaxed) > 0
            || self.bindp_port.load(Relaxed) != 0
            || self.bindp_ips.iter().any(|cell| cell.load().1.ip.is_some())
    }

    /// Whether a setting changes `connect` and `sendto`.
    pub(crate) fn affects_connect(&self) -> bool {
        self.source.load().1.ip.is_some()
            || self.bindp_ips.iter().any(|it| it.load().1.ip.is_some())
    }

    /// Whether SAMEPORT_PORTS includes the port.
    pub(crate) fn shares_port(&self, protocol: Protocol, port: u16) -> bool {
        let word = self.ports[table_of(protocol)][usize::from(port / 64)].load(Relaxed);
        !self.has(Flag::SomePorts) || word & 1 << (port % 64) != 0
    }

    /// The rules of SAMEPORT_MAP, in their order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = MapRule> {
        let count = self.rule_count.load(Relaxed).min(MAX_RULES);
        self.rules.iter().take(count).map(|(from, to)| {
            let ((protocol, from), (_, to)) = (from.load(), to.load());
            MapRule { protocol, from, to }
        })
    }

    /// The address of a bind by BIND_ADDR and BIND_PORT; `None` if they do not change it, and an error
    /// if the socket cannot have the family of the only address.
    pub(crate) fn bindp_address(
        &self,
        requested: SocketAddr,
        v6only: bool,
    ) -> Option<Result<SocketAddr, ()>> {
        let [four, six] = [0, 1].map(|index: usize| self.bindp_ips[index].load().1.ip);
        // Port 0 requests any free port.
        let port = match self.bindp_port.load(Relaxed) {
            port if port != 0 && requested.port() != 0 => port,
            _ => requested.port(),
        };
        let ip = match (requested, four, six) {
            (_, None, None) => requested.ip(),
            (SocketAddr::V4(_), Some(ip), _) | (SocketAddr::V6(_), _, Some(ip)) => ip,
            (SocketAddr::V6(_), Some(ip), None) if !v6only => mapped(ip),
            _ => return Some(Err(())),
        };
        let mut address = requested;
        if ip != requested.ip() {
            address = SocketAddr::new(ip, port);
        }
        address.set_port(port);
        (address != requested).then_some(Ok(address))
    }

    /// The source addresses of connections: SAMEPORT_SOURCE, or else BIND_ADDR, at most one address
    /// of each family. Port 0: any.
    pub(crate) fn sources(&self) -> impl Iterator<Item = SocketAddr> {
        let (_, own) = self.source.load();
        let port = self.bindp_port.load(Relaxed);
        let [four, six] = [0, 1].map(|index: usize| self.bindp_ips[index].load().1.ip);
        let sources = match own.ip {
            Some(ip) => [Some(SocketAddr::new(ip, own.port.unwrap_or(0))), None],
            None => [four, six].map(|ip| ip.map(|ip| SocketAddr::new(ip, port))),
        };
        sources.into_iter().flatten()
    }

    /// The abstract name of the report socket, and its length in bytes; 0 if unset.
    pub(crate) fn report_name(&self) -> ([u8; MAX_NAME + 5], usize) {
        let mut bytes = [0; MAX_NAME + 5];
        for (to, word) in bytes.chunks_mut(8).zip(&self.name) {
            for (to, from) in to.iter_mut().zip(word.load(Relaxed).to_ne_bytes()) {
                *to = from;
            }
        }
        (bytes, self.name_length.load(Relaxed).min(MAX_NAME))
    }
}

/// The IPv4-mapped IPv6 address of an IPv4 address.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

/// The place of a protocol in [`Settings::ports`].
fn table_of(protocol: Protocol) -> usize {
    usize::from(protocol == Protocol::Udp)
}

fn port(text: &str) -> Result<u16, SettingError> {
    let side = RuleSide::from_str(text).map_err(|()| SettingError::NotAPort)?;
    side.port.filter(|_| side.ip.is_none()).ok_or(SettingError::NotAPort)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
