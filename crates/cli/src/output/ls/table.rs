//! The sockets of `ls` as a table.

use sameport_policy::holder::{Holder, HolderClass};
use sameport_policy::model::unit::{container, unit};
use sameport_policy::model::{Address, Member, Process, Protocol, SocketState};

use crate::operations::list::Listing;
use crate::output::table::Table;
use crate::output::text::{cell_list, push_socket};

/// Pids, programs or cgroups in one cell.
const LISTED: usize = 4;

/// A fact that is not known, as distinct from one that is absent.
const UNKNOWN: &str = "unknown";

/// One row a socket, of at most `width` columns where a width is given. The first row of a group has its address. A column in
/// which all sockets would have the usual value is left out. Empty without sockets.
pub(crate) fn text(listing: &Listing, width: Option<usize>) -> String {
    let listed = if width.is_some() { LISTED } else { usize::MAX };
    if listing.groups.is_empty() {
        return String::new();
    }
    let any = |is: &dyn Fn(&Member) -> bool, name| {
        if listing.members().any(is) { name } else { "" }
    };
    let rows = rows(listing);
    let mut units = UnitCache::default();
    let has_unit = listing.members().any(|member| !matches!(units.get(member), None | Some("-")));
    let mut table = Table::new([
        "PROTO",
        "ADDRESS",
        "PID",
        "PROGRAM",
        "USER",
        "SHARED",
        "QUEUE",
        any(&|member| member.socket.state != SocketState::Waiting, "STATE"),
        any(&|member| member.socket.drops > Some(0), "DROPS"),
        if has_unit { "UNIT" } else { "" },
        attached_header(listing),
        if rows.iter().any(|row| !row.label.is_empty()) { "HOLDER" } else { "" },
    ]);
    for Row { head, member, servers, label } in &rows {
        head_cells(&mut table, *head);
        pids_cell(&mut table, servers, listed);
        programs_cell(&mut table, servers, listed);
        user_cell(&mut table, member);
        table.cell(yes_or_no(member.shared));
        queue_cell(&mut table, member);
        table.cell(member.socket.state.name());
        number_cell(&mut table, member.socket.drops);
        table.cell(if has_unit { units.get(member).unwrap_or(UNKNOWN) } else { "" });
        table.cell(&cell_list(attached(listing, member), ",", listed));
        table.cell(label);
    }
    // Unit, cgroups, program and user are truncated in this order, down to distinguishable lengths.
    table.render(width.unwrap_or(usize::MAX), &[(9, 12), (10, 12), (3, 8), (4, 8)])
}

/// All columns, untruncated.
pub(crate) fn wide(listing: &Listing) -> String {
    if listing.groups.is_empty() {
        return String::new();
    }
    let rows = rows(listing);
    let any_position = listing.members().any(|member| member.position.is_some());
    let mut table = Table::new([
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
        if rows.iter().any(|row| !row.label.is_empty()) { "HOLDER" } else { "" },
        "DIRECTORY",
        "COMMAND",
    ]);
    let mut units = UnitCache::default();
    for Row { head, member, servers, label } in &rows {
        head_cells(&mut table, *head);
        table.cell(member.socket.state.name());
        pids_cell(&mut table, servers, usize::MAX);
        programs_cell(&mut table, servers, usize::MAX);
        user_cell(&mut table, member);
        table.cell(yes_or_no(member.shared));
        table.cell(&options(member));
        table.cell(&position(member));
        queue_cell(&mut table, member);
        number_cell(&mut table, member.socket.drops);
        table.cell(units.get(member).unwrap_or(UNKNOWN));
        table.cell(&cell_list(attached(listing, member), ",", usize::MAX));
        table.cell(label);
        table.cell(&directory(servers));
        table.cell(&command(servers));
    }
    table.render(usize::MAX, &[])
}

/// A socket in the table.
struct Row<'a> {
    /// The address, in the first row of a group.
    head: Option<&'a Address>,
    member: &'a Member,
    /// The processes that serve it: without those that keep it for others.
    servers: Vec<&'a Process>,
    /// The run, the container, or the unit that keeps it; empty for a plain program.
    label: String,
}

fn rows(listing: &Listing) -> Vec<Row<'_>> {
    let groups = listing.groups.iter().flat_map(|group| {
        std::iter::once(Some(&group.address)).chain(std::iter::repeat(None)).zip(&group.members)
    });
    let rows = groups.map(|(head, member)| {
        let holder = listing.holder(member);
        let is_server = |process: &&Process| match &holder {
            Some(Holder { process: Some(_), keepers, .. }) => {
                keepers.iter().all(|keeper| keeper.pid() != process.pid)
            }
            _ => true,
        };
        let servers = member.processes.iter().filter(is_server).collect();
        let label = holder.as_ref().map_or(String::new(), holder_label);
        Row { head, member, servers, label }
    });
    rows.collect()
}

/// What the other columns do not have.
fn holder_label(holder: &Holder) -> String {
    let label = match holder.class {
        HolderClass::UnitProcess(_) => None,
        _ => holder.label(),
    };
    let parts: Vec<String> = label.into_iter().chain(holder.kept_label()).collect();
    parts.join(", ")
}

fn head_cells<const N: usize>(table: &mut Table<N>, head: Option<&Address>) {
    let Some(address) = head else {
        table.end_cell();
        table.end_cell();
        return;
    };
    table.cell(address.protocol.name());
    if address.device.is_none() && !address.is_dual_stack() {
        table.push_with(|text| push_socket(text, address.socket));
    } else {
        table.push(&address.to_string());
    }
    table.end_cell();
}

fn pids_cell<const N: usize>(table: &mut Table<N>, servers: &[&Process], limit: usize) {
    for (at, process) in servers.iter().take(limit).enumerate() {
        if at > 0 {
            table.push(",");
        }
        table.push_number(u64::from(process.pid.unsigned_abs()));
    }
    end_of_list(table, servers.len(), limit);
}

fn programs_cell<const N: usize>(table: &mut Table<N>, servers: &[&Process], limit: usize) {
    if let [process] = servers
        && !process.program.is_empty()
    {
        table.cell(&process.program);
        return;
    }
    let names = programs(servers.iter().copied());
    for (at, name) in names.iter().take(limit).enumerate() {
        if at > 0 {
            table.push(",");
        }
        table.push(name);
    }
    end_of_list(table, names.len(), limit);
}

/// The number of items that are not listed; `-` for an empty list.
fn end_of_list<const N: usize>(table: &mut Table<N>, length: usize, limit: usize) {
    if length == 0 {
        table.push("-");
    } else if length > limit {
        table.push(",+");
        table.push_number((length - limit) as u64);
    }
    table.end_cell();
}

fn user_cell<const N: usize>(table: &mut Table<N>, member: &Member) {
    match &member.user {
        _ if member.socket.is_private() => table.push("private"),
        Some(name) => table.push(name),
        None => table.push_number(member.socket.uid.into()),
    }
    table.end_cell();
}

fn queue_cell<const N: usize>(table: &mut Table<N>, member: &Member) {
    let socket = &member.socket;
    match (socket.address.protocol, socket.state) {
        (Protocol::Tcp, SocketState::Waiting) => {
            table.push_number(socket.queue.into());
            table.push("/");
            table.push_number(socket.backlog.into());
        }
        (_, SocketState::Bound) => table.push("-"),
        _ => table.push_number(socket.queue.into()),
    }
    table.end_cell();
}

fn number_cell<const N: usize>(table: &mut Table<N>, number: Option<u32>) {
    match number {
        Some(number) => table.push_number(number.into()),
        None => table.push(UNKNOWN),
    }
    table.end_cell();
}

pub(super) fn pids(member: &Member) -> impl Iterator<Item = i32> {
    member.processes.iter().map(|process| process.pid)
}

/// The distinct names of the processes, in their order.
pub(super) fn programs<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for process in processes {
        let name = process.program.as_str();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn known(fact: Option<impl ToString>) -> String {
    fact.map_or_else(|| UNKNOWN.to_owned(), |fact| fact.to_string())
}

fn yes_or_no(fact: Option<bool>) -> &'static str {
    match fact {
        Some(true) => "yes",
        Some(false) => "no",
        None => UNKNOWN,
    }
}

/// The container or the unit that the socket was created in.
pub(super) fn unit_label(member: &Member) -> Option<String> {
    let cgroup = member.cgroup.as_deref()?;
    match container(cgroup) {
        Some(found) => Some(format!("{}:{}", found.engine.name(), found.short_id())),
        None => unit(cgroup).map(str::to_owned),
    }
}

/// The label of the last cgroup: neighbouring rows mostly have the same one.
#[derive(Default)]
struct UnitCache<'a> {
    cgroup: Option<&'a str>,
    label: String,
}

impl<'a> UnitCache<'a> {
    /// The unit or container, `-` without one; `None` where the cgroup is not known.
    fn get(&mut self, member: &'a Member) -> Option<&str> {
        let cgroup = member.cgroup.as_deref()?;
        if self.cgroup != Some(cgroup) {
            self.label = unit_label(member).unwrap_or_else(|| "-".to_owned());
            self.cgroup = Some(cgroup);
        }
        Some(&self.label)
    }
}

/// The options that are set. Newer kernels report two of them for sockets that cannot be read.
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
    cell_list(set.chain(unknown), ",", usize::MAX)
}

fn position(member: &Member) -> String {
    known(member.position.map(|at| {
        let steered = if at.steered { ", steered" } else { "" };
        format!("{} of {}{steered}", at.index + 1, at.of)
    }))
}

fn attached_header(listing: &Listing) -> &'static str {
    let any = listing.members().any(|member| attached(listing, member).next().is_some());
    if any { "ATTACHED" } else { "" }
}

/// The cgroups with `sameport attach` that apply to the socket.
fn attached<'a>(
    listing: &'a Listing,
    member: &Member,
) -> impl Iterator<Item = std::path::Display<'a>> {
    listing.attached_to(member).unwrap_or_default().iter().map(|path| path.display())
}

/// The working directory of the first process.
fn directory(servers: &[&Process]) -> String {
    let details = servers.first().and_then(|process| process.details.as_ref());
    known(details.and_then(|details| details.directory.as_ref()).map(|path| path.display()))
}

/// The command line of the first process, and the number of the others.
fn command(servers: &[&Process]) -> String {
    let first = servers.first().and_then(|process| process.details.as_ref());
    let Some(details) = first.filter(|details| !details.command.is_empty()) else {
        return UNKNOWN.to_owned();
    };
    let line = details.command.join(" ");
    match servers.len() - 1 {
        0 => line,
        others => format!("{line} (+{others})"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
