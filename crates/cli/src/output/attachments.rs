//! Attachments to cgroups: what was done, what there is, and why not.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sameport_policy::bind::verdict::PortSet;
use sameport_sys::bpf::cgroup_bind::{AttachedPrograms, RemovedPins, SourceOutcome};
use sameport_sys::bpf::{AttachError, PinError};
use sameport_sys::cgroup::CgroupError;
use serde::Serialize;

use super::ago::ago;
use super::json_line;
use super::table::table;
use crate::error::{ExitKind, Failure, shortened};
use crate::operations::attach::{AttachResult, AttachmentList, Error};

/// What `attach` did, a line each.
pub(crate) fn done(done: &AttachResult) -> Vec<String> {
    let mut lines: Vec<_> = done.cleared.iter().map(cleared).collect();
    if done.mounted {
        lines.push("mounted the BPF file system on /sys/fs/bpf".to_owned());
    }
    lines.push(format!("attached to {}, from the next bind on", name(&done.path)));
    lines
}

fn cleared(left: &RemovedPins) -> String {
    match left {
        RemovedPins::Cgroup(path) => {
            format!("removed the attachment of {}, which is gone", name(path))
        }
        RemovedPins::Process => {
            "removed what an interrupted attach or detach left behind".to_owned()
        }
    }
}

/// A path as a line of text: it may have been made to fool the reader.
pub(crate) fn name(path: &Path) -> String {
    shortened(&path.to_string_lossy().escape_debug().to_string())
}

/// One row an attachment; nothing for none.
pub(crate) fn text(list: &AttachmentList) -> String {
    let header = ["CGROUP", "SINCE", "PORTS", "SHARED", "MAPS", "SOURCE"];
    let rows: Vec<_> = list
        .attached
        .iter()
        .map(|one| {
            let gone = if one.exists { "" } else { " (gone)" };
            let maps = one.settings.rules.iter().zip(&one.hits);
            let maps = maps.map(|(rule, hits)| format!("{rule} ({hits})")).collect();
            [
                format!("{}{gone}", one.path.display()),
                ago(list.now.duration_since(one.since).unwrap_or_default()),
                ports(&one.settings.ports),
                one.shared.to_string(),
                some(maps),
                source(one).unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

/// The first few, and how many more; `-` for none.
fn some(words: Vec<String>) -> String {
    const NAMED: usize = 4;
    match words.len().checked_sub(NAMED) {
        _ if words.is_empty() => "-".to_owned(),
        None | Some(0) => words.join(" "),
        Some(more) => format!("{} +{more}", words[..NAMED].join(" ")),
    }
}

fn ports(ports: &PortSet) -> String {
    match ports {
        PortSet::All => "every".to_owned(),
        PortSet::Only(ports) => some(ports.iter().map(u16::to_string).collect()),
    }
}

fn source(one: &AttachedPrograms) -> Option<String> {
    let from = one.settings.source?;
    let text = if from.port() == 0 { from.ip().to_string() } else { from.to_string() };
    Some(match one.sourced {
        SourceOutcome { given, refused: 0 } => format!("{text} ({given})"),
        SourceOutcome { given, refused } => format!("{text} ({given}, {refused} refused)"),
    })
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(list: &AttachmentList) -> String {
    let told =
        Told { version: 1, attachments: list.attached.iter().map(ToldAttachment::new).collect() };
    json_line::line(&told)
}

#[derive(Serialize)]
struct Told {
    version: u32,
    attachments: Vec<ToldAttachment>,
}

#[derive(Serialize)]
struct ToldAttachment {
    cgroup: String,
    id: u64,
    /// False: the cgroup has been removed since.
    exists: bool,
    /// Seconds since 1970.
    since: u64,
    /// Null: every port.
    ports: Option<Vec<u16>>,
    /// Binds that were shared.
    shared: u64,
    maps: Vec<ToldMap>,
    /// Port 0: any.
    source: Option<SocketAddr>,
    /// Connections and datagrams that were given the source address.
    sourced: u64,
    /// Connections that failed because they could not have it.
    source_refused: u64,
}

#[derive(Serialize)]
struct ToldMap {
    map: String,
    /// Binds that it was followed for.
    matched: u64,
}

impl ToldAttachment {
    fn new(one: &AttachedPrograms) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let maps = one.settings.rules.iter().zip(&one.hits);
        Self {
            cgroup: one.path.to_string_lossy().into_owned(),
            id: one.id,
            exists: one.exists,
            since: seconds(one.since).as_secs(),
            ports: match &one.settings.ports {
                PortSet::All => None,
                PortSet::Only(ports) => Some(ports.iter().copied().collect()),
            },
            shared: one.shared,
            maps: maps
                .map(|(rule, hits)| ToldMap { map: rule.to_string(), matched: *hits })
                .collect(),
            source: one.settings.source,
            sourced: one.sourced.given,
            source_refused: one.sourced.refused,
        }
    }
}

/// Why `attach` or `detach` could not be done.
pub(crate) fn failure(error: &Error) -> Failure {
    match error {
        Error::Contradiction(earlier, later) => {
            Failure::usage(format!("--map {later}: contradicts --map {earlier}"))
                .hint("keep one of the two")
        }
        Error::NotLocal(ip) => {
            Failure::new(ExitKind::MachineCannot, format!("{ip} is not an address of this machine"))
                .hint("`ip address` lists the ones it has")
        }
        Error::Open(error) => not_opened(error),
        Error::Attach(path, error) => not_attached(path, error),
        Error::Pin(path, error) => not_pinned(path, error),
    }
}

pub(crate) fn not_opened(error: &CgroupError) -> Failure {
    match error {
        CgroupError::NotMounted => Failure::new(
            ExitKind::MachineCannot,
            "cgroup v2 is not mounted where this process can see it",
        )
        .hint("mount it: mount -t cgroup2 none DIRECTORY"),
        CgroupError::Version1(path) => {
            Failure::usage(format!("{} is a cgroup of version 1", name(path)))
                .hint("programs can only be attached to version 2: `mount -t cgroup2` lists where")
        }
        CgroupError::NotFound(path) => Failure::usage(format!("there is no cgroup {}", name(path)))
            .hint("/proc/PID/cgroup has that of a process, after 0::"),
        CgroupError::NotACgroup(path) => Failure::usage(format!("{} is not a cgroup", name(path)))
            .hint("/proc/PID/cgroup has that of a process, after 0::"),
        CgroupError::UnitNotRunning(unit) => {
            Failure::usage(format!("unit {} is not running", name(Path::new(unit))))
                .hint("it has a cgroup, to attach to, only while it runs: systemctl start")
        }
        CgroupError::NotAUnit(text) => {
            Failure::usage(format!("{} is not the name of a unit", name(Path::new(text))))
                .hint("such as nginx.service; a path goes after --cgroup")
        }
        CgroupError::SeveralUnits(unit, paths) => {
            let paths: Vec<_> = paths.iter().take(4).map(|path| name(path)).collect();
            Failure::usage(format!(
                "several cgroups are of unit {}: {}",
                name(Path::new(unit)),
                paths.join(", ")
            ))
            .hint("choose one of them by --cgroup")
        }
        CgroupError::NotTheFirst(path) => Failure::new(
            ExitKind::MachineCannot,
            format!("{} is not the first cgroup of this machine", name(path)),
        )
        .hint("others would be outside of it: run this outside of the container"),
        CgroupError::System(call, path, why) => {
            Failure::new(kind_of(why), format!("{call} {}: {why}", name(path)))
        }
    }
}

pub(crate) const PRIVILEGE: &str = "this needs root, or CAP_BPF and CAP_NET_ADMIN";

pub(crate) fn not_attached(path: &Path, error: &AttachError) -> Failure {
    match error {
        AttachError::NotPermitted(call, why) => {
            Failure::new(ExitKind::MachineCannot, format!("{call}: {why}")).hint(PRIVILEGE)
        }
        AttachError::Kernel(why) => Failure::new(ExitKind::MachineCannot, shortened(why))
            .hint("it needs Linux 5.18; `sameport doctor` says what this machine can do"),
        AttachError::Exclusive => Failure::new(
            ExitKind::CouldNotBeDone,
            format!("another program is attached exclusively to {} or above it", name(path)),
        )
        .hint("`bpftool cgroup tree` shows it; its owner has to allow others (BPF_F_ALLOW_MULTI)"),
        AttachError::System(call, why) => {
            Failure::new(ExitKind::CouldNotBeDone, format!("{call}: {}: {why}", name(path)))
        }
    }
}

pub(crate) fn not_pinned(path: &Path, error: &PinError) -> Failure {
    let path = name(path);
    match error {
        PinError::NotPermitted(call, file, why) => {
            Failure::new(ExitKind::MachineCannot, format!("{call} {}: {why}", name(file)))
                .hint(PRIVILEGE)
        }
        PinError::NoFileSystem(_) => Failure::new(ExitKind::MachineCannot, error)
            .hint("mount it yourself: mount -t bpf bpf /sys/fs/bpf"),
        PinError::Already => Failure::new(
            ExitKind::CouldNotBeDone,
            format!("sameport is attached to {path} already"),
        )
        .hint(format!(
            "`sameport attach --list` shows how; sameport detach --cgroup {path} ends it"
        )),
        PinError::NotAttached => {
            Failure::new(ExitKind::CouldNotBeDone, format!("sameport is not attached to {path}"))
                .hint("`sameport attach --list` shows to which")
        }
        PinError::System(call, file, why) => {
            Failure::new(ExitKind::CouldNotBeDone, format!("{call} {}: {why}", name(file)))
        }
    }
}

fn kind_of(why: &std::io::Error) -> ExitKind {
    match why.kind() {
        std::io::ErrorKind::PermissionDenied => ExitKind::MachineCannot,
        _ => ExitKind::CouldNotBeDone,
    }
}
