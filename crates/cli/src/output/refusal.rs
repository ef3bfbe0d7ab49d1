//! A refusal in words: who is in the way, and the next step.

use sameport_policy::membership::{NotAMember, RunIdentity};
use sameport_policy::model::{Address, Member, Process};
use sameport_policy::refusal::Refusal;

use super::run_changes::command;
use super::shell;
use super::table::printable;
use crate::error::shortened;

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
        Refusal::Private(member) => (
            format!("port {port} is held by {}, which nobody else can join", holder(member)),
            format!("run it as that user with --private in the same group, {another}"),
        ),
        Refusal::WeArePrivate(member) => (
            format!(
                "port {port} is held by {}, which is not of this private group",
                holder(member)
            ),
            format!("restart it under `sameport run --private` in the same group, {another}"),
        ),
        Refusal::NotShared(member) => {
            let likely = if member.shared.is_none() { ", likely" } else { "" };
            let program =
                member.processes.first().map_or("PROGRAM".into(), |it| shell::word(&it.program));
            (
                format!("port {port} is held by {}{likely} without SO_REUSEPORT", holder(member)),
                format!("restart it under `sameport run -- {program} …`, {another}"),
            )
        }
        Refusal::WeDoNotShare(member) => (
            format!("port {port} is held by {}, and is not to be shared here", holder(member)),
            format!("share it, without --exclusive, {another}"),
        ),
        Refusal::NotOurs(stranger) => not_ours(address, stranger),
        Refusal::Unexplained => (
            format!("{address} was refused, and no listener that can be seen explains it"),
            format!("a connection may still hold the port: ss -tan 'sport = :{port}'"),
        ),
    }
}

/// Who has the address, and how to share it with them.
fn not_ours(address: &Address, stranger: &NotAMember) -> (String, String) {
    let named = |process: &Process| format!("pid {} ({})", process.pid, program(process));
    match stranger {
        NotAMember::OtherGroup(process, run) => (
            format!(
                "{address} is held by another group: {}, started by {}",
                named(process),
                line(run)
            ),
            "give both runs the same --group, or --join to share it all the same".into(),
        ),
        NotAMember::NoRun(process, shared) => (
            format!("{address} is held by {}, which is under no `sameport run`", named(process)),
            match shared {
                Some(true) => "--join shares it all the same".into(),
                _ => format!(
                    "--join shares it if it has SO_REUSEPORT; or restart it under \
                     `sameport run -- {} …`",
                    shell::word(&process.program)
                ),
            },
        ),
        NotAMember::Unseen => (
            format!("{address} is held by a program that cannot be seen from here"),
            "--join shares it all the same, if it has SO_REUSEPORT".into(),
        ),
    }
}

/// ``sameport run -- python3 server.py` in /home/ann``.
fn line(run: &RunIdentity) -> String {
    let group = run.group.as_ref().map(|group| format!("--group {group} ")).unwrap_or_default();
    let directory = run.directory.as_ref();
    let directory =
        directory.map(|path| format!(" in {}", shortened(&printable(&path.to_string_lossy()))));
    format!("`sameport run {group}-- {}`{}", command(&run.command), directory.unwrap_or_default())
}

/// `nginx (pid 4121, user www-data)`, or what is known of it.
fn holder(member: &Member) -> String {
    if member.socket.is_private() {
        return match member.processes.first() {
            Some(process) => format!("{} (pid {}, a private group)", program(process), process.pid),
            None => "a private group (root can see which program)".into(),
        };
    }
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

/// The owner's name, or number; a private group's is no user.
pub(crate) fn user(member: &Member) -> String {
    match (member.socket.is_private(), member.user.as_deref()) {
        (true, _) => "private".to_owned(),
        (false, Some(name)) => printable(name),
        (false, None) => member.socket.uid.to_string(),
    }
}
