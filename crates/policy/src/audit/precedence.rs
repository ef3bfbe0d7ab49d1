//! Which of two sockets or processes owns an address: services first, then the older one.

use std::time::Duration;

use super::service::service_of;
use crate::model::{Member, Process, is_private_uid};

/// Sort key of a process: services first, then by start time.
pub(super) type ProcessPrecedence = (bool, Duration, i32);

/// Sort key of a socket. The kernel does not report when a socket was created; its oldest process
/// is at least as old.
pub(super) fn precedence(member: &Member) -> (ProcessPrecedence, u64) {
    let process = oldest(&member.processes);
    let of_process = process.map_or((true, Duration::MAX, i32::MAX), process_precedence);
    (of_process, member.socket.inode)
}

pub(super) fn process_precedence(process: &Process) -> ProcessPrecedence {
    let (started, pid) = started(process);
    (service_of(process).unit.is_none(), started, pid)
}

/// The process with the earliest start time.
pub(super) fn oldest(processes: &[Process]) -> Option<&Process> {
    processes.iter().min_by_key(|process| started(process))
}

fn started(process: &Process) -> (Duration, i32) {
    let started = process.details.as_ref().and_then(|details| details.started);
    (started.unwrap_or(Duration::MAX), process.pid)
}

/// The user behind a socket. The owner of a private group's socket is no user: then it is the user
/// of the oldest process.
pub(super) fn socket_user(member: &Member) -> u32 {
    let uid = member.socket.uid;
    if !is_private_uid(uid) {
        return uid;
    }
    let details = oldest(&member.processes).and_then(|process| process.details.as_ref());
    details.and_then(|details| details.uid).unwrap_or(uid)
}
