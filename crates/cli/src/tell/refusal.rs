//! A refusal in words: who is in the way, and the next step.

use sameport_rules::refusal::Refusal;
use sameport_rules::sockets::{Address, Member, Process};

use super::table::printable;

/// What happened, and what to do.
pub(crate) fn words(address: &Address, refusal: &Refusal) -> (String, String) {
    let port = address.port();
    let another = "or pick another port";
    match refusal {
        Refusal::NotLocal => (
            format!("{address} was refused: no interface of this machine has that address"),
            "`ip address` lists the ones it has".into(),
        ),
        Refusal::NeedsPrivilege => (
            format!("port {port} was refused: a port this low needs CAP_NET_BIND_SERVICE"),
            format!(
                "run as root, or open it to everybody: \
                 sysctl net.ipv4.ip_unprivileged_port_start={port}"
            ),
        ),
        Refusal::OtherUser(member) => (
            format!("port {port} is held by {}: only one user's sockets can share", holder(member)),
            format!("run as that user, {another}"),
        ),
        Refusal::NotShared(member) => {
            let likely = if member.shared.is_none() { ", likely" } else { "" };
            let program = member.processes.first().map_or("PROGRAM".into(), program);
            (
                format!("port {port} is held by {}{likely} without SO_REUSEPORT", holder(member)),
                format!("restart it under `sameport run -- {program} …`, {another}"),
            )
        }
        Refusal::WeDoNotShare(member) => (
            format!("port {port} is held by {}, and is not to be shared here", holder(member)),
            format!("share it, without --exclusive, {another}"),
        ),
        Refusal::Unexplained => (
            format!("{address} was refused, and no listener that can be seen explains it"),
            format!("a connection may still hold the port: ss -tan 'sport = :{port}'"),
        ),
    }
}

/// `nginx (pid 4121, user www-data)`, or what is known of it.
fn holder(member: &Member) -> String {
    let user = user(member);
    match member.processes.first() {
        Some(process) => format!("{} (pid {}, user {user})", program(process), process.pid),
        None => format!("a program of user {user} (root can see which)"),
    }
}

/// A process's name, which is whatever it likes.
pub(crate) fn program(process: &Process) -> String {
    printable(&process.program)
}

/// The owner's name, or number.
pub(crate) fn user(member: &Member) -> String {
    member.user.as_deref().map_or_else(|| member.socket.uid.to_string(), printable)
}
