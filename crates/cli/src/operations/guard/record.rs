//! The file of guards: `/etc/sameport/guards.json`.

use std::collections::BTreeSet;

use sameport_policy::addr::Protocol;
use sameport_policy::guard;
use sameport_policy::guard::{AllowRule, FileId, Guard};
use serde::{Deserialize, Serialize};

/// All guards of the machine. Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardRecord {
    version: u32,
    /// The boot id: cookies of network namespaces are valid during one boot.
    pub(super) boot: String,
    /// Ports that sameport reserved, and that were not reserved before.
    pub(super) reserved: Vec<ReservedPort>,
    pub(crate) guards: Vec<GuardEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReservedPort {
    pub(super) network: u64,
    pub(super) port: u16,
}

/// A guard with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardEntry {
    /// The cookie of its network namespace.
    pub(crate) network: u64,
    /// Whether that is the network namespace of the first process: it is restored after a boot.
    pub(super) first: bool,
    pub(crate) port: u16,
    protocol: Transport,
    pub(crate) report_only: bool,
    /// Seconds since 1970.
    pub(crate) since: u64,
    pub(crate) allow: Vec<AllowEntry>,
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
pub(crate) enum AllowEntry {
    User { name: String, uid: u32 },
    Unit { unit: String, cgroup: String },
    Cgroup { cgroup: String },
    Executable { path: String, file: Option<FileEntry> },
}

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    device: u64,
    inode: u64,
    generation: Option<u32>,
}

/// The place and time of a new guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuardOrigin {
    pub(super) network: u64,
    pub(super) first: bool,
    pub(super) boot: String,
    pub(super) now: u64,
}

impl GuardRecord {
    /// A record without guards.
    pub(super) fn new(here: &GuardOrigin) -> Self {
        Self { version: 1, boot: here.boot.clone(), reserved: vec![], guards: vec![] }
    }

    /// Parses the file; an empty file has no guards.
    pub(super) fn read(text: &str, here: &GuardOrigin) -> Result<Self, String> {
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
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_else(|error| {
            unreachable!("plain structs with text keys are always JSON: {error}")
        });
        text.push('\n');
        text
    }

    /// Adapts a record of an earlier boot, whose cookies are no longer valid: only the guards of the first
    /// network namespace remain. `None` if this process is in another one and cannot know its cookie.
    pub(super) fn brought_to(mut self, here: &GuardOrigin) -> Option<Self> {
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
    pub(super) fn put(&mut self, entry: GuardEntry) -> Option<GuardEntry> {
        let replaced = self.take(entry.network, entry.port, entry.protocol());
        self.guards.push(entry);
        self.guards.sort_by_key(|entry| (entry.network, entry.port, entry.protocol()));
        replaced
    }

    /// Removes the guard of a port.
    pub(super) fn take(
        &mut self,
        network: u64,
        port: u16,
        protocol: Protocol,
    ) -> Option<GuardEntry> {
        let is_it = |entry: &GuardEntry| {
            (entry.network, entry.port, entry.protocol()) == (network, port, protocol)
        };
        let place = self.guards.iter().position(is_it)?;
        Some(self.guards.remove(place))
    }

    /// The rules for the kernel.
    pub(super) fn rules(&self) -> Vec<Guard> {
        self.guards.iter().map(GuardEntry::rule).collect()
    }

    /// The guarded ports of a network namespace.
    pub(super) fn ports(&self, network: u64) -> BTreeSet<u16> {
        self.guards.iter().filter(|it| it.network == network).map(|it| it.port).collect()
    }

    /// The ports that sameport reserved there.
    pub(super) fn reserved(&self, network: u64) -> BTreeSet<u16> {
        self.reserved.iter().filter(|it| it.network == network).map(|it| it.port).collect()
    }

    pub(super) fn set_reserved(&mut self, network: u64, ports: &BTreeSet<u16>) {
        self.reserved.retain(|it| it.network != network);
        self.reserved.extend(ports.iter().map(|port| ReservedPort { network, port: *port }));
    }
}

impl GuardEntry {
    pub(super) fn new(
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

    pub(crate) fn protocol(&self) -> Protocol {
        match self.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }

    fn is_for_the_same_as(&self, other: &Self) -> bool {
        self.rule().is_for(other.network, other.port, other.protocol())
    }

    /// The rule of the guard.
    pub(super) fn rule(&self) -> Guard {
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
pub(super) fn mark(text: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
