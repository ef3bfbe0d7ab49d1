//! The file of guards: `/etc/sameport/guards.json`.

use std::collections::BTreeSet;

use sameport_policy::addr::Protocol;
use sameport_policy::guard;
use sameport_policy::guard::{AllowRule, AllowSpec, FileId, Guard};
use serde::{Deserialize, Serialize};

/// All guards of the machine. Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRecord {
    version: u32,
    /// The boot id: cookies of network namespaces are valid during one boot.
    pub boot: String,
    /// Ports that sameport reserved, and that were not reserved before.
    pub reserved: Vec<ReservedPort>,
    /// One guard a port, protocol and network namespace.
    pub guards: Vec<GuardEntry>,
}

/// A port that sameport added to `net.ipv4.ip_local_reserved_ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedPort {
    /// The cookie of the network namespace.
    pub network: u64,
    /// The port.
    pub port: u16,
}

/// A guard with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardEntry {
    /// The cookie of its network namespace.
    pub network: u64,
    /// Whether that is the network namespace of the first process: it is restored after a boot.
    pub first: bool,
    /// The port.
    pub port: u16,
    protocol: Transport,
    /// Refused binds are only recorded, and succeed.
    pub report_only: bool,
    /// Seconds since 1970.
    pub since: u64,
    /// A process may bind if one of these rules matches.
    pub allow: Vec<AllowEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    Tcp,
    Udp,
}

/// A rule as it was written and as it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum AllowEntry {
    /// The processes of a user.
    User {
        /// The login name, or the number, as it was written.
        name: String,
        /// The real user id.
        uid: u32,
    },
    /// The processes of a systemd unit.
    Unit {
        /// Its name, as it was written.
        unit: String,
        /// The path of its cgroup.
        cgroup: String,
    },
    /// The processes of a cgroup, and of those below it.
    Cgroup {
        /// Its path.
        cgroup: String,
    },
    /// The processes that execute a file.
    Executable {
        /// Its path.
        path: String,
        /// `None`: the file is missing.
        file: Option<FileEntry>,
    },
}

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    device: u64,
    inode: u64,
    generation: Option<u32>,
}

/// The place and time of a new guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardOrigin {
    /// The cookie of the network namespace.
    pub network: u64,
    /// Whether that is the network namespace of the first process.
    pub first: bool,
    /// The boot id.
    pub boot: String,
    /// Seconds since 1970.
    pub now: u64,
}

impl GuardRecord {
    /// A record without guards.
    #[must_use]
    pub fn new(here: &GuardOrigin) -> Self {
        Self { version: 1, boot: here.boot.clone(), reserved: vec![], guards: vec![] }
    }

    /// Parses the file; an empty file has no guards.
    ///
    /// # Errors
    ///
    /// What is not valid in it.
    pub fn read(text: &str, here: &GuardOrigin) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::new(here));
        }
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.version != 1 {
            return Err(format!("version {} is not known here", record.version));
        }
        for (place, entry) in record.guards.iter().enumerate() {
            let wrong = |what: &str| Err(format!("guard {}: {what}", place + 1));
            if entry.port == 0 {
                return wrong("a guard is for one port, 1 to 65535");
            }
            for allow in &entry.allow {
                let (AllowEntry::Unit { cgroup, .. } | AllowEntry::Cgroup { cgroup }) = allow
                else {
                    continue;
                };
                match guard::cgroup_path(cgroup) {
                    Err(why) => return wrong(why),
                    Ok(path) if path != *cgroup => return wrong(&format!("write {path}")),
                    Ok(_) => {}
                }
            }
            if record.guards[..place].iter().any(|other| other.is_for_the_same_as(entry)) {
                return wrong("an earlier one is for the same port");
            }
        }
        Ok(record)
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_else(|error| {
            unreachable!("plain structs with text keys are always JSON: {error}")
        });
        text.push('\n');
        text
    }

    /// Adapts a record of an earlier boot, whose cookies are no longer valid: only the guards of the first
    /// network namespace remain. `None` if this process is in another one and cannot know its cookie.
    #[must_use]
    pub fn brought_to(mut self, here: &GuardOrigin) -> Option<Self> {
        if self.boot == here.boot {
            return Some(self);
        }
        self.guards.retain(|entry| entry.first);
        if !here.first && !self.guards.is_empty() {
            return None;
        }
        for entry in &mut self.guards {
            entry.network = here.network;
        }
        self.reserved.clear();
        self.boot.clone_from(&here.boot);
        Some(self)
    }

    /// Adds a guard and returns the guard of the same port, which it replaces.
    pub fn put(&mut self, entry: GuardEntry) -> Option<GuardEntry> {
        let replaced = self.take(entry.network, entry.port, entry.protocol());
        self.guards.push(entry);
        self.guards.sort_by_key(|entry| (entry.network, entry.port, entry.protocol()));
        replaced
    }

    /// Removes the guard of a port.
    pub fn take(&mut self, network: u64, port: u16, protocol: Protocol) -> Option<GuardEntry> {
        let is_it = |entry: &GuardEntry| {
            (entry.network, entry.port, entry.protocol()) == (network, port, protocol)
        };
        let place = self.guards.iter().position(is_it)?;
        Some(self.guards.remove(place))
    }

    /// The rules for the kernel.
    #[must_use]
    pub fn rules(&self) -> Vec<Guard> {
        self.guards.iter().map(GuardEntry::rule).collect()
    }

    /// The guarded ports of a network namespace.
    #[must_use]
    pub fn ports(&self, network: u64) -> BTreeSet<u16> {
        self.guards.iter().filter(|it| it.network == network).map(|it| it.port).collect()
    }

    /// The ports that sameport reserved there.
    #[must_use]
    pub fn reserved(&self, network: u64) -> BTreeSet<u16> {
        self.reserved.iter().filter(|it| it.network == network).map(|it| it.port).collect()
    }

    /// Replaces the ports that sameport reserved there.
    pub fn set_reserved(&mut self, network: u64, ports: &BTreeSet<u16>) {
        self.reserved.retain(|it| it.network != network);
        self.reserved.extend(ports.iter().map(|port| ReservedPort { network, port: *port }));
    }
}

impl GuardEntry {
    /// A guard that is set here and now.
    #[must_use]
    pub fn new(
        here: &GuardOrigin,
        port: u16,
        protocol: Protocol,
        report_only: bool,
        allow: Vec<AllowEntry>,
    ) -> Self {
        let protocol = match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        let GuardOrigin { network, first, now: since, .. } = *here;
        Self { network, first, port, protocol, report_only, since, allow }
    }

    /// The protocol of the port.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }

    fn is_for_the_same_as(&self, other: &Self) -> bool {
        self.rule().is_for(other.network, other.port, other.protocol())
    }

    /// The rule of the guard.
    #[must_use]
    pub fn rule(&self) -> Guard {
        Guard {
            netns_cookie: self.network,
            port: self.port,
            protocol: self.protocol(),
            report_only: self.report_only,
            allow: self.allow.iter().map(AllowEntry::rule).collect(),
        }
    }
}

impl AllowEntry {
    /// The rule as `--allow` has it.
    #[must_use]
    pub fn spec(&self) -> AllowSpec {
        match self {
            Self::User { name, .. } => AllowSpec::User(name.clone()),
            Self::Unit { unit, .. } => AllowSpec::Unit(unit.clone()),
            Self::Cgroup { cgroup } => AllowSpec::Cgroup(cgroup.clone()),
            Self::Executable { path, .. } => AllowSpec::Executable(path.clone()),
        }
    }

    fn rule(&self) -> AllowRule {
        match self {
            Self::User { uid, .. } => AllowRule::User(*uid),
            Self::Unit { cgroup, .. } | Self::Cgroup { cgroup } => {
                AllowRule::Cgroup(cgroup.clone())
            }
            Self::Executable { file, .. } => AllowRule::Executable(file.map(FileId::from)),
        }
    }
}

impl From<FileId> for FileEntry {
    fn from(FileId { device, inode: number, generation }: FileId) -> Self {
        Self { device, inode: number, generation }
    }
}

impl From<FileEntry> for FileId {
    fn from(FileEntry { device, inode, generation }: FileEntry) -> Self {
        Self { device, inode, generation }
    }
}

/// The hash of the file that the kernel keeps with the guards (FNV-1a).
#[must_use]
pub fn mark(text: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
