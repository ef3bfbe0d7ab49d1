//! Environment variables that configure the library in the programs that load it.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use sameport_policy::bind::map::{MapRule, RuleSide};
use sameport_policy::bind::verdict::PortSet;

/// The prefix of the library's file name, by which it recognises its own entry of LD_PRELOAD.
pub const LIBRARY_PREFIX: &str = "libsameport_preload";

/// The configuration of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryOptions<'a> {
    /// The ports to share.
    pub share: Option<&'a PortSet>,
    /// The rules of `--map`, at most 1,024.
    pub map: &'a [MapRule],
    /// The source address of outgoing connections; port 0 for any port.
    pub source: Option<SocketAddr>,
    /// Whether sockets get IP_TRANSPARENT, which permits addresses that are not local.
    pub transparent: bool,
    /// Whether sockets get IP_FREEBIND, which permits addresses that do not exist yet.
    pub freebind: bool,
    /// The abstract name of the socket for reports.
    pub report: &'a str,
    /// Whether the library is loaded into programs that the worker executes.
    pub children: ChildrenMode,
}

/// The policy for programs that a worker executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildrenMode {
    /// They load the library.
    Inherit,
    /// They run without the library, with its variables removed.
    Strip,
}

impl LibraryOptions<'_> {
    /// The variables to set, after removing [`LibraryOptions::UNSET`]. `preloaded` is the present value
    /// of LD_PRELOAD, whose entries are kept behind the library.
    #[must_use]
    pub fn variables(
        &self,
        library: &Path,
        preloaded: Option<&OsStr>,
    ) -> Vec<(&'static str, OsString)> {
        let mut set = vec![
            ("LD_PRELOAD", ld_preload(library, preloaded)),
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
        if self.freebind {
            set.push(("SAMEPORT_FREEBIND", "1".into()));
        }
        if self.children == ChildrenMode::Strip {
            set.push(("SAMEPORT_CHILDREN", "strip".into()));
        }
        set
    }

    /// All variables of the library: a nested run must not inherit those that it does not set.
    pub const UNSET: &'static [&'static str] = &[
        "SAMEPORT_SHARE",
        "SAMEPORT_PORTS",
        "SAMEPORT_MAP",
        "SAMEPORT_SOURCE",
        "SAMEPORT_TRANSPARENT",
        "SAMEPORT_FREEBIND",
        "SAMEPORT_REPORT",
        "SAMEPORT_CHILDREN",
    ];
}

fn joined<T: fmt::Display>(parts: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a String never fails.
        let _ = write!(text, "{comma}{part}");
    }
    text
}

/// The value of LD_PRELOAD: the library, then the previous entries in their order. Leaves out the
/// library of an outer run, because both would apply their rules.
#[must_use]
pub fn ld_preload(library: &Path, preloaded: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().as_bytes().to_owned();
    let entries =
        preloaded.unwrap_or_default().as_bytes().split(|byte| matches!(byte, b':' | b' '));
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
    fn previous_entries_keep_their_order_and_the_library_is_first() {
        let cases = [
            (None, "/x/libsameport_preload-1-0.so"),
            (Some(""), "/x/libsameport_preload-1-0.so"),
            (Some("/a.so:b.so"), "/x/libsameport_preload-1-0.so:/a.so:b.so"),
            (Some("/a.so  b.so "), "/x/libsameport_preload-1-0.so:/a.so:b.so"),
            (Some("/y/libsameport_preload-9-0.so:/a.so"), "/x/libsameport_preload-1-0.so:/a.so"),
            (Some("libsameport_preload.so"), "/x/libsameport_preload-1-0.so"),
        ];
        for (preloaded, expected) in cases {
            let got =
                ld_preload(Path::new("/x/libsameport_preload-1-0.so"), preloaded.map(OsStr::new));
            assert_eq!(got, expected, "{preloaded:?}");
        }
    }

    #[test]
    fn options_as_variables() {
        let ports = PortSet::Only([53.into(), 8080.into()].into());
        let map = ["80=8080".parse().unwrap(), "[::]:443=[::1]:8443".parse().unwrap()];
        let source = "[::1]:0".parse().unwrap();
        let options = LibraryOptions {
            share: Some(&ports),
            map: &map,
            source: Some(source),
            transparent: true,
            freebind: true,
            report: "00001",
            children: ChildrenMode::Strip,
        };
        let variables = options.variables(Path::new("/x.so"), None);
        let assignments: Vec<_> =
            variables.iter().map(|(n, v)| format!("{n}={}", v.display())).collect();
        assert_eq!(
            assignments,
            [
                "LD_PRELOAD=/x.so",
                "SAMEPORT_REPORT=00001",
                "SAMEPORT_SHARE=1",
                "SAMEPORT_PORTS=53,8080",
                "SAMEPORT_MAP=80=8080,[::]:443=[::1]:8443",
                "SAMEPORT_SOURCE=[::1]",
                "SAMEPORT_TRANSPARENT=1",
                "SAMEPORT_FREEBIND=1",
                "SAMEPORT_CHILDREN=strip",
            ]
        );
        let own = variables.iter().filter(|(name, _)| *name != "LD_PRELOAD");
        assert!(own.map(|(name, _)| name).all(|name| LibraryOptions::UNSET.contains(name)));
    }

    #[test]
    fn the_longest_list_of_rules_fits_into_one_variable() {
        let long = "udp:[1111:2222:3333:4444:5555:6666:7777:8888]:65535=\
                    [1111:2222:3333:4444:5555:6666:7777:9999]:65535";
        let map: Vec<MapRule> = vec![long.parse().unwrap(); 1024];
        // MAX_ARG_STRLEN, `execve(2)`.
        assert!(joined(&map).len() + "SAMEPORT_MAP=".len() < 131_072);
    }
}
