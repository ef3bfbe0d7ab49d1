//! What can be asked about a machine, and what a probe answers. What follows is decided in
//! [`crate::capability`].
//!
//! A probe answers yes, no or could not tell. Being refused the question is never taken for a no.

use std::fmt;

/// What a probe, or a rule about probes, says. The text is for a person: for a yes the detail, for
/// the other two the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It is there and works here.
    Yes(String),
    /// It is not there, or it is forbidden here; the reason says which.
    No(String),
    /// The question could not be asked, or its answer proves nothing.
    Unknown(String),
}

impl ProbeAnswer {
    /// The detail or the reason.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Yes(text) | Self::No(text) | Self::Unknown(text) => text,
        }
    }
}

/// `yes`, `no` or `could not tell`.
impl fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::Unknown(_) => "could not tell",
        })
    }
}

/// What can be asked about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeSubject {
    /// What sharing a port means on this system: the library's promise.
    Sharing,
    /// The running kernel's release.
    Kernel,
    /// `SECCOMP_RET_USER_NOTIF` (Linux 5.0): system calls can be held for a supervisor.
    SeccompNotify,
    /// A filter with a listener can be installed by this very process.
    SeccompListener,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19): signals do not interrupt a held call.
    SeccompWaitKillable,
    /// `SECCOMP_IOCTL_NOTIF_ADDFD` (Linux 5.9): a descriptor can be put into the held process.
    SeccompAddfd,
    /// `SECCOMP_ADDFD_FLAG_SEND` (Linux 5.14): put and answer in one step.
    SeccompAddfdSend,
    /// `PR_SET_NO_NEW_PRIVS`, without which an unprivileged filter is refused.
    NoNewPrivs,
    /// `pidfd_open` (Linux 5.3).
    PidfdOpen,
    /// `PIDFD_THREAD` (Linux 6.9): a pidfd of one thread.
    PidfdThread,
    /// `pidfd_getfd` (Linux 5.6): a duplicate of another process's descriptor.
    PidfdGetfd,
    /// `process_vm_readv` (Linux 3.2): another process's memory.
    ProcessVmReadv,
    /// Whether a parent may look into the processes it started (Yama's `ptrace_scope`, `CAP_SYS_PTRACE`).
    TraceDescendants,
    /// Whether a process may look into others of the same user that it did not start.
    TraceSameUser,
    /// Whether the descriptors of other users' processes can be listed.
    SeeOtherUsers,
    /// `SO_REUSEPORT` (Linux 3.9).
    ReusePort,
    /// `SO_ATTACH_REUSEPORT_CBPF` (Linux 4.5).
    ReusePortCbpf,
    /// `SO_NETNS_COOKIE` (Linux 5.14): which network namespace a socket is of.
    NetnsCookie,
    /// `sock_diag` for TCP.
    SockDiagTcp,
    /// `sock_diag` for UDP.
    SockDiagUdp,
    /// A BPF iterator over descriptors (Linux 5.11): in one pass who has which socket, and what only
    /// the kernel knows of groups.
    SocketIterator,
    /// Whether a socket can be given to another owner (CAP_CHOWN).
    ChangeOwner,
    /// `net.ipv4.tcp_migrate_req` (Linux 5.14).
    TcpMigrateReq,
    /// `net.core.somaxconn`, the most that a backlog can be.
    Somaxconn,
    /// Whether this user may bind ports below 1024.
    LowPorts,
    /// Whether programs can use io_uring, whose binds no seccomp filter sees.
    IoUring,
    /// A cgroup v2 hierarchy.
    Cgroup2,
    /// The first cgroup, which all processes of the machine are in or below, can be seen.
    FirstCgroup,
    /// An eBPF program can be loaded by this user.
    Ebpf,
    /// The preload library is in this build.
    PreloadLibrary,
    /// A folder that the preload library can lie in while a run lasts.
    PreloadPlace,
    /// A cgroup can be made below this process's own.
    OwnCgroup,
    /// The programs of the cgroup interposer can be attached to a cgroup (Linux 5.18).
    CgroupPrograms,
    /// A BPF file system, in which attachments outlive who made them.
    Bpffs,
    /// What `attach` acts on now.
    Attachments,
}

impl ProbeSubject {
    /// Its name in the table and in JSON; never changes within one JSON version.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sharing => "sharing",
            Self::Kernel => "kernel",
            Self::SeccompNotify => "seccomp-notify",
            Self::SeccompListener => "seccomp-listener",
            Self::SeccompWaitKillable => "seccomp-wait-killable",
            Self::SeccompAddfd => "seccomp-addfd",
            Self::SeccompAddfdSend => "seccomp-addfd-send",
            Self::NoNewPrivs => "no-new-privs",
            Self::PidfdOpen => "pidfd-open",
            Self::PidfdThread => "pidfd-thread",
            Self::PidfdGetfd => "pidfd-getfd",
            Self::ProcessVmReadv => "process-vm-readv",
            Self::TraceDescendants => "trace-descendants",
            Self::TraceSameUser => "trace-same-user",
            Self::SeeOtherUsers => "see-other-users",
            Self::ReusePort => "so-reuseport",
            Self::ReusePortCbpf => "so-attach-reuseport-cbpf",
            Self::NetnsCookie => "so-netns-cookie",
            Self::SockDiagTcp => "sock-diag-tcp",
            Self::SockDiagUdp => "sock-diag-udp",
            Self::SocketIterator => "socket-iterator",
            Self::ChangeOwner => "change-owner",
            Self::TcpMigrateReq => "tcp-migrate-req",
            Self::Somaxconn => "somaxconn",
            Self::LowPorts => "low-ports",
            Self::IoUring => "io-uring",
            Self::Cgroup2 => "cgroup2",
            Self::FirstCgroup => "first-cgroup",
            Self::Ebpf => "ebpf",
            Self::PreloadLibrary => "preload-library",
            Self::PreloadPlace => "preload-place",
            Self::OwnCgroup => "own-cgroup",
            Self::CgroupPrograms => "cgroup-programs",
            Self::Bpffs => "bpffs",
            Self::Attachments => "attachments",
        }
    }
}

/// One subject and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFact {
    /// What was asked.
    pub subject: ProbeSubject,
    /// What came back.
    pub answer: ProbeAnswer,
}
