//! What the library is told: environment variables for the programs that load it.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use sameport_policy::bind::map::{MapRule, RuleSide};
use sameport_policy::bind::verdict::PortSet;

/// How the library's file name begins, wherever it lies: by this it knows itself in LD_PRELOAD.
pub const LIBRARY_PREFIX: &str = "libsameport_preload";

/// What the library is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryOptions<'a> {
    /// The ports to share, if any are.
    pub share: Option<&'a PortSet>,
    /// Rules of `--map`, at most 1,024.
    pub map: &'a [MapRule],
    /// Where outgoing connections come from; port 0 for any.
    pub source: Option<SocketAddr>,
    /// Whether sockets may have addresses that are not this machine's.
    pub transparent: bool,
    /// The name of the inbox for its reports.
    pub report: &'a str,
    /// Whether programs that the program executes are reached as well.
    pub children: ChildPolicy,
}

/// Programs that a program executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildPolicy {
    /// They are reached as well.
    Inherit,
    /// They get an environment without us.
    Strip,
}

impl LibraryOptions<'_> {
    /// The variables to set, and [`Orders::UNSET`] are to be removed first. `already`: LD_PRELOAD as
    /// it is; it is kept, behind ours.
    #[must_use]
    pub fn variables(
        &self,
        library: &Path,
        already: Option<&OsStr>,
    ) -> Vec<(&'static str, OsString)> {
        let mut set = vec![
            ("LD_PRELOAD", ld_preload(library, already)),
            ("SAMEPORT_REPORT", self.report.into()),
        ];
        if let Some(ports) = self.share {
            set.push(("SAMEPORT_SHARE", "1".into()));
            if let PortSet::Only(ports) = ports {
                set.push(("SAMEPORT_PORTS", joined(ports).into()));
            }
        }
        if !self.map.is_empty() {
            set.push(("SAMEPORT_MAP", joined(self.map).into()));
        }
        if let Some(source) = self.source {
            let port = Some(source.port()).filter(|port| *port != 0);
            let side = RuleSide { ip: Some(source.ip()), port };
            set.push(("SAMEPORT_SOURCE", side.to_string().into()));
        }
        if self.transparent {
            set.push(("SAMEPORT_TRANSPARENT", "1".into()));
        }
        if self.children == ChildPolicy::Strip {
            set.push(("SAMEPORT_CHILDREN", "strip".into()));
        }
        set
    }

    /// Every variable of ours: a run inside a run must not inherit what it does not set.
    pub const UNSET: &'static [&'static str] = &[
        "SAMEPORT_SHARE",
        "SAMEPORT_PORTS",
        "SAMEPORT_MAP",
        "SAMEPORT_SOURCE",
        "SAMEPORT_TRANSPARENT",
        "SAMEPORT_REPORT",
        "SAMEPORT_CHILDREN",
    ];
}

fn joined<T: fmt::Display>(parts: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for (place, part) in parts.into_iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        // Writing to memory does not fail.
        let _ = write!(text, "{comma}{part}");
    }
    text
}

/// LD_PRELOAD with our library first and what was there behind it, in its order. A library of ours
/// that an outer run has put there is left out: two of them would both move an address.
#[must_use]
pub fn ld_preload(library: &Path, already: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().as_bytes().to_owned();
    let entries = already.unwrap_or_default().as_bytes().split(|byte| matches!(byte, b':' | b' '));
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let name = entry.rsplit(|byte| *byte == b'/').next().unwrap_or(entry);
        if !name.starts_with(LIBRARY_PREFIX.as_bytes()) {
            list.push(b':');
            list.extend(entry);
        }
    }
    OsString::from_vec(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_preloaded_stays_in_its_order_and_we_are_there_once() {
        let cases = [
            (None, "/x/libsameport_preload-1-0.so"),
            (Some(""), "/x/libsameport_preload-1-0.so"),
            (Some("/a.so:b.so"), "/x/libsameport_preload-1-0.so:/a.so:b.so"),
            (Some("/a.so  b.so "), "/x/libsameport_preload-1-0.so:/a.so:b.so"),
            (Some("/y/libsameport_preload-9-0.so:/a.so"), "/x/libsameport_preload-1-0.so:/a.so"),
            (Some("libsameport_preload.so"), "/x/libsameport_preload-1-0.so"),
        ];
        for (already, expected) in cases {
            let got =
                ld_preload(Path::new("/x/libsameport_preload-1-0.so"), already.map(OsStr::new));
            assert_eq!(got, expected, "{already:?}");
        }
    }

    #[test]
    fn orders_as_variables() {
        let ports = PortSet::Only([53, 8080].into());
        let map = ["80=8080".parse().unwrap(), "[::]:443=[::1]:8443".parse().unwrap()];
        let source = "[::1]:0".parse().unwrap();
        let orders = LibraryOptions {
            share: Some(&ports),
            map: &map,
            source: Some(source),
            transparent: true,
            report: "00001",
            children: ChildPolicy::Strip,
        };
        let variables = orders.variables(Path::new("/x.so"), None);
        let told: Vec<_> = variables.iter().map(|(n, v)| format!("{n}={}", v.display())).collect();
        assert_eq!(
            told,
            [
                "LD_PRELOAD=/x.so",
                "SAMEPORT_REPORT=00001",
                "SAMEPORT_SHARE=1",
                "SAMEPORT_PORTS=53,8080",
                "SAMEPORT_MAP=80=8080,[::]:443=[::1]:8443",
                "SAMEPORT_SOURCE=[::1]",
                "SAMEPORT_TRANSPARENT=1",
                "SAMEPORT_CHILDREN=strip",
            ]
        );
        let ours = variables.iter().filter(|(name, _)| *name != "LD_PRELOAD");
        assert!(ours.map(|(name, _)| name).all(|name| LibraryOptions::UNSET.contains(name)));
    }

    #[test]
    fn the_most_and_longest_rules_fit_into_one_variable() {
        let long = "udp:[1111:2222:3333:4444:5555:6666:7777:8888]:65535=\
                    [1111:2222:3333:4444:5555:6666:7777:9999]:65535";
        let map: Vec<MapRule> = vec![long.parse().unwrap(); 1024];
        // MAX_ARG_STRLEN, `execve(2)`.
        assert!(joined(&map).len() + "SAMEPORT_MAP=".len() < 131_072);
    }
}
