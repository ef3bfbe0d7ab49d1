//! Advice for an address that cannot be bound: the socket in the way is named.

use std::net::SocketAddr;

use sameport::{Error as SocketError, ErrorKind as SocketErrorKind};
use sameport_policy::holder::{Holder, HolderClass, endings as steps};
use sameport_policy::membership::{NotAMember, RunIdentity};
use sameport_policy::model::{Address, Process, Protocol, is_private_uid};
use sameport_policy::refusal::{BlockReason, BlockingSocket, GuardRefusal, Refusal};
use sameport_supervisor::conflict::{PortSockets, RefusedCaller, reason};
use sameport_sys::{Errno, effective_user};

use super::{ExitKind, Failure};
use crate::operations::listen::ListenRequest;
use crate::operations::runtime_dir::runtime_dir;
use crate::output::guard::admit;
use crate::output::holder::{description, endings, root_prefix, sharing};
use crate::output::shell;
use crate::output::socket_owner::holder_label;
use crate::output::text::{printable, quotable, seconds_rounded_up, shorten};

/// `listen` could not open its address; the program in the way is named.
pub(crate) fn listen_failure(request: &ListenRequest, error: &SocketError) -> Failure {
    named_refusal(request, error).unwrap_or_else(|| Failure::from(error))
}

/// `agent` or `metrics` could not open its address. Nothing can share it: each says what its own runs are.
pub(crate) fn unshared_failure(request: &ListenRequest, error: &SocketError) -> Failure {
    let failure = listen_failure(request, error);
    match error.kind() {
        SocketErrorKind::InUse | SocketErrorKind::InUseByAnotherUser => {
            failure.hint("end that process, or give --listen another port")
        }
        _ => failure,
    }
}

fn named_refusal(request: &ListenRequest, error: &SocketError) -> Option<Failure> {
    let is_in_use =
        matches!(error.kind(), SocketErrorKind::InUse | SocketErrorKind::InUseByAnotherUser);
    let is_guarded = error.raw_os_error() == Some(Errno::PERM.raw_os_error());
    if !is_in_use && !is_guarded {
        return None;
    }
    let address = Address::new(request.protocol, error.address().parse().ok()?);
    match refusal_of_own(&address, !request.exclusive, false)? {
        Refusal::Guarded(guard) => {
            let (message, hint) = guarded(&address, &guard);
            Some(Failure::unsupported(message).hint(hint))
        }
        refusal if is_in_use => {
            let (message, hint) = match error.owner_uid() {
                // An exclusive listener binds over closed connections, and gives up beside a socket.
                Some(uid) if error.call() == "listen" && is_closing(&refusal) => {
                    beside_bound_socket(address.port(), uid)
                }
                _ => advice(&address, &refusal, false),
            };
            Some(Failure::failed(message).hint(hint))
        }
        _ => None,
    }
}

fn is_closing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::InUse(socket) if matches!(socket.reason, BlockReason::Closing(_)))
}

fn beside_bound_socket(port: u16, uid: u32) -> (String, String) {
    (
        format!(
            "port {port} is bound by a socket of uid {uid}, which does not listen and could take \
             connections: an exclusive listener does not start beside it"
        ),
        format!("{}`sameport ls {port}` names its process", root_prefix(effective_user())),
    )
}

/// An address of `--listen` that the supervisor could not open.
pub(super) fn open_failure(address: SocketAddr, errno: Errno, is_private: bool) -> Failure {
    let kind = match errno {
        Errno::ACCESS | Errno::PERM | Errno::AFNOSUPPORT => ExitKind::Unsupported,
        _ => ExitKind::Failed,
    };
    let advice = match errno {
        Errno::ADDRINUSE | Errno::ACCESS | Errno::PERM if !is_private => {
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
    refusal_of_own(address, shared, needs_privilege).map(|refusal| advice(address, &refusal, false))
}

/// Why a bind of sameport itself was refused, where that is visible.
fn refusal_of_own(address: &Address, shared: bool, needs_privilege: bool) -> Option<Refusal> {
    let caller = RefusedCaller {
        pid: std::process::id().cast_signed(),
        uid: effective_user(),
        shared,
        needs_privilege,
    };
    let runtime = runtime_dir();
    match reason(address, caller, &PortSockets::on(&[address], runtime.as_deref()).ok()?) {
        Refusal::Unexplained => None,
        refusal => Some(refusal),
    }
}

/// The message and the hint for an address of a worker that the kernel, or sameport, refused.
pub(crate) fn refusal_advice(address: &Address, refusal: &Refusal) -> (String, String) {
    advice(address, refusal, true)
}

/// `is_worker`: whether a worker's bind was refused, and not one of sameport itself.
fn advice(address: &Address, refusal: &Refusal, is_worker: bool) -> (String, String) {
    let port = address.port();
    match refusal {
        Refusal::NotLocal => (
            format!("{address} was refused: no interface of this machine has that address"),
            "`ip address` lists the ones it has; --freebind binds one that none has yet".into(),
        ),
        Refusal::NeedsPrivilege => (
            format!("port {port} was refused: a port this low needs CAP_NET_BIND_SERVICE"),
            format!(
                "run as root, or {}sysctl net.ipv4.ip_unprivileged_port_start={port} for every user; \
                 `{}` lists the other ways",
                root_prefix(effective_user()),
                why(address, true, None)
            ),
        ),
        Refusal::InUse(socket) => in_use(address, socket, is_worker),
        Refusal::Guarded(guard) => guarded(address, guard),
        Refusal::OutsideGroup(owner) => not_a_member(address, owner),
        Refusal::Unexplained => (
            format!("{address} was refused, and no visible socket explains it"),
            format!("`{}` answers when the reason is still there", why(address, true, None)),
        ),
    }
}

/// Who may bind the port, and the command that admits the user of the refused process.
fn guarded(address: &Address, guard: &GuardRefusal) -> (String, String) {
    let GuardRefusal { port, protocol, allow, uid } = guard;
    let only: Vec<String> = allow.iter().map(|spec| quotable(&spec.to_string())).collect();
    let only = if only.is_empty() { "nobody".to_owned() } else { only.join(" ") };
    (
        format!("{} was refused: EPERM by bind: it is guarded for {only}", address.labelled()),
        format!("`{}` admits this user", admit(*port, *protocol, allow, *uid)),
    )
}

/// The holder, why it prevents the bind, the first way that works, and the command that lists the others.
fn in_use(address: &Address, socket: &BlockingSocket, is_worker: bool) -> (String, String) {
    let port = address.port();
    let holder = description(&socket.holder);
    let message = match socket.reason {
        BlockReason::OtherUser => {
            format!("port {port} is held by {holder}: only one user's sockets can share")
        }
        BlockReason::Private => {
            format!("port {port} is held by {holder}, which no other socket can join")
        }
        BlockReason::CallerIsPrivate => {
            format!("port {port} is held by {holder}, which is not in this private group")
        }
        BlockReason::NotShared => {
            let comma = if holder.ends_with(')') && !holder.contains("), ") { "" } else { "," };
            format!("port {port} is held by {holder}{comma} without SO_REUSEPORT")
        }
        BlockReason::LikelyNotShared => {
            format!("port {port} is held by {holder}, likely without SO_REUSEPORT")
        }
        BlockReason::CallerNotShared => {
            format!("port {port} is held by {holder}, and this socket has no SO_REUSEPORT")
        }
        BlockReason::Connection => {
            format!("port {port} is held by {holder}: its end of a connection, not a listener")
        }
        BlockReason::Closing(_) => {
            format!("port {port} is held by a closed connection (TIME_WAIT), by no program")
        }
    };
    let why = why(address, socket.caller_shares, Some(socket.caller));
    let hint = match first_way(port, socket, is_worker) {
        Some(way) if is_private_uid(socket.caller) => way,
        Some(way) => format!("{way}; `{why}` lists what else would work"),
        None => format!("`{why}` lists what would work"),
    };
    (message, hint)
}

/// The first way that lets the refused program have the address: sharing it, else closing the socket.
fn first_way(port: u16, socket: &BlockingSocket, is_worker: bool) -> Option<String> {
    let caller = effective_user();
    match socket.reason {
        BlockReason::NotShared | BlockReason::LikelyNotShared => {
            // The holder is then in a run of another command. `sameport listen` shares unless it is
            // exclusive on purpose.
            let is_ours = |it: &Process| it.program == sameport_supervisor::PROGRAM;
            let process = socket.holder.process.as_ref().filter(|process| !is_ours(process));
            let shared = process.and_then(|_| sharing([&socket.holder], caller));
            let join = if is_worker { ", and this run with --join" } else { "" };
            shared.map(|change| format!("share it: {change}{join}"))
        }
        BlockReason::CallerNotShared => {
            Some(format!("share it, without --exclusive or with --port {port}"))
        }
        BlockReason::CallerIsPrivate => {
            Some("restart it under `sameport run --private` in the same group".to_owned())
        }
        // The sockets of sameport have every option that could help.
        BlockReason::Closing(ends_in) if !is_worker => {
            Some(format!("wait {} s", seconds_rounded_up(ends_in)))
        }
        BlockReason::Closing(ends_in) => Some(format!(
            "wait {} s, or set SO_REUSEADDR in the program, if that of the closed connection had it too",
            seconds_rounded_up(ends_in)
        )),
        BlockReason::OtherUser | BlockReason::Private | BlockReason::Connection => None,
    }
    .or_else(|| Some(endings(&steps([&socket.holder], caller))).filter(|way| !way.is_empty()))
}

/// The question whose answer is this refusal: `sameport why 127.0.0.1:8080/tcp --reuse-port`.
fn why(address: &Address, shared: bool, owner: Option<u32>) -> String {
    let at = match address.is_dual_stack() && address.device.is_none() {
        true => format!("{}/{}", address.port(), address.protocol),
        false => address.labelled().to_string(),
    };
    let mut words = vec!["sameport why".to_owned(), shell::word(&at)];
    words.extend(shared.then(|| "--reuse-port".to_owned()));
    words.extend(address.v6only.then(|| "--v6only".to_owned()));
    let owner = owner.filter(|uid| *uid != effective_user());
    words.extend(owner.map(|uid| format!("--user {uid}")));
    words.join(" ")
}

/// The owner of the address, and the way to share it.
fn not_a_member(address: &Address, owner: &NotAMember) -> (String, String) {
    // A worker of root can change its user.
    let caller = effective_user();
    let of_other_user = |it: &Holder| caller != 0 && it.uid.is_some_and(|uid| uid != caller);
    match owner {
        // `--join` gives the socket SO_REUSEPORT, and no other owner.
        NotAMember::OtherGroup(holder, _) | NotAMember::NoRun(holder, _)
            if of_other_user(holder) =>
        {
            (
                format!(
                    "{address} is held by {}: only one user's sockets can share",
                    holder_label(holder)
                ),
                format!("`{}` lists what would work", why(address, true, None)),
            )
        }
        NotAMember::OtherGroup(holder, run) => (
            format!(
                "{address} is held by another group: {}, started by {}",
                holder_label(holder),
                run_line(holder, run)
            ),
            "give both runs the same --group, or --join to share it all the same".into(),
        ),
        NotAMember::NoRun(holder, shared) => {
            let restart = sharing([&**holder], effective_user());
            let hint = match (shared, restart) {
                (Some(true), _) => "--join shares it all the same".to_owned(),
                (_, Some(change)) => {
                    format!("--join shares it if it has SO_REUSEPORT; else {change}, and --join")
                }
                (_, None) => "--join shares it if it has SO_REUSEPORT".to_owned(),
            };
            let place = match holder.class {
                HolderClass::Run { supervisor: None, .. } => "whose supervisor was killed",
                _ => "which is under no `sameport run`",
            };
            (format!("{address} is held by {}, {place}", holder_label(holder)), hint)
        }
        NotAMember::Unseen => (
            format!("{address} is held by a program that cannot be seen from here"),
            "--join shares it all the same, if it has SO_REUSEPORT".into(),
        ),
    }
}

/// ``sameport run --name web -- python3 server.py` in /home/ann``.
fn run_line(holder: &Holder, run: &RunIdentity) -> String {
    let name = match &holder.class {
        HolderClass::Run { of, .. } => format!("--name {} ", of.name),
        _ => String::new(),
    };
    let group = run.group.as_ref().map(|group| format!("--group {group} ")).unwrap_or_default();
    let directory = run.directory.as_ref();
    let directory =
        directory.map(|path| format!(" in {}", shorten(&printable(&path.to_string_lossy()))));
    let command = shell::os_excerpt(&run.command);
    format!("`sameport run {name}{group}-- {command}`{}", directory.unwrap_or_default())
}
