//! A listing of groups, as a table. What programs read is in `listing_json`.

use sameport_policy::model::unit::{container, unit};
use sameport_policy::model::{Group, Member, Process, Protocol, SocketState};

use crate::operations::list::Listing;
use crate::output::table::{table, table_within};

/// More of a socket's processes than these are counted, not named.
const NAMED: usize = 4;

/// What a person reads without turning their head, or their terminal's lines.
const WIDE: usize = 100;

/// What stands for a fact that could not be had; never the same as the fact that there is none.
const UNKNOWN: &str = "unknown";

/// One row a socket; what a group has in common stands in its first row only. Nothing for nobody.
/// What is the same of everybody, and goes without saying, has no column.
pub(crate) fn text(listing: &Listing) -> String {
    let any = |is: fn(&Member) -> bool, name| if listing.members().any(is) { name } else { "" };
    let header = [
        "PROTO",
        "ADDRESS",
        "PID",
        "PROGRAM",
        "USER",
        "SHARED",
        "QUEUE",
        any(|it| it.socket.state != SocketState::Waiting, "STATE"),
        any(|it| it.socket.drops > Some(0), "DROPS"),
        any(|it| belongs_to(it).is_some(), "UNIT"),
        attached_header(listing),
    ];
    let rows: Vec<_> = heads(&listing.groups)
        .map(|([protocol, address], member)| {
            [
                protocol,
                address,
                some(pids(member), NAMED),
                some(programs(&member.processes), NAMED),
                user(member),
                known(member.shared.map(yes)),
                queue(member),
                member.socket.state.name().to_owned(),
                known(member.socket.drops),
                belonging(member),
                some(attached(listing, member), NAMED),
            ]
        })
        .collect();
    // Unit, attachments, program and user, in this order, down to what can still be told apart.
    let cut = [(9, 12), (10, 12), (3, 8), (4, 8)];
    if rows.is_empty() { String::new() } else { table_within(WIDE, &cut, header, &rows) }
}

/// The same with all that is known, however wide.
pub(crate) fn wide(listing: &Listing) -> String {
    let any_position = listing.members().any(|member| member.position.is_some());
    let header = [
        "PROTO",
        "ADDRESS",
        "STATE",
        "PID",
        "PROGRAM",
        "USER",
        "SHARED",
        "OPTIONS",
        if any_position { "GROUP" } else { "" },
        "QUEUE",
        "DROPS",
        "UNIT",
        attached_header(listing),
        "COMMAND",
    ];
    let rows: Vec<_> = heads(&listing.groups)
        .map(|([protocol, address], member)| {
            [
                protocol,
                address,
                member.socket.state.name().to_owned(),
                some(pids(member), usize::MAX),
                some(programs(&member.processes), usize::MAX),
                user(member),
                known(member.shared.map(yes)),
                options(member),
                position(member),
                queue(member),
                known(member.socket.drops),
                belonging(member),
                some(attached(listing, member), usize::MAX),
                command(member),
            ]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

/// Protocol and address in the first row of a group.
fn heads(groups: &[Group]) -> impl Iterator<Item = ([String; 2], &Member)> {
    groups.iter().flat_map(|group| {
        let first = [group.address.protocol.to_string(), group.address.to_string()];
        std::iter::once(first)
            .chain(std::iter::repeat(<[String; 2]>::default()))
            .zip(&group.members)
    })
}

pub(super) fn pids(member: &Member) -> Vec<String> {
    member.processes.iter().map(|process| process.pid.to_string()).collect()
}

/// The different names among the processes, in their order.
pub(super) fn programs(processes: &[Process]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for process in processes {
        if !process.program.is_empty() && !names.contains(&process.program) {
            names.push(process.program.clone());
        }
    }
    names
}

/// The first few, and how many more; `-` for none.
pub(super) fn some(words: Vec<String>, named: usize) -> String {
    let rest = words.len().saturating_sub(named);
    match (words.is_empty(), rest) {
        (true, _) => "-".to_owned(),
        (false, 0) => words.join(","),
        (false, rest) => format!("{},+{rest}", words[..named].join(",")),
    }
}

fn known(fact: Option<impl ToString>) -> String {
    fact.map_or_else(|| UNKNOWN.to_owned(), |fact| fact.to_string())
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

pub(super) fn user(member: &Member) -> String {
    if member.socket.is_private() {
        return "private".to_owned();
    }
    member.user.clone().unwrap_or_else(|| member.socket.uid.to_string())
}

fn queue(member: &Member) -> String {
    match (member.socket.address.protocol, member.socket.state) {
        (Protocol::Tcp, SocketState::Waiting) => {
            format!("{}/{}", member.socket.queue, member.socket.backlog)
        }
        (_, SocketState::Bound) => "-".to_owned(),
        _ => member.socket.queue.to_string(),
    }
}

/// The container or the unit that the socket was made in.
pub(super) fn belongs_to(member: &Member) -> Option<String> {
    let cgroup = member.cgroup.as_deref()?;
    match container(cgroup) {
        Some(found) => Some(format!("{}:{}", found.engine.name(), found.short_id())),
        None => unit(cgroup).map(str::to_owned),
    }
}

fn belonging(member: &Member) -> String {
    known(member.cgroup.as_ref().map(|_| belongs_to(member).unwrap_or_else(|| "-".to_owned())))
}

/// Of a socket that may not be asked, everybody is told two options by newer kernels.
pub(super) fn options(member: &Member) -> String {
    let (socket, read) = (&member.socket, member.options);
    let known = [
        ("reuseaddr", read.map(|read| read.reuse_address)),
        ("transparent", read.map(|read| read.transparent).or(socket.transparent)),
        ("freebind", read.map(|read| read.freebind).or(socket.freebind)),
        ("filter", read.map(|read| read.filter)),
    ];
    let set = known.iter().filter(|(_, is)| *is == Some(true)).map(|(name, _)| *name);
    let unknown = known.iter().any(|(_, is)| is.is_none()).then_some(UNKNOWN);
    some(set.chain(unknown).map(str::to_owned).collect(), usize::MAX)
}

fn position(member: &Member) -> String {
    known(member.position.map(|at| {
        let steered = if at.steered { ", steered" } else { "" };
        format!("{} of {}{steered}", at.index + 1, at.of)
    }))
}

fn attached_header(listing: &Listing) -> &'static str {
    let any = listing.members().any(|member| !attached(listing, member).is_empty());
    if any { "ATTACHED" } else { "" }
}

fn attached(listing: &Listing, member: &Member) -> Vec<String> {
    let paths = listing.attached_to(member).unwrap_or_default().iter();
    paths.map(|path| path.display().to_string()).collect()
}

/// What the first of the processes was executed with, and how many others there are.
fn command(member: &Member) -> String {
    let first = member.processes.first().and_then(|process| process.details.as_ref());
    let Some(details) = first.filter(|details| !details.command.is_empty()) else {
        return UNKNOWN.to_owned();
    };
    let line = details.command.join(" ");
    match member.processes.len() - 1 {
        0 => line,
        others => format!("{line} (+{others})"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
