//! The arguments of `sameport guard`.

use std::fmt;
use std::str::FromStr;

use sameport_addr::{PortSpec, Protocol};

use super::limits::{MAX_CGROUP_DEPTH, MAX_CGROUP_NAME};

/// A port to guard: `8443`, `8443/tcp`, `8443/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardPort {
    /// The port.
    pub number: u16,
    /// The protocol; `None` for both.
    pub protocol: Option<Protocol>,
}

impl GuardPort {
    /// The guarded protocols.
    #[must_use]
    pub fn protocols(self) -> &'static [Protocol] {
        match self.protocol {
            Some(Protocol::Tcp) => &[Protocol::Tcp],
            Some(Protocol::Udp) => &[Protocol::Udp],
            None => &[Protocol::Tcp, Protocol::Udp],
        }
    }
}

/// Parses the port to guard: a port, or an address, as every verb prints it.
///
/// # Errors
///
/// A message with the expected form.
pub fn parse_guarded(text: &str) -> Result<PortSpec, String> {
    if ["all", "any", "*", "0"].contains(&text.split('/').next().unwrap_or_default()) {
        return Err("a guard is for one port: give its number, 1 to 65535".to_owned());
    }
    PortSpec::parse_fixed(text).map_err(|error| error.to_string())
}

/// A guard is for every address and device of a port.
impl From<&PortSpec> for GuardPort {
    fn from(spec: &PortSpec) -> Self {
        Self { number: spec.addr.port, protocol: spec.protocol }
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

/// An `--allow` argument.
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

/// The text that it parses from.
impl fmt::Display for AllowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::User(user) => ("uid", user),
            Self::Unit(unit) => ("unit", unit),
            Self::Cgroup(path) => ("cgroup", path),
            Self::Executable(path) => ("exe", path),
        };
        write!(f, "{kind}={value}")
    }
}

/// Normalizes the path of a cgroup, as in `/proc/PID/cgroup`.
///
/// # Errors
///
/// If no rule can have this path. The message says why.
pub fn cgroup_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("the path of a cgroup begins with /, as in /proc/PID/cgroup");
    }
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err("every process is in the root cgroup: name one below it");
    }
    if names.iter().any(|name| [".", ".."].contains(name)) {
        return Err("the path of a cgroup has no . and no ..");
    }
    if names.len() > MAX_CGROUP_DEPTH {
        return Err("a cgroup more than 16 levels deep is out of reach of the guard program");
    }
    if names.iter().any(|name| name.len() > MAX_CGROUP_NAME) {
        return Err("a cgroup name of more than 154 bytes is too long for the guard program");
    }
    Ok(format!("/{}", names.join("/")))
}
