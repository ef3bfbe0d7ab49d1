//! Guards: rules that decide which processes may bind a port.
//!
//! `crates/sys/bpf/guard.bpf.c` decides in the kernel, by the rules of [`decide`].

mod limits;
pub mod reserved_ports;
mod spec;
#[cfg(test)]
mod tests;

use sameport_addr::Protocol;

pub use limits::{MAX_CGROUP_DEPTH, MAX_CGROUP_NAME};
pub use spec::{AllowSpec, GuardPort, cgroup_path, parse_guarded};

/// The guard of one port: for one protocol, every address, one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The cookie of the network namespace.
    pub netns_cookie: u64,
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Refused binds are only recorded, and succeed.
    pub report_only: bool,
    /// A process may bind if one of these rules matches.
    pub allow: Vec<AllowRule>,
}

/// A rule for processes that may bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// Processes with this real user id, in the initial user namespace.
    User(u32),
    /// Processes in the cgroup with this path, or below. A new cgroup with the same path has the same
    /// rights.
    Cgroup(String),
    /// Processes that execute this file. `None`: the file is missing, and the rule matches no
    /// process.
    Executable(Option<FileId>),
}

/// The identity of a file, independent of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// The device number in the kernel's encoding: `major << 20 | minor`.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
    /// Distinguishes the file from an earlier one with the same inode number; `None` if the file
    /// system has no generations.
    pub generation: Option<u32>,
}

/// The properties of a binding process that rules compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binder {
    /// The real user id.
    pub uid: u32,
    /// The path of the cgroup.
    pub cgroup: Option<String>,
    /// The executed file.
    pub executable: Option<FileId>,
}

/// The verdict on a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardVerdict {
    /// The port has no guard.
    Unguarded,
    /// A rule allows it.
    Allowed,
    /// No rule allows it, and the guard only reports.
    Reported,
    /// No rule allows it.
    Refused,
}

/// Decides about a bind.
#[must_use]
pub fn decide(
    guards: &[Guard],
    network: u64,
    port: u16,
    protocol: Protocol,
    by: &Binder,
) -> GuardVerdict {
    let is_for_port = |guard: &&Guard| guard.is_for(network, port, protocol);
    match guards.iter().find(is_for_port) {
        None => GuardVerdict::Unguarded,
        Some(guard) if guard.allows(by) => GuardVerdict::Allowed,
        Some(guard) if guard.report_only => GuardVerdict::Reported,
        Some(_) => GuardVerdict::Refused,
    }
}

impl Guard {
    /// Whether this is the guard of the port.
    #[must_use]
    pub fn is_for(&self, network: u64, port: u16, protocol: Protocol) -> bool {
        (self.netns_cookie, self.port, self.protocol) == (network, port, protocol)
    }

    /// Whether a rule allows the process.
    #[must_use]
    pub fn allows(&self, by: &Binder) -> bool {
        self.allow.iter().any(|allowed| match allowed {
            AllowRule::User(uid) => *uid == by.uid,
            AllowRule::Cgroup(path) => by.cgroup.as_ref().is_some_and(|own| is_within(own, path)),
            AllowRule::Executable(wanted) => match (wanted, by.executable) {
                (Some(wanted), Some(own)) => wanted.matches(&own),
                _ => false,
            },
        })
    }
}

impl FileId {
    /// Whether a rule for this file matches another. A rule without a generation matches any.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let same = self.generation.is_none() || self.generation == other.generation;
        (self.device, self.inode) == (other.device, other.inode) && same
    }
}

/// Whether a cgroup is the rule's or below it.
fn is_within(own: &str, path: &str) -> bool {
    let deep = own.split('/').filter(|name| !name.is_empty()).count() > MAX_CGROUP_DEPTH;
    !deep && own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a cgroup is below a service or scope. systemd places the system's units below slices only;
/// the names inside a unit are chosen by its programs, such as a user's manager or a container.
#[must_use]
pub fn is_below_unit(path: &str) -> bool {
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    above.split('/').any(|name| name.ends_with(".service") || name.ends_with(".scope"))
}

/// One edge of the tree of allowed cgroups. Node 0 is the root cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupStep {
    /// The node of the parent.
    pub from: u32,
    /// The name of the child.
    pub name: String,
    /// The node of the child.
    pub to: u32,
}

/// The tree of these paths: its edges, and the node of each path.
#[must_use]
pub fn cgroup_steps<'a>(paths: impl Iterator<Item = &'a str>) -> (Vec<CgroupStep>, Vec<u32>) {
    let mut steps: Vec<CgroupStep> = Vec::new();
    let mut ends = Vec::new();
    for path in paths {
        let mut at = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let known = steps.iter().find(|step| step.from == at && step.name == name);
            at = known.map(|step| step.to).unwrap_or_else(|| {
                let to = u32::try_from(steps.len() + 1).unwrap_or(u32::MAX);
                steps.push(CgroupStep { from: at, name: name.to_owned(), to });
                to
            });
        }
        ends.push(at);
    }
    (steps, ends)
}
