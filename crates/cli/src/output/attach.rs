//! The output of `attach`: the effect and the list of attachments.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use sameport_policy::bind::verdict::PortSet;
use sameport_sys::bpf::cgroup_bind::{AttachedPrograms, RemovedPins, SourceOutcome};
use serde::Serialize;

use super::json::{line, object};
use super::table::table;
use super::text::{age, cell_list, quotable};
use crate::operations::attach::{AtNextStart, AttachResult, AttachmentList};

/// Ports or rules in one cell, on a terminal.
const LISTED: usize = 4;

/// The effect of `attach`, in lines.
pub(crate) fn done(done: &AttachResult) -> Vec<String> {
    let mut lines: Vec<_> = done.cleared.iter().map(removed).collect();
    if done.mounted {
        lines.push("mounted the BPF file system on /sys/fs/bpf".to_owned());
    }
    lines.push(format!(
        "attached to {}, from the next bind on",
        quotable(&done.path.to_string_lossy())
    ));
    if let AtNextStart::Again(path) = &done.at_next_start {
        let path = quotable(&path.to_string_lossy());
        lines.push(format!("attaches again at each start of the service, by {path}"));
    }
    lines
}

fn removed(pins: &RemovedPins) -> String {
    match pins {
        RemovedPins::Cgroup(path) => {
            format!(
                "removed the attachment of {}, which is gone",
                quotable(&path.to_string_lossy())
            )
        }
        RemovedPins::Process => "removed the remains of an interrupted attach or detach".to_owned(),
    }
}

/// One row an attachment; empty without attachments. Cells are whole without a `width`.
pub(crate) fn text(list: &AttachmentList, width: Option<usize>) -> String {
    let listed = if width.is_some() { LISTED } else { usize::MAX };
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
                ports(&one.settings.ports, listed),
                one.shared.to_string(),
                cell_list(maps, " ", listed),
                source(one).unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

fn ports(ports: &PortSet, listed: usize) -> String {
    match ports {
        PortSet::All => "every".to_owned(),
        PortSet::Only(ports) => cell_list(ports, " ", listed),
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
    let attachments: Vec<_> = list.attached.iter().map(attachment_view).collect();
    line(&object! { version: 1, attachments: attachments })
}

/// `exists` is false after the cgroup was removed; `since` is in seconds since 1970; `ports` is null for
/// every port, and so are `port_specs`, which have the protocol; `sourced` and `source_refused` count connections and datagrams.
fn attachment_view(one: &AttachedPrograms) -> impl Serialize + '_ {
    let maps = one.settings.rules.iter().zip(&one.hits);
    let maps: Vec<_> =
        maps.map(|(rule, hits)| object! { map: rule.to_string(), matched: hits }).collect();
    object! {
        cgroup: one.path.to_string_lossy(),
        id: one.id,
        exists: one.exists,
        since: one.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        ports: match &one.settings.ports {
            PortSet::All => None,
            PortSet::Only(ports) => Some(ports.iter().map(|it| it.port).collect::<BTreeSet<_>>()),
        },
        port_specs: match &one.settings.ports {
            PortSet::All => None,
            PortSet::Only(ports) => Some(ports.iter().map(ToString::to_string).collect::<Vec<_>>()),
        },
        shared: one.shared,
        maps: maps,
        source: one.settings.source,
        sourced: one.sourced.given,
        source_refused: one.sourced.refused,
    }
}
