//! The processes of workers: their ends, their orphans, signals to them.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use sameport_policy::lifecycle::exit::Exit;

/// A child that has ended; its process id is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedChild {
    /// Its process id.
    pub pid: i32,
    /// How.
    pub exit: Exit,
}

/// Makes processes whose parent dies our children (`PR_SET_CHILD_SUBREAPER`, Linux 3.4), so that
/// their end is seen too.
pub fn adopt_orphans() -> Result<(), Errno> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Children that have ended, and whether any child is left.
pub fn reap() -> Result<(Vec<EndedChild>, bool), Errno> {
    let mut ended = Vec::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let number = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(number(code)),
                    (None, Some(signal)) => Exit::Signal(number(signal)),
                    (None, None) => continue,
                };
                ended.push(EndedChild { pid: pid.as_raw_nonzero().get(), exit });
            }
            Ok(None) => return Ok((ended, true)),
            Err(Errno::CHILD) => return Ok((ended, false)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Every process below this one: children, their children, and so on. A process that comes or goes
/// while we look may be missed: look again until there is none.
#[must_use]
pub fn descendants(of: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// Whether a process is our child, or a child of one, and so on. One that is gone is not.
#[must_use]
pub fn is_descendant(pid: i32) -> bool {
    ancestry(pid).is_some()
}

/// The process, its parent, and so on up to the one that is our child; `None` if none is, or the
/// process is gone.
#[must_use]
pub fn ancestry(pid: i32) -> Option<Vec<i32>> {
    const DEEPEST: usize = 256;
    let ourselves = rustix::process::getpid().as_raw_nonzero().get();
    let mut line = Vec::new();
    let mut next = pid;
    while line.len() < DEEPEST {
        line.push(next);
        next = parent(next)?;
        if next == ourselves {
            return Some(line);
        }
    }
    None
}

/// Field 4 of `/proc/PID/stat`.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Its process group: field 5. 0 for one that is outside of our pid namespace.
pub(crate) fn group_of(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The leader of its session: field 6. 0 for one that is outside of our pid namespace.
pub(crate) fn session_of(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Whether a thread of a process has ended; so has one that nobody has waited for.
pub(crate) fn thread_has_ended(pid: i32, tid: i32) -> bool {
    let stat = after_name(&format!("/proc/{pid}/task/{tid}/stat"));
    stat.is_none_or(|stat| stat.trim_start().starts_with(['Z', 'X']))
}

/// Whether no process has this number.
pub(crate) fn is_gone(pid: i32) -> bool {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.is_none_or(|pid| matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)))
}

/// What follows the name, which is in brackets and may hold anything.
fn after_name(stat: &str) -> Option<String> {
    let stat = std::fs::read_to_string(stat).ok()?;
    stat.rsplit_once(')').map(|(_, after_name)| after_name.to_owned())
}

/// Sends a signal, by number. A process that is gone is no error.
pub fn signal(pid: i32, number: i32) -> Result<(), Errno> {
    let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(number)) else {
        return Err(Errno::INVAL);
    };
    match rustix::process::kill_process(pid, signal) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// Sends a signal, by number, to every process of a group. A group that is gone is no error.
pub fn signal_group(group: i32, number: i32) -> Result<(), Errno> {
    // 0 and 1 would be our own group, and everybody.
    let group = if group > 1 { Pid::from_raw(group) } else { None };
    let (Some(group), Some(signal)) = (group, Signal::from_named_raw(number)) else {
        return Err(Errno::INVAL);
    };
    match rustix::process::kill_process_group(group, signal) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}
