//! System calls that a seccomp filter of a service manager or a container may refuse, and the lines of a
//! unit that permit them.
//!
//! Source: `systemd.exec(5)`, `SystemCallFilter=` and `RestrictAddressFamilies=`. The set
//! `@system-service` of systemd 252 has neither `pidfd_getfd` nor `seccomp` nor `bpf`.

use std::fmt;

/// Error numbers of Linux, the same on every architecture that the interposers know.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// A call that only some filters permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SandboxedCall {
    /// `socket(AF_UNIX)`: the control socket, reports of workers, notifications.
    UnixSocket,
    /// `socket(AF_NETLINK)`: the lists of sockets.
    NetlinkSocket,
    /// `seccomp`: the filter of workers.
    Seccomp,
    /// `pidfd_open`.
    PidfdOpen,
    /// `pidfd_getfd`: duplicates of the sockets of workers.
    PidfdGetfd,
    /// `process_vm_readv`: the arguments of a worker's call.
    ProcessVmReadv,
    /// `kcmp`: whether threads share descriptors.
    Kcmp,
    /// `bpf`.
    Bpf,
    /// `fchown`: the owner of sockets.
    Fchown,
    /// `io_uring_setup`: asked by `doctor`.
    IoUringSetup,
    /// `close_range`: a descriptor table of a thread's own.
    CloseRange,
}

/// What a filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// SIGSYS ends the process.
    Kills,
    /// The call fails with this error number.
    Fails(i32),
}

impl SandboxedCall {
    /// Every call.
    pub const ALL: [Self; 11] = [
        Self::UnixSocket,
        Self::NetlinkSocket,
        Self::Seccomp,
        Self::PidfdOpen,
        Self::PidfdGetfd,
        Self::ProcessVmReadv,
        Self::Kcmp,
        Self::Bpf,
        Self::Fchown,
        Self::IoUringSetup,
        Self::CloseRange,
    ];

    /// The calls without which no interposer works.
    pub const OF_EVERY_RUN: &[Self] = &[Self::UnixSocket];

    /// The calls of the seccomp interposer.
    pub const OF_SECCOMP: &[Self] =
        &[Self::Seccomp, Self::PidfdOpen, Self::PidfdGetfd, Self::ProcessVmReadv];

    /// The name, as a message has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixSocket => "socket(AF_UNIX)",
            Self::NetlinkSocket => "socket(AF_NETLINK)",
            Self::Seccomp => "seccomp",
            Self::PidfdOpen => "pidfd_open",
            Self::PidfdGetfd => "pidfd_getfd",
            Self::ProcessVmReadv => "process_vm_readv",
            Self::Kcmp => "kcmp",
            Self::Bpf => "bpf",
            Self::Fchown => "fchown",
            Self::IoUringSetup => "io_uring_setup",
            Self::CloseRange => "close_range",
        }
    }

    /// Whether this result of a harmless attempt means that a filter refused the call. `errno` is 0 if the
    /// call succeeded. EPERM of `bpf` and `io_uring_setup` is more often a missing privilege.
    #[must_use]
    pub fn refusal(self, errno: i32) -> Option<CallRefusal> {
        let is_refused = match self {
            Self::UnixSocket | Self::NetlinkSocket => {
                [EPERM, EACCES, ENOSYS, EAFNOSUPPORT].contains(&errno)
            }
            Self::Bpf | Self::IoUringSetup => false,
            _ => [EPERM, EACCES, ENOSYS].contains(&errno),
        };
        is_refused.then_some(CallRefusal::Fails(errno))
    }
}

/// Calls that are refused, with what happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedCalls(pub Vec<(SandboxedCall, CallRefusal)>);

impl RefusedCalls {
    /// The refusal of this call.
    #[must_use]
    pub fn of(&self, call: SandboxedCall) -> Option<CallRefusal> {
        self.0.iter().find(|(refused, _)| *refused == call).map(|(_, refusal)| *refusal)
    }

    /// The refused ones among these.
    #[must_use]
    pub fn among(&self, calls: &[SandboxedCall]) -> Self {
        Self(self.0.iter().filter(|(call, _)| calls.contains(call)).copied().collect())
    }

    /// Whether every call is permitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines that a unit needs in addition to the ones it has, in its last `[Service]` section or in a
    /// drop-in: each adds to a list of what is permitted, and removes from a list of what is refused.
    #[must_use]
    pub fn unit_lines(&self) -> Vec<String> {
        let family = |call: SandboxedCall| match call {
            SandboxedCall::UnixSocket => Some("AF_UNIX"),
            SandboxedCall::NetlinkSocket => Some("AF_NETLINK"),
            _ => None,
        };
        let calls = self.0.iter().map(|(call, _)| *call);
        let families: Vec<_> = calls.clone().filter_map(family).collect();
        let others: Vec<_> =
            calls.filter(|call| family(*call).is_none()).map(SandboxedCall::name).collect();
        let line = |setting: &str, names: Vec<&str>| {
            (!names.is_empty()).then(|| format!("{setting}={}", names.join(" ")))
        };
        [line("SystemCallFilter", others), line("RestrictAddressFamilies", families)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// `seccomp and pidfd_getfd`.
impl fmt::Display for RefusedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (call, _)) in self.0.iter().enumerate() {
            let separator = match (place, self.0.len() - place) {
                (0, _) => "",
                (_, 1) => " and ",
                _ => ", ",
            };
            write!(f, "{separator}{}", call.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SandboxedCall::*;

    const EBADF: i32 = 9;

    #[test]
    fn only_errors_that_a_filter_gives_are_refusals() {
        for (call, errno, expected) in [
            (PidfdGetfd, EBADF, None),
            (PidfdGetfd, EPERM, Some(CallRefusal::Fails(EPERM))),
            (PidfdGetfd, ENOSYS, Some(CallRefusal::Fails(ENOSYS))),
            (PidfdGetfd, EAFNOSUPPORT, None),
            (NetlinkSocket, 0, None),
            (NetlinkSocket, EAFNOSUPPORT, Some(CallRefusal::Fails(EAFNOSUPPORT))),
            (UnixSocket, EACCES, Some(CallRefusal::Fails(EACCES))),
            (Bpf, EPERM, None),
            (IoUringSetup, EPERM, None),
        ] {
            assert_eq!(call.refusal(errno), expected, "{call:?} {errno}");
        }
    }

    #[test]
    fn the_lines_name_each_call_once() {
        type Row<'a> = (&'a [SandboxedCall], &'a str, &'a [&'a str]);
        let cases: &[Row<'_>] = &[
            (&[], "", &[]),
            (&[Seccomp], "seccomp", &["SystemCallFilter=seccomp"]),
            (
                &[Seccomp, PidfdGetfd],
                "seccomp and pidfd_getfd",
                &["SystemCallFilter=seccomp pidfd_getfd"],
            ),
            (
                &[NetlinkSocket, Seccomp, PidfdGetfd],
                "socket(AF_NETLINK), seccomp and pidfd_getfd",
                &["SystemCallFilter=seccomp pidfd_getfd", "RestrictAddressFamilies=AF_NETLINK"],
            ),
            (
                &[UnixSocket, NetlinkSocket],
                "socket(AF_UNIX) and socket(AF_NETLINK)",
                &["RestrictAddressFamilies=AF_UNIX AF_NETLINK"],
            ),
        ];
        for (calls, text, lines) in cases {
            let refused =
                RefusedCalls(calls.iter().map(|call| (*call, CallRefusal::Kills)).collect());
            assert_eq!(refused.to_string(), *text);
            assert_eq!(refused.unit_lines(), *lines);
            assert_eq!(refused.of(Seccomp).is_some(), calls.contains(&Seccomp));
            assert_eq!(refused.among(SandboxedCall::OF_SECCOMP).0.len(), {
                calls.iter().filter(|call| SandboxedCall::OF_SECCOMP.contains(call)).count()
            });
        }
    }
}
