//! The processes below this process: orphans, ancestry, signals.

#![expect(unsafe_code, reason = "kill(2) of real-time signals has no safe wrapper")]

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use sameport_policy::holder::MOST_ANCESTORS;

use crate::errno::last_errno;
use crate::fd::poll::wait_readable;

/// Makes orphaned descendants children of this process, which can then reap them
/// (`PR_SET_CHILD_SUBREAPER`, Linux 3.4).
///
/// # Errors
///
/// EINVAL: a kernel before Linux 3.4.
pub fn adopt_orphans() -> Result<(), Errno> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Whether a living process is a descendant of this process.
#[must_use]
pub fn is_descendant(pid: i32) -> bool {
    ancestry(pid).is_some()
}

/// A descendant of this process with its ancestors: the process, its parent, and so on up to a child
/// of this process. `None` if it is no descendant or has ended.
#[must_use]
pub fn ancestry(pid: i32) -> Option<Vec<i32>> {
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut chain = Vec::new();
    let mut next = pid;
    while chain.len() < MOST_ANCESTORS {
        chain.push(next);
        next = parent(next)?;
        if next == own_pid {
            return Some(chain);
        }
    }
    None
}

/// The parent: field 4 of `/proc/PID/stat`.
#[must_use]
pub fn parent_of(pid: i32) -> Option<i32> {
    parent(pid)
}

/// [`parent_of`] for this crate.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process group: field 5 of `/proc/PID/stat`. 0 if its leader is outside this pid namespace.
#[must_use]
pub fn group_of(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The session leader: field 6. 0 if it is outside this pid namespace.
pub(crate) fn session_of(pid: i32) -> Option<i32> {
    after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Whether this process leads its session (`getsid(2)`).
#[must_use]
pub fn leads_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|leader| leader == rustix::process::getpid())
}

/// Whether a process has a controlling terminal: field 7. The kernel removes it from every process of
/// the session when the terminal hangs up.
pub(super) fn has_terminal(pid: i32) -> bool {
    let stat = after_name(&format!("/proc/{pid}/stat"));
    let number = stat.and_then(|stat| stat.split_ascii_whitespace().nth(4)?.parse::<i32>().ok());
    number.is_some_and(|number| number != 0)
}

/// Whether a thread of a process has ended. A zombie has.
pub(crate) fn thread_has_ended(pid: i32, tid: i32) -> bool {
    let stat = after_name(&format!("/proc/{pid}/task/{tid}/stat"));
    stat.is_none_or(|stat| stat.trim_start().starts_with(['Z', 'X']))
}

/// Whether the main thread of a process has begun to exit, or there is no such process. `PF_EXITING` in
/// field 9 of `/proc/PID/stat`: the kernel sets it before it closes the descriptors.
#[must_use]
pub fn is_exiting(pid: i32) -> bool {
    const PF_EXITING: u32 = 0x4;
    let flags =
        || after_name(&format!("/proc/{pid}/stat"))?.split_ascii_whitespace().nth(6)?.parse().ok();
    let flags: Option<u32> = flags();
    flags.is_none_or(|flags| flags & PF_EXITING != 0)
}

/// Whether a process is stopped, by a signal or a debugger: state `T` or `t`, `proc_pid_stat(5)`.
#[must_use]
pub fn is_stopped(pid: i32) -> bool {
    let stat = after_name(&format!("/proc/{pid}/stat"));
    stat.is_some_and(|stat| stat.trim_start().starts_with(['T', 't']))
}

/// Whether no process has this id.
pub(crate) fn is_gone(pid: i32) -> bool {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.is_none_or(|pid| matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)))
}

/// The fields after the name, which is in parentheses and may contain any byte.
pub(super) fn after_name(stat: &str) -> Option<String> {
    let stat = std::fs::read_to_string(stat).ok()?;
    stat.rsplit_once(')').map(|(_, after_name)| after_name.to_owned())
}

/// Waits until a process has ended, for at most `timeout`. Returns `false` on timeout. The process stays
/// unreaped. Linux 5.3.
///
/// # Errors
///
/// Those of `pidfd_open(2)`: ESRCH if the process is reaped, EMFILE.
pub fn wait_exit(pid: i32, timeout: Duration) -> Result<bool, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(wait_readable(pidfd, timeout))
}

/// Sends a signal to a process (`kill(2)`), also a real-time signal. Succeeds if the process has ended.
///
/// # Errors
///
/// EINVAL: not a process id, or not a signal. EPERM: a process of another user.
pub fn signal(pid: i32, number: i32) -> Result<(), Errno> {
    // Other ids address groups of processes.
    if pid <= 0 || number <= 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: kill(2) takes numbers and no pointer. The signal goes to another process, so it runs no
    // handler here; the C library's own signals are those of its threads.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => match last_errno() {
            Errno::SRCH => Ok(()),
            errno => Err(errno),
        },
    }
}

/// Sends a signal to every process of a group (`killpg(3)`). Succeeds if the group is empty.
///
/// # Errors
///
/// EINVAL: the group is 1 or less, or not a signal. EPERM: all processes are of other users.
pub fn signal_group(group: i32, number: i32) -> Result<(), Errno> {
    // 0 is the group of this process, and for 1 the kernel signals every process.
    let group = if group > 1 { Pid::from_raw(group) } else { None };
    let (Some(group), Some(signal)) = (group, Signal::from_named_raw(number)) else {
        return Err(Errno::INVAL);
    };
    match rustix::process::kill_process_group(group, signal) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}
