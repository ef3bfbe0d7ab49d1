//! Attachments to cgroups: what was done, what there is, and why not.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use sameport_policy::bind::verdict::PortSet;
use sameport_sys::bpf::cgroup_bind::{AttachedPrograms, RemovedPins, SourceOutcome};
use serde::Serialize;

use super::json;
use super::table::table;
use super::text::{age, cell_list, quotable};
use crate::operations::attach::{AttachResult, AttachmentList};

/// Ports or rules in one cell.
const LISTED: usize = 4;

/// What `attach` did, a line each.
pub(crate) fn done(done: &AttachResult) -> Vec<String> {
    let mut lines: Vec<_> = done.cleared.iter().map(cleared).collect();
    if done.mounted {
        lines.push("mounted the BPF file system on /sys/fs/bpf".to_owned());
    }
    lines.push(format!(
        "attached to {}, from the next bind on",
        quotable(&done.path.to_string_lossy())
    ));
    lines
}

fn cleared(left: &RemovedPins) -> String {
    match left {
        RemovedPins::Cgroup(path) => {
            format!(
                "removed the attachment of {}, which is gone",
                quotable(&path.to_string_lossy())
            )
        }
        RemovedPins::Process => {
            "removed what an interrupted attach or detach left behind".to_owned()
        }
    }
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
            let maps = maps.map(|(rule, hits)| format!("{rule} ({hits})"));
            [
                format!("{}{gone}", one.path.display()),
                age(list.now.duration_since(one.since).unwrap_or_default()),
                ports(&one.settings.ports),
                one.shared.to_string(),
                cell_list(maps, " ", LISTED),
                source(one).unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

fn ports(ports: &PortSet) -> String {
    match ports {
        PortSet::All => "every".to_owned(),
        PortSet::Only(ports) => cell_list(ports, " ", LISTED),
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
    json::line(&told)
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
