//! A listing of groups, as a table and as JSON.

use std::path::PathBuf;

use sameport_rules::sockets::{Group, Member, Process, Protocol};
use serde::Serialize;

use super::table::table;
use crate::operations::list::Listing;

/// More of a socket's processes than these are counted, not named.
const NAMED: usize = 4;

/// One row a socket; what a group has in common stands in its first row only. Nothing for nobody.
/// Who is reached by `attach` has a column of its own where anybody is.
pub(crate) fn text(listing: &Listing) -> String {
    let members = || listing.groups.iter().flat_map(|group| &group.members);
    let paths = |member: &Member| {
        let paths = listing.attached_to(member).unwrap_or_default().iter();
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let any_attached = members().any(|member| !paths(member).is_empty());
    let attached = |member: &Member| match any_attached {
        true => some(paths(member)),
        false => String::new(),
    };
    let last = if any_attached { "ATTACHED" } else { "" };
    let header = ["PROTO", "ADDRESS", "PID", "PROGRAM", "USER", "SHARED", "QUEUE", last];
    let rows: Vec<_> =
        listing.groups.iter().flat_map(|group| group_rows(group, &attached)).collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

fn group_rows(
    group: &Group,
    attached: impl Fn(&Member) -> String,
) -> impl Iterator<Item = [String; 8]> {
    let heads = [group.address.protocol.to_string(), group.address.to_string()];
    let heads = std::iter::once(heads).chain(std::iter::repeat([String::new(), String::new()]));
    heads.zip(&group.members).map(move |([protocol, address], member)| {
        let pids = member.processes.iter().map(|process| process.pid.to_string()).collect();
        [
            protocol,
            address,
            some(pids),
            some(programs(&member.processes)),
            member.user.clone().unwrap_or_else(|| member.socket.uid.to_string()),
            shared(member).to_owned(),
            queue(member),
            attached(member),
        ]
    })
}

/// The different names among the processes, in their order.
fn programs(processes: &[Process]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for process in processes {
        if !process.program.is_empty() && !names.contains(&process.program) {
            names.push(process.program.clone());
        }
    }
    names
}

/// The first few, and how many more; `-` for none.
fn some(words: Vec<String>) -> String {
    let rest = words.len().saturating_sub(NAMED);
    match (words.is_empty(), rest) {
        (true, _) => "-".to_owned(),
        (false, 0) => words.join(","),
        (false, rest) => format!("{},+{rest}", words[..NAMED].join(",")),
    }
}

fn shared(member: &Member) -> &'static str {
    match member.shared {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

fn queue(member: &Member) -> String {
    match member.socket.address.protocol {
        Protocol::Tcp => format!("{}/{}", member.socket.queue, member.socket.backlog),
        Protocol::Udp => member.socket.queue.to_string(),
    }
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(listing: &Listing) -> String {
    let told = Told {
        version: 1,
        groups: listing.groups.iter().map(|group| ToldGroup::new(group, listing)).collect(),
        complete: listing.complete,
    };
    let mut line = serde_json::to_string(&told).unwrap_or_else(|error| {
        unreachable!("plain structs with text keys are always JSON: {error}")
    });
    line.push('\n');
    line
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    groups: Vec<ToldGroup<'a>>,
    /// Whether everybody is named: no process was hidden from the caller.
    complete: bool,
}

#[derive(Serialize)]
struct ToldGroup<'a> {
    proto: &'static str,
    address: String,
    v6only: bool,
    device: Option<&'a str>,
    members: Vec<ToldMember<'a>>,
}

impl<'a> ToldGroup<'a> {
    fn new(group: &'a Group, listing: &'a Listing) -> Self {
        Self {
            proto: group.address.protocol.name(),
            address: group.address.socket.to_string(),
            v6only: group.address.v6only,
            device: group.address.device.as_deref(),
            members: group.members.iter().map(|member| ToldMember::new(member, listing)).collect(),
        }
    }
}

#[derive(Serialize)]
struct ToldMember<'a> {
    /// Empty when no process could be seen.
    pids: Vec<i32>,
    /// The first process's name.
    program: Option<&'a str>,
    user: Option<&'a str>,
    uid: u32,
    inode: u64,
    /// Null when it could be neither read nor inferred.
    shared: Option<bool>,
    /// TCP: connections; UDP: bytes.
    queue: u32,
    /// Null for UDP, whose queue has no such limit.
    backlog: Option<u32>,
    /// The cgroups with `sameport attach` that it is in; null when that could not be told.
    attached: Option<Vec<String>>,
}

impl<'a> ToldMember<'a> {
    fn new(member: &'a Member, listing: &Listing) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let named = |process: &'a Process| Some(&*process.program).filter(|name| !name.is_empty());
        Self {
            pids: member.processes.iter().map(|process| process.pid).collect(),
            program: member.processes.iter().find_map(named),
            user: member.user.as_deref(),
            uid: member.socket.uid,
            inode: member.socket.inode,
            shared: member.shared,
            queue: member.socket.queue,
            backlog: match member.socket.address.protocol {
                Protocol::Tcp => Some(member.socket.backlog),
                Protocol::Udp => None,
            },
            attached: listing.attached_to(member).map(|paths| paths.iter().map(text).collect()),
        }
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
