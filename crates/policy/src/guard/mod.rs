//! Guards: who may bind a port.
//!
//! The kernel decides by `bpf/guard.bpf.c`, which is [`decide`] in other words.

pub mod reserved_ports;

use std::fmt;
use std::str::FromStr;

use sameport_addr::Protocol;
use sameport_addr::parse_fixed_port;

/// The longest name of a cgroup that a rule can have, in bytes.
pub const MAX_CGROUP_NAME: usize = 154;
/// How deep below the first cgroup a rule's cgroup can be, and how deep the kernel's side looks.
pub const MAX_CGROUP_DEPTH: usize = 16;

/// The rule for one port of one protocol, for every address, in one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The cookie of the network namespace.
    pub netns_cookie: u64,
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Nobody is refused; who would be is noted.
    pub report_only: bool,
    /// Who may bind it: whoever is named by one of these.
    pub allow: Vec<AllowRule>,
}

/// Who may bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// Processes whose real user this is, in the machine's first user namespace.
    User(u32),
    /// Processes in the cgroup with this path, and below. The path counts, not the cgroup: one that
    /// is made anew has the same rights.
    Cgroup(String),
    /// Processes that execute this file. `None`: the file is missing, and this allows nobody.
    Executable(Option<FileId>),
}

/// A file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// The file system's device number as the kernel has it: major shifted left by 20, and minor.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Tells it from an earlier file with its number, where the file system has such a thing.
    pub generation: Option<u32>,
}

/// Who binds, as far as guards ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binder {
    /// The real user.
    pub uid: u32,
    /// The path of its cgroup.
    pub cgroup: Option<String>,
    /// The file that it executes.
    pub executable: Option<FileId>,
}

/// What becomes of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardVerdict {
    /// No guard is on that port.
    Unguarded,
    /// It is allowed.
    Allowed,
    /// It would be refused, and is only noted.
    Reported,
    /// It is refused.
    Refused,
}

/// What the guards say to a bind.
#[must_use]
pub fn decide(
    guards: &[Guard],
    network: u64,
    port: u16,
    protocol: Protocol,
    by: &Binder,
) -> GuardVerdict {
    let is_it = |guard: &&Guard| guard.is_for(network, port, protocol);
    match guards.iter().find(is_it) {
        None => GuardVerdict::Unguarded,
        Some(guard) if guard.allows(by) => GuardVerdict::Allowed,
        Some(guard) if guard.report_only => GuardVerdict::Reported,
        Some(_) => GuardVerdict::Refused,
    }
}

impl Guard {
    /// Whether it is the guard of this port.
    #[must_use]
    pub fn is_for(&self, network: u64, port: u16, protocol: Protocol) -> bool {
        (self.netns_cookie, self.port, self.protocol) == (network, port, protocol)
    }

    /// Whether it lets this one bind.
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
    /// Whether the rule for this file is for that one. Without a generation, every one is.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let same = self.generation.is_none() || self.generation == other.generation;
        (self.device, self.inode) == (other.device, other.inode) && same
    }
}

/// Whether a cgroup is that of the rule or below it.
fn is_within(own: &str, path: &str) -> bool {
    let deep = own.split('/').filter(|name| !name.is_empty()).count() > MAX_CGROUP_DEPTH;
    !deep && own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a cgroup is below that of a service or a scope. systemd puts the machine's units below slices
/// alone; what is inside of a unit is named by whoever runs that: a user's own manager, a container.
#[must_use]
pub fn is_below_unit(path: &str) -> bool {
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    above.split('/').any(|name| name.ends_with(".service") || name.ends_with(".scope"))
}

/// One step on the way to a cgroup that is allowed: from a place, by a name, to a place. 0 is the
/// first cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupStep {
    /// Where it starts.
    pub from: u32,
    /// The name of the cgroup below it.
    pub name: String,
    /// Where it ends.
    pub to: u32,
}

/// The steps to all of these paths, and the place where each path ends.
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

/// Whether a program of this name runs what it is given to read, so that the file it executes says
/// little of what it does.
#[must_use]
pub fn is_interpreter(file_name: &str) -> bool {
    const INTERPRETERS: &[&str] = &[
        "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "java", "lua",
        "luajit", "bash", "sh", "dash", "zsh", "ksh", "fish", "busybox", "tclsh", "guile",
        "dotnet", "mono", "erl", "beam.smp", "escript", "R", "julia", "gawk", "mawk", "qemu",
        "gdb", "socat", "nc", "ncat", "openssl", "ld",
    ];
    // python3.11, lua5.4, qemu-aarch64-static
    let stem = file_name.split('-').next().unwrap_or(file_name);
    let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&stem) || INTERPRETERS.contains(&file_name)
}

/// Which port, as written: `8443`, `8443/tcp`, `8443/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardPort {
    /// The number.
    pub number: u16,
    /// `None`: both.
    pub protocol: Option<Protocol>,
}

impl GuardPort {
    /// The protocols meant.
    #[must_use]
    pub fn protocols(self) -> &'static [Protocol] {
        match self.protocol {
            Some(Protocol::Tcp) => &[Protocol::Tcp],
            Some(Protocol::Udp) => &[Protocol::Udp],
            None => &[Protocol::Tcp, Protocol::Udp],
        }
    }
}

impl FromStr for GuardPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = match text.split_once('/') {
            None => (text, None),
            Some((number, "tcp")) => (number, Some(Protocol::Tcp)),
            Some((number, "udp")) => (number, Some(Protocol::Udp)),
            Some(_) => return Err("after the port: /tcp, /udp or nothing for both".to_owned()),
        };
        if ["all", "any", "*", "0"].contains(&number) {
            return Err("a guard is for one port: give its number, 1 to 65535".to_owned());
        }
        let number = parse_fixed_port(number).map_err(|error| error.to_string())?;
        Ok(Self { number, protocol })
    }
}

impl fmt::Display for GuardPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(protocol) => f.pad(&format!("{}/{protocol}", self.number)),
            None => f.pad(&self.number.to_string()),
        }
    }
}

/// Who is to be allowed, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowSpec {
    /// `uid=NAME` or `uid=NUMBER`.
    User(String),
    /// `unit=NAME`.
    Unit(String),
    /// `cgroup=/PATH`.
    Cgroup(String),
    /// `exe=/PATH`.
    Executable(String),
}

impl FromStr for AllowSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH";
        let (kind, value) = text.split_once('=').ok_or_else(|| FORM.to_owned())?;
        if value.is_empty() || value.contains('\0') {
            return Err(format!("nothing after {kind}=: {FORM}"));
        }
        match kind {
            "uid" => Ok(Self::User(value.to_owned())),
            "unit" => Ok(Self::Unit(value.to_owned())),
            "exe" if value.starts_with('/') => Ok(Self::Executable(value.to_owned())),
            "exe" => Err("the path of an executable begins with /".to_owned()),
            "cgroup" => cgroup_path(value).map(Self::Cgroup).map_err(str::to_owned),
            _ => Err(FORM.to_owned()),
        }
    }
}

/// The path of a cgroup as the kernel writes it, if a rule can be for it.
///
/// # Errors
/// Why it cannot.
pub fn cgroup_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("the path of a cgroup begins with /, as in /proc/PID/cgroup");
    }
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err("every process is in the first cgroup: name one below it");
    }
    if names.iter().any(|name| [".", ".."].contains(name)) {
        return Err("the path of a cgroup has no . and no ..");
    }
    if names.len() > MAX_CGROUP_DEPTH {
        return Err(
            "a cgroup that is more than 16 levels deep cannot be told by the kernel's side",
        );
    }
    if names.iter().any(|name| name.len() > MAX_CGROUP_NAME) {
        return Err("a cgroup's name of more than 154 bytes cannot be told by the kernel's side");
    }
    Ok(format!("/{}", names.join("/")))
}

#[cfg(test)]
mod tests;
