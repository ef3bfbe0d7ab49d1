//! Advice for an address that cannot be bound: the socket in the way is named.

use std::net::SocketAddr;

use sameport::{Error as SocketError, ErrorKind as SocketErrorKind};
use sameport_policy::membership::{NotAMember, RunIdentity};
use sameport_policy::model::{Address, Process, Protocol};
use sameport_policy::refusal::Refusal;
use sameport_supervisor::conflict::{RefusedCaller, members_on, reason};
use sameport_sys::Errno;

use super::{ExitKind, Failure};
use crate::operations::listen::ListenRequest;
use crate::output::shell;
use crate::output::socket_owner::{holder, process_label};
use crate::output::text::{printable, shorten};

/// `listen` could not open its address; the program in the way is named.
pub(crate) fn listen_failure(request: &ListenRequest, error: &SocketError) -> Failure {
    named_refusal(request, error).unwrap_or_else(|| Failure::from(error))
}

fn named_refusal(request: &ListenRequest, error: &SocketError) -> Option<Failure> {
    if !matches!(error.kind(), SocketErrorKind::InUse | SocketErrorKind::InUseByAnotherUser) {
        return None;
    }
    let address = Address::new(request.protocol, error.address().parse().ok()?);
    let (message, hint) = explain(&address, !request.exclusive, false)?;
    Some(Failure::failed(message).hint(hint))
}

/// An address of `--listen` that the supervisor could not open.
pub(super) fn open_failure(address: SocketAddr, errno: Errno, is_private: bool) -> Failure {
    let kind = match errno {
        Errno::ACCESS | Errno::PERM | Errno::AFNOSUPPORT => ExitKind::Unsupported,
        _ => ExitKind::Failed,
    };
    let advice = match errno {
        Errno::ADDRINUSE | Errno::ACCESS if !is_private => {
            explain(&Address::new(Protocol::Tcp, address), true, errno == Errno::ACCESS)
        }
        _ => None,
    };
    let (message, hint) = advice.unwrap_or_else(|| {
        let port = address.port();
        (errno.to_string(), format!("`sameport ls {port}` shows which sockets have the port"))
    });
    Failure::new(kind, format!("--listen {address}: {message}")).hint(hint)
}

/// The message and the hint, where a visible socket explains the refusal.
fn explain(address: &Address, shared: bool, needs_privilege: bool) -> Option<(String, String)> {
    let caller = RefusedCaller { uid: sameport_sys::effective_user(), shared, needs_privilege };
    match reason(address, caller, &members_on(&[address]).ok()?) {
        Refusal::Unexplained => None,
        refusal => Some(refusal_advice(address, &refusal)),
    }
}

/// The message and the hint for an address that the kernel, or sameport, refused.
pub(crate) fn refusal_advice(address: &Address, refusal: &Refusal) -> (String, String) {
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
            format!("port {port} is held by {}, which no other socket can join", holder(member)),
            format!("run it as that user with --private in the same group, {another}"),
        ),
        Refusal::CallerIsPrivate(member) => (
            format!(
                "port {port} is held by {}, which is not in this private group",
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
        Refusal::CallerNotShared(member) => (
            format!(
                "port {port} is held by {}, and this socket has no SO_REUSEPORT",
                holder(member)
            ),
            format!("share it, without --exclusive or with --port {port}, {another}"),
        ),
        Refusal::OutsideGroup(owner) => not_a_member(address, owner),
        Refusal::Unexplained => (
            format!("{address} was refused, and no visible listener explains it"),
            format!("a connection may still hold the port: ss -tan 'sport = :{port}'"),
        ),
    }
}

/// The owner of the address, and the way to share it.
fn not_a_member(address: &Address, owner: &NotAMember) -> (String, String) {
    let label = |process: &Process| format!("pid {} ({})", process.pid, process_label(process));
    match owner {
        NotAMember::OtherGroup(process, run) => (
            format!(
                "{address} is held by another group: {}, started by {}",
                label(process),
                run_line(run)
            ),
            "give both runs the same --group, or --join to share it all the same".into(),
        ),
        NotAMember::NoRun(process, shared) => (
            format!("{address} is held by {}, which is under no `sameport run`", label(process)),
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
fn run_line(run: &RunIdentity) -> String {
    let group = run.group.as_ref().map(|group| format!("--group {group} ")).unwrap_or_default();
    let directory = run.directory.as_ref();
    let directory =
        directory.map(|path| format!(" in {}", shorten(&printable(&path.to_string_lossy()))));
    let command = shell::os_command(&run.command);
    format!("`sameport run {group}-- {command}`{}", directory.unwrap_or_default())
}
