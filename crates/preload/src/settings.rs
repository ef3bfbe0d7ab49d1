//! What the variables ask for, kept for as long as the program lives.
//!
//! Read once, before `main` as a rule, or by the first call that needs it: a constructor of another
//! library may bind before ours has run. Everything is an atomic, whoever reads stores the same
//! values, and nothing is ever taken back: so several threads, a signal handler or a `vfork`ed
//! child may read at the same time without waiting for each other, and a program that overwrites
//! its environment later (to change its title) changes nothing.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr as _;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::map::{MapRule, RuleSide};
use crate::protocol::Protocol;
use crate::source;

/// The most rules that SAMEPORT_MAP may have.
pub(crate) const MOST_RULES: usize = 1024;

/// The longest abstract name of a Unix socket.
pub(crate) const LONGEST_NAME: usize = 107;

/// What is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AtomicFlag {
    /// The variables have been read.
    Read = 1,
    /// A variable is wrong: nothing may be bound, rather than something that was not meant.
    Broken = 1 << 1,
    /// SAMEPORT_SHARE, REUSE_PORT.
    Share = 1 << 2,
    /// SAMEPORT_PORTS is there: only those are shared.
    SomePorts = 1 << 3,
    /// REUSE_ADDR.
    ReuseAddress = 1 << 4,
    /// SAMEPORT_TRANSPARENT, IP_TRANSPARENT.
    Transparent = 1 << 5,
    /// SAMEPORT_CHILDREN=strip.
    Strip = 1 << 6,
    /// The report that the library is loaded has been sent.
    Told = 1 << 7,
}

/// A protocol, an IP and a port, each of which may be missing.
struct AtomicAddr {
    /// 0, 4 or 6; plus 8 for TCP only, 16 for UDP only; plus the port, shifted.
    head: AtomicU64,
    ip: [AtomicU64; 2],
}

impl AtomicAddr {
    const fn new() -> Self {
        Self { head: AtomicU64::new(0), ip: [const { AtomicU64::new(0) }; 2] }
    }

    fn put(&self, protocol: Option<Protocol>, side: &RuleSide) {
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

    fn get(&self) -> (Option<Protocol>, RuleSide) {
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

/// All of it.
pub(crate) struct HookSettings {
    flags: AtomicU32,
    /// A bit a port.
    ports: [AtomicU64; 1024],
    rules: [(AtomicAddr, AtomicAddr); MOST_RULES],
    rule_count: AtomicUsize,
    /// SAMEPORT_SOURCE.
    source: AtomicAddr,
    /// BIND_ADDR, one for each family.
    every_ip: [AtomicAddr; 2],
    /// BIND_PORT, or 0.
    every_port: AtomicU16,
    name: [AtomicU64; 14],
    name_length: AtomicUsize,
}

/// Why a variable is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingError {
    NotASwitch,
    NotAPort,
    NotARule,
    TooManyRules,
    NotAnAddress,
    TwoOfOneFamily,
    NotAName,
    NotAWord,
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
            Self::NotAWord => "write inherit or strip",
        })
    }
}

/// Our variables.
pub(crate) const OWN: &[&str] = &[
    "SAMEPORT_SHARE",
    "SAMEPORT_PORTS",
    "SAMEPORT_MAP",
    "SAMEPORT_SOURCE",
    "SAMEPORT_TRANSPARENT",
    "SAMEPORT_REPORT",
    "SAMEPORT_CHILDREN",
];

/// bindp's, read only where none of ours is there: their names are taken by many programs.
pub(crate) const OF_BINDP: &[&str] =
    &["BIND_ADDR", "BIND_PORT", "REUSE_ADDR", "REUSE_PORT", "IP_TRANSPARENT"];

impl HookSettings {
    pub(crate) const fn new() -> Self {
        Self {
            flags: AtomicU32::new(0),
            ports: [const { AtomicU64::new(0) }; 1024],
            rules: [const { (AtomicAddr::new(), AtomicAddr::new()) }; MOST_RULES],
            rule_count: AtomicUsize::new(0),
            source: AtomicAddr::new(),
            every_ip: [const { AtomicAddr::new() }; 2],
            every_port: AtomicU16::new(0),
            name: [const { AtomicU64::new(0) }; 14],
            name_length: AtomicUsize::new(0),
        }
    }

    pub(crate) fn has(&self, flag: AtomicFlag) -> bool {
        self.flags.load(core::sync::atomic::Ordering::Acquire) & flag as u32 != 0
    }

    /// Sets a flag; whether it was set before.
    pub(crate) fn set(&self, flag: AtomicFlag) -> bool {
        self.flags.fetch_or(flag as u32, core::sync::atomic::Ordering::AcqRel) & flag as u32 != 0
    }

    /// Takes one variable.
    pub(crate) fn take(&self, name: &str, value: &str) -> Result<(), SettingError> {
        match name {
            "SAMEPORT_SHARE" | "REUSE_PORT" => self.switch(AtomicFlag::Share, value),
            "SAMEPORT_TRANSPARENT" | "IP_TRANSPARENT" => {
                self.switch(AtomicFlag::Transparent, value)
            }
            "REUSE_ADDR" => self.switch(AtomicFlag::ReuseAddress, value),
            "SAMEPORT_PORTS" => self.take_ports(value),
            "SAMEPORT_MAP" => self.take_rules(value),
            "SAMEPORT_SOURCE" => {
                let from = source::read(value).map_err(|_| SettingError::NotAnAddress)?;
                let port = Some(from.port()).filter(|port| *port != 0);
                self.source.put(None, &RuleSide { ip: Some(from.ip()), port });
                Ok(())
            }
            "BIND_ADDR" => self.take_every_ip(value),
            "BIND_PORT" => {
                self.every_port.store(port(value)?, Relaxed);
                Ok(())
            }
            "SAMEPORT_REPORT" => self.take_name(value.as_bytes()),
            "SAMEPORT_CHILDREN" => match value {
                "inherit" => Ok(()),
                "strip" => {
                    self.set(AtomicFlag::Strip);
                    Ok(())
                }
                _ => Err(SettingError::NotAWord),
            },
            _ => Ok(()),
        }
    }

    fn switch(&self, flag: AtomicFlag, value: &str) -> Result<(), SettingError> {
        match value {
            "1" => {
                self.set(flag);
                Ok(())
            }
            "" | "0" => Ok(()),
            _ => Err(SettingError::NotASwitch),
        }
    }

    fn take_ports(&self, list: &str) -> Result<(), SettingError> {
        for text in list.split(',') {
            let port = port(text)?;
            self.ports[usize::from(port / 64)].fetch_or(1 << (port % 64), Relaxed);
        }
        self.set(AtomicFlag::SomePorts);
        Ok(())
    }

    fn take_rules(&self, list: &str) -> Result<(), SettingError> {
        let mut count = 0;
        for text in list.split(',') {
            let rule = MapRule::from_str(text).map_err(|_| SettingError::NotARule)?;
            let (from, to) = self.rules.get(count).ok_or(SettingError::TooManyRules)?;
            from.put(rule.protocol, &rule.from);
            to.put(None, &rule.to);
            count += 1;
        }
        self.rule_count.fetch_max(count, Relaxed);
        Ok(())
    }

    /// BIND_ADDR: one address, or one of each family, separated by a comma.
    fn take_every_ip(&self, list: &str) -> Result<(), SettingError> {
        let mut given = [None; 2];
        for text in list.split(',') {
            let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            let ip = IpAddr::from_str(text).map_err(|_| SettingError::NotAnAddress)?;
            let place = usize::from(ip.is_ipv6());
            if given[place].replace(ip).is_some() {
                return Err(SettingError::TwoOfOneFamily);
            }
        }
        for (cell, ip) in self.every_ip.iter().zip(given) {
            cell.put(None, &RuleSide { ip, port: None });
        }
        Ok(())
    }

    fn take_name(&self, name: &[u8]) -> Result<(), SettingError> {
        if name.is_empty() || name.len() > LONGEST_NAME {
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

    /// Whether there is anything to do in `bind`.
    pub(crate) fn ask_for_binds(&self) -> bool {
        self.has(AtomicFlag::Share)
            || self.has(AtomicFlag::ReuseAddress)
            || self.has(AtomicFlag::Transparent)
            || self.rule_count.load(Relaxed) > 0
            || self.every_port.load(Relaxed) != 0
            || self.every_ip.iter().any(|cell| cell.get().1.ip.is_some())
    }

    /// Whether there is anything to do in `connect` and `sendto`.
    pub(crate) fn ask_for_sources(&self) -> bool {
        self.source.get().1.ip.is_some() || self.every_ip.iter().any(|it| it.get().1.ip.is_some())
    }

    pub(crate) fn shares_port(&self, port: u16) -> bool {
        let word = self.ports[usize::from(port / 64)].load(Relaxed);
        !self.has(AtomicFlag::SomePorts) || word & 1 << (port % 64) != 0
    }

    /// The rules of SAMEPORT_MAP, in their order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = MapRule> {
        let count = self.rule_count.load(Relaxed).min(MOST_RULES);
        self.rules.iter().take(count).map(|(from, to)| {
            let ((protocol, from), (_, to)) = (from.get(), to.get());
            MapRule { protocol, from, to }
        })
    }

    /// What BIND_ADDR and BIND_PORT make of an address; `None` where they ask for nothing, and an
    /// error where the only address they name is of a family that this socket cannot have.
    pub(crate) fn moved_by_bindp(
        &self,
        asked: SocketAddr,
        v6only: bool,
    ) -> Option<Result<SocketAddr, ()>> {
        let [four, six] = [0, 1].map(|place: usize| self.every_ip[place].get().1.ip);
        // Port 0 asks for any free port.
        let port = match self.every_port.load(Relaxed) {
            port if port != 0 && asked.port() != 0 => port,
            _ => asked.port(),
        };
        let ip = match (asked, four, six) {
            (_, None, None) => asked.ip(),
            (SocketAddr::V4(_), Some(ip), _) | (SocketAddr::V6(_), _, Some(ip)) => ip,
            (SocketAddr::V6(_), Some(ip), None) if !v6only => mapped(ip),
            _ => return Some(Err(())),
        };
        let mut moved = asked;
        if ip != asked.ip() {
            moved = SocketAddr::new(ip, port);
        }
        moved.set_port(port);
        (moved != asked).then_some(Ok(moved))
    }

    /// Where connections are to come from: SAMEPORT_SOURCE, or else BIND_ADDR, which can have one
    /// address for each family. Port 0: any.
    pub(crate) fn sources(&self) -> impl Iterator<Item = SocketAddr> {
        let (_, own) = self.source.get();
        let port = self.every_port.load(Relaxed);
        let [four, six] = [0, 1].map(|place: usize| self.every_ip[place].get().1.ip);
        let given = match own.ip {
            Some(ip) => [Some(SocketAddr::new(ip, own.port.unwrap_or(0))), None],
            None => [four, six].map(|ip| ip.map(|ip| SocketAddr::new(ip, port))),
        };
        given.into_iter().flatten()
    }

    /// The name of the socket that reports go to, and its length; 0 if there is none.
    pub(crate) fn report_name(&self) -> ([u8; LONGEST_NAME + 5], usize) {
        let mut bytes = [0; LONGEST_NAME + 5];
        for (to, word) in bytes.chunks_mut(8).zip(&self.name) {
            for (to, from) in to.iter_mut().zip(word.load(Relaxed).to_ne_bytes()) {
                *to = from;
            }
        }
        (bytes, self.name_length.load(Relaxed).min(LONGEST_NAME))
    }
}

/// IPv4 as an IPv6 socket writes it.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

fn port(text: &str) -> Result<u16, SettingError> {
    let side = RuleSide::from_str(text).map_err(|()| SettingError::NotAPort)?;
    side.port.filter(|_| side.ip.is_none()).ok_or(SettingError::NotAPort)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
