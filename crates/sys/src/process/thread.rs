//! What one thread of a worker is doing, and may do.

use rustix::io::Errno;

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// It waits in this system call.
    Waiting(u32),
    /// It runs, in the kernel or outside, or may not be looked at.
    Running,
    /// It has ended.
    Gone,
}

/// What the thread is doing, from `/proc/TID/syscall` (`proc_pid_syscall(5)`; needs the right to
/// ptrace it).
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

/// What a thread may do beyond what everybody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadRights {
    /// CAP_NET_BIND_SERVICE: bind ports below `net.ipv4.ip_unprivileged_port_start`.
    pub bind_low_ports: bool,
    /// CAP_NET_ADMIN or CAP_NET_RAW: take addresses that are not this machine's.
    pub bind_nonlocal: bool,
}

/// A thread's rights over *our* network namespace; `None` if it is gone. In a user namespace of its
/// own, capabilities are worth nothing here.
#[must_use]
pub fn thread_rights(tid: i32) -> Option<ThreadRights> {
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const NET_ADMIN_OR_RAW: u64 = 1 << 12 | 1 << 13;
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user")).ok();
    let ours = namespace("self") == namespace(&tid.to_string());
    Some(ThreadRights {
        bind_low_ports: ours && effective & NET_BIND_SERVICE != 0,
        bind_nonlocal: ours && effective & NET_ADMIN_OR_RAW != 0,
    })
}

/// The first port that needs no privilege, `net.ipv4.ip_unprivileged_port_start` (Linux 4.11; 1024
/// where it cannot be read).
#[must_use]
pub fn first_unprivileged_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}
