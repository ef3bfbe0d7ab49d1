//! Advice for what `steer` and `drain` refuse.

use sameport_policy::traffic::refusal::EXTENDED_NEEDS;
use sameport_policy::traffic::{RefusalCause, TrafficRefusal};
use sameport_sys::bpf::traffic::TrafficError;
use sameport_sys::effective_user;

use super::{ExitKind, Failure, client_failure, unresolved};
use crate::operations::traffic::Error;
use crate::operations::traffic::drain::DrainEnd;
use crate::operations::traffic::error::NeedOfRights;
use crate::operations::traffic::port::PortMembers;
use crate::output::holder;
use crate::output::socket_owner::holder_label;
use crate::output::text::sentence_list;

/// Names in one message.
const LISTED: usize = 8;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Name { name, source } => unresolved(&name, &source),
            Error::Look(error) => error.into(),
            Error::NoSocket { on, rest } => {
                let failure = Self::failed(format!("no socket takes connections on {on}"));
                match rest {
                    true => failure.hint(format!(
                        "the group that had a policy has ended: `sameport steer {on} off` removes it"
                    )),
                    false => failure.hint("`sameport ls` lists the sockets that do"),
                }
            }
            Error::TwoProtocols(addr) => {
                Self::usage(format!("TCP and UDP sockets take connections on {addr}"))
                    .hint(format!("write {addr}/tcp or {addr}/udp"))
            }
            Error::Refused { port, refusal } => refused(&port, &refusal),
            Error::NoMember { port, pid, exists, known } => {
                let message = match exists {
                    true => format!("pid {pid} has no socket that takes connections on {port}"),
                    false => format!("there is no process {pid}"),
                };
                Self::failed(message)
                    .hint(format!("the members of {port} are {}", sentence_list(known, LISTED)))
            }
            Error::NotShared { port, holder } => {
                let label = holder_label(&holder);
                let failure = Self::failed(format!(
                    "{label} listens on {port} without SO_REUSEPORT, so no other member can join"
                ));
                match holder::sharing([&*holder], effective_user()) {
                    Some(change) => failure.hint(format!("others can join with {change}")),
                    None => failure,
                }
            }
            Error::Rights { port, why, needs, is_mount } => {
                rights(&port, &why, &needs).hint(if is_mount { NO_BPFFS } else { EXTENDED_NEEDS })
            }
            Error::Supervisor(name, error) => client_failure(&name, &error),
            Error::LastMember { port, member } => Self::failed(format!(
                "{member} is the last member of {port} that gets new connections"
            ))
            .hint("start another member first: new clients would have none"),
            Error::NotDrained { port, member } => {
                Self::failed(format!("{member} is not drained on {port}"))
                    .hint(format!("`sameport steer {port}` shows the state of each member"))
            }
            Error::Vanished(port) => {
                Self::failed(format!("the members of {port} have ended meanwhile"))
                    .hint("`sameport ls` lists the sockets that take connections now")
            }
            Error::Changed(port) => Self::failed(format!(
                "other commands change the policy of {port} again and again; nothing was changed"
            ))
            .hint(format!("`sameport steer {port}` shows it")),
            Error::State { port, error } => state(&port, &error),
        }
    }
}

/// The state of a port that could not be read or changed.
fn state(port: &str, error: &TrafficError) -> Failure {
    match error {
        TrafficError::OtherLayout(path) => Failure::failed(format!(
            "{port}: {} is the state of another version of sameport",
            path.display()
        ))
        .hint(format!(
            "`sameport steer {port} off` removes it; `sameport steer {port} POLICY --replace` puts a \
             policy in its place"
        )),
        TrafficError::NotOurs(path) => {
            Failure::failed(format!("{port}: {} is not of sameport", path.display())).hint(format!(
                "`sameport steer {port} POLICY --replace` puts a policy in its place"
            ))
        }
        TrafficError::Steered => {
            Failure::failed(format!("{port}: the program of another selects among the members"))
                .hint(format!(
                    "the kernel does not say whose it is; `sameport steer {port} POLICY --replace` \
                     puts a policy in its place"
                ))
        }
        TrafficError::Busy(_, Some(pid)) => {
            Failure::failed(format!("{port}: {error}, which has not changed anything for 10 s"))
                .hint(format!("`kill -CONT {pid}` lets it go on if it is stopped; or end it"))
        }
        error => Failure::failed(format!("{port}: {error}")),
    }
}

fn refused(port: &str, refusal: &TrafficRefusal) -> Failure {
    let kind = match refusal.cause() {
        RefusalCause::Means => ExitKind::Unsupported,
        RefusalCause::Rules => ExitKind::Usage,
        RefusalCause::Members => ExitKind::Failed,
    };
    let failure = Failure::new(kind, format!("{port}: {refusal}"));
    match (refusal.next_step(), refusal) {
        (Some(next), _) => failure.hint(next),
        (None, TrafficRefusal::OneMember(_)) => failure.hint(
            "a second program has to listen there with SO_REUSEPORT, as under `sameport run`",
        ),
        (None, _) if kind == ExitKind::Usage => {
            failure.hint("`sameport steer --help` shows examples")
        }
        (None, _) => failure,
    }
}

/// In a mount namespace without the BPF file system, or without the right to mount one.
const NO_BPFFS: &str = "as root: `mount -t bpf bpf /sys/fs/bpf`, or do this where it is mounted: \
                        `nsenter --mount --target 1`";

/// eBPF is needed and not possible.
fn rights(port: &str, why: &str, needs: &NeedOfRights) -> Failure {
    let reason = match needs {
        NeedOfRights::OtherPrograms(programs) if programs.is_empty() => {
            format!("no named run has all members of {port}")
        }
        NeedOfRights::OtherPrograms(programs) => {
            format!("{port} has members of no named run: {}", sentence_list(programs, LISTED))
        }
        NeedOfRights::SeveralRuns(runs) => {
            format!("the members of {port} are of several runs: {}", sentence_list(runs, LISTED))
        }
        NeedOfRights::Unseen => format!("{port} has programs of another user"),
    };
    Failure::unsupported(format!("{reason}; only eBPF can steer them: {why}"))
}

/// `drain --timeout` is over.
pub(crate) fn drain_timeout(end: &DrainEnd, port: &PortMembers) -> Failure {
    let left = end.members.iter().filter(|member| member.is_there);
    let queued: u32 = left.clone().map(|member| member.queue).sum();
    let open: u32 = left.filter_map(|member| member.open).sum();
    let what = match queued {
        0 => format!("{open} connections are open"),
        _ => format!("{queued} connections wait in the queue, {open} are open"),
    };
    Failure::failed(format!("the time is over: {what}")).hint(format!(
        "it still gets no new connections; `sameport steer {}` shows it",
        port.name()
    ))
}
