//! The output of `steer` and `drain`: the traffic of ports as tables and as JSON.

use sameport_policy::model::Protocol;
use sameport_policy::traffic::model::TrafficPolicy;
use sameport_policy::traffic::status::{MemberState, MemberTraffic, TrafficStatus};

use super::json::{line, object};
use super::table::Table;
use super::text::{printable, sentence_list};
use crate::operations::traffic::drain::DrainedMember;
use crate::operations::traffic::port::PortMembers;
use crate::operations::traffic::steer::DrainBegun;

/// Members named in one line.
const LISTED: usize = 8;

/// What holds for some ports. `width`: of the terminal, if it is one.
pub(crate) fn text(ports: &[TrafficStatus], width: Option<usize>) -> String {
    let ports: Vec<String> = ports.iter().map(|port| port_text(port, width)).collect();
    ports.join("\n")
}

fn port_text(port: &TrafficStatus, width: Option<usize>) -> String {
    let mut text = format!("{}\n", headline(port));
    if port.addresses.len() > 1 {
        let addresses = sentence_list(&port.addresses, LISTED);
        text.push_str(&format!("addresses: {}\n", printable(&addresses)));
    }
    text.push('\n');
    text.push_str(&members(port).render(width.unwrap_or(usize::MAX), &[(2, 6), (0, 6)]));
    let notes = notes(port);
    if !notes.is_empty() {
        text.push('\n');
        notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", printable(note))));
    }
    text
}

/// What is unusual about the members, and the remarks of those who steer.
pub(crate) fn notes(port: &TrafficStatus) -> Vec<String> {
    let notes = port.members.iter().filter_map(|member| member_note(member, port));
    notes.chain(port.remarks.iter().cloned()).collect()
}

/// `8080/tcp: weights web=9, by eBPF, in force, 1204 connections chosen`; for UDP `12 flows chosen`.
pub(crate) fn headline(port: &TrafficStatus) -> String {
    let mut text = format!("{}/{}: {}", port.port, port.protocol, port.rules);
    if let Some(canary) = port.rules.canary {
        text.push_str(&format!(", {canary} for the canary"));
    }
    if let Some(tier) = port.tier {
        text.push_str(&format!(", by {tier}"));
    }
    match &port.in_force {
        Err(why) => text.push_str(&format!(", NOT in force: {}", printable(why))),
        Ok(()) if port.tier.is_some() => text.push_str(", in force"),
        Ok(()) if port.rules.policy == TrafficPolicy::Hash => {
            text.push_str(": the kernel selects by the addresses and ports of the connection");
        }
        Ok(()) => {}
    }
    if let Some(choices) = port.choices {
        // For datagrams a choice is for all of a flow.
        let what = if port.protocol == Protocol::Udp { "flow" } else { "connection" };
        let plural = if choices == 1 { "" } else { "s" };
        text.push_str(&format!(", {choices} {what}{plural} chosen"));
    }
    text
}

/// A column without a value is left out.
fn members(port: &TrafficStatus) -> Table<10> {
    let has = |is: &dyn Fn(&MemberTraffic) -> bool, name: &'static str| {
        if port.members.iter().any(is) { name } else { "" }
    };
    let ranked = port.rules.policy.has_ranks();
    let mut table = Table::new([
        has(&|it| it.run.is_some(), "MEMBER"),
        "PID",
        "PROGRAM",
        match ranked {
            true => has(&|it| it.rank.is_some(), "RANK"),
            // Equal weights say nothing.
            false => has(&|it| it.weight.is_some_and(|weight| weight != 1), "WEIGHT"),
        },
        has(&|it| it.share_wanted.is_some(), "WANTED"),
        has(&|it| it.share_seen.is_some(), "SEEN"),
        has(&|it| it.open.is_some(), "OPEN"),
        has(&|it| it.chosen.is_some(), "CHOSEN"),
        has(&|it| it.queue.is_some(), "QUEUE"),
        "STATE",
    ]);
    for member in &port.members {
        let label = match member.run {
            Some(_) => member.label(),
            None => String::new(),
        };
        table.cell(&label);
        table.cell(&optional(member.pid));
        table.cell(member.program.as_deref().unwrap_or("-"));
        table.cell(&match ranked {
            true => optional(member.rank),
            false => optional(member.weight),
        });
        table.cell(&optional(member.share_wanted.map(percent)));
        table.cell(&optional(member.share_seen.map(percent)));
        table.cell(&optional(member.open));
        table.cell(&optional(member.chosen));
        table.cell(&match (member.queue, member.backlog) {
            (Some(queue), Some(backlog)) if backlog > 0 => format!("{queue}/{backlog}"),
            (queue, _) => optional(queue),
        });
        table.cell(match member.state {
            MemberState::Serving if member.canary => "canary",
            state => state.name(),
        });
    }
    table
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `9.1%`.
fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// What is unusual about a member.
fn member_note(member: &MemberTraffic, port: &TrafficStatus) -> Option<String> {
    let name = match (&member.run, member.pid) {
        (Some(_), Some(pid)) => format!("{} (pid {pid})", member.label()),
        (None, Some(pid)) => format!("pid {pid}"),
        _ => member.label(),
    };
    match member.state {
        MemberState::Hung => Some(format!(
            "{name} is hung: it accepts no connection, and gets no new ones while another member can"
        )),
        MemberState::Foreign => Some(format!(
            "{name} joined after the policy, and gets nothing new: `sameport steer {}/{} {}` takes it in",
            port.port, port.protocol, port.rules
        )),
        _ => None,
    }
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(ports: &[TrafficStatus]) -> String {
    line(&object! { version: 1, ports: ports })
}

/// `pid 4130 (python3)`, `web.2 (pid 4130)`.
fn drained_name(member: &DrainedMember) -> String {
    let pid = optional(member.pids.first());
    match (&member.run, member.worker) {
        (Some(run), Some(worker)) => format!("{run}.{worker} (pid {pid})"),
        (Some(run), None) => format!("{run} (pid {pid})"),
        (None, _) => format!("pid {pid} ({})", printable(&member.program)),
    }
}

/// A line for each member of a drain, in progress or at its `end`.
pub(crate) fn drain_lines(members: &[DrainedMember], end: bool) -> Vec<String> {
    let line = |member: &DrainedMember| {
        let name = drained_name(member);
        let open = match member.open {
            None => String::new(),
            Some(1) => ", 1 connection is open".to_owned(),
            Some(open) => format!(", {open} connections are open"),
        };
        match member.queue {
            _ if !member.is_there => format!("{name} has ended"),
            0 if end => format!("{name} gets no new connections{open}"),
            0 => format!("{name} drains{open}"),
            queue => format!("{name} drains, {queue} wait in its queue{open}"),
        }
    };
    members.iter().map(line).collect()
}

/// The lines about members that get connections again.
pub(crate) fn undone(begun: &DrainBegun) -> Vec<String> {
    let line = |member| format!("{} gets new connections again", drained_name(member));
    begun.members.iter().map(line).collect()
}

/// One line of JSON about a drain. Version 1.
pub(crate) fn drain_json(port: &PortMembers, members: &[DrainedMember], done: bool) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|member| {
            object! {
                pid: member.pids.first(),
                program: &member.program,
                run: member.run.as_ref().map(ToString::to_string),
                worker: member.worker,
                ended: !member.is_there,
                queue: member.queue,
                open: member.open,
            }
        })
        .collect();
    line(&object! {
        version: 1,
        protocol: port.protocol.name(),
        port: port.port,
        members: members,
        done: done,
    })
}
