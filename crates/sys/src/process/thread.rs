//! State and rights of a thread of a worker.

use rustix::io::Errno;

/// The state of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// The thread is blocked in the system call with this number.
    Waiting(u32),
    /// The thread is running, or its state cannot be read.
    Running,
    /// The thread has ended.
    Gone,
}

/// The state of a thread, from `/proc/TID/syscall` (`proc_pid_syscall(5)`, Linux 2.6.27). Needs the
/// right to ptrace the thread.
#[must_use]
pub fn thread_state(tid: i32) -> ThreadState {
    match std::fs::read_to_string(format!("/proc/{tid}/syscall")) {
        Ok(text) => text
            .split_ascii_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .map_or(ThreadState::Running, ThreadState::Waiting),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH) => ThreadState::Gone,
            _ => ThreadState::Running,
        },
    }
}

/// Rights of a thread that need capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadRights {
    /// CAP_NET_BIND_SERVICE: bind ports below `net.ipv4.ip_unprivileged_port_start`.
    pub bind_low_ports: bool,
    /// CAP_NET_ADMIN or CAP_NET_RAW: bind addresses that are not local, with IP_TRANSPARENT.
    pub bind_nonlocal: bool,
}

/// The rights of a thread in the network namespace of this process, from `/proc/TID/status`. A thread in
/// another user namespace has none of them here.
///
/// `None`: the thread has ended, or `/proc` belongs to another pid namespace, where the id is that of
/// another process.
#[must_use]
pub fn thread_rights(tid: i32) -> Option<ThreadRights> {
    if !proc_has_own_pids() {
        return None;
    }
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const NET_ADMIN_OR_RAW: u64 = 1 << 12 | 1 << 13;
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let is_same = namespace("self") == namespace(&tid.to_string());
    Some(ThreadRights {
        bind_low_ports: is_same && effective & NET_BIND_SERVICE != 0,
        bind_nonlocal: is_same && effective & NET_ADMIN_OR_RAW != 0,
    })
}

/// Whether `/proc` shows the process ids of this process's pid namespace. `NSpid` (Linux 4.1) lists the
/// ids from the namespace of `/proc` down to that of the process: one, if they are the same.
fn proc_has_own_pids() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.trim() == std::process::id().to_string())
}

/// The first port that needs no privilege: `net.ipv4.ip_unprivileged_port_start` (Linux 4.11), or
/// 1024 if it cannot be read.
#[must_use]
pub fn first_unprivileged_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}
