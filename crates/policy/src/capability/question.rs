//! The questions of probes, and their answers.
//!
//! An answer is yes, no or unknown. A question that was refused is unknown, never a no.

use std::fmt;

/// The answer of a probe, or of a rule about probes. The text is a detail for a yes, else the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It works on this machine.
    Yes(String),
    /// It is missing or forbidden; the reason says which.
    No(String),
    /// The question was refused, or the answer proves nothing.
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

/// A question about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeSubject {
    /// Port sharing on this system, as the library promises it.
    Sharing,
    /// The mechanism of exclusive sockets. Not asked on Linux.
    Exclusive,
    /// Whether one socket can have both families. Not asked on Linux.
    DualStack,
    /// The release of the running kernel.
    Kernel,
    /// Whether no inherited filter refuses a call of the seccomp interposer.
    CallFilter,
    /// `SECCOMP_RET_USER_NOTIF` (Linux 5.0): a supervisor can handle system calls.
    SeccompNotify,
    /// Whether this process can install a filter with a listener.
    SeccompListener,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19): signals do not interrupt a call that waits.
    SeccompWaitKillable,
    /// `SECCOMP_IOCTL_NOTIF_ADDFD` (Linux 5.9): a descriptor can be installed in the waiting process.
    SeccompAddfd,
    /// `SECCOMP_ADDFD_FLAG_SEND` (Linux 5.14): install and answer in one step.
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
    /// Whether a parent may inspect its descendants (Yama's `ptrace_scope`, `CAP_SYS_PTRACE`).
    TraceDescendants,
    /// Whether a process may inspect other processes of its user.
    TraceSameUser,
    /// Whether the descriptors of other users' processes can be listed.
    SeeOtherUsers,
    /// `SO_REUSEPORT` (Linux 3.9).
    ReusePort,
    /// `SO_ATTACH_REUSEPORT_CBPF` (Linux 4.5).
    ReusePortCbpf,
    /// `SO_ATTACH_REUSEPORT_EBPF` of a program of type `sk_reuseport` (Linux 4.19): a program with memory
    /// selects the member.
    ReusePortEbpf,
    /// CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and Linux 5.15: the programs of the eBPF tier can be loaded.
    TrafficPrograms,
    /// `sock_diag` for TCP.
    SockDiagTcp,
    /// `sock_diag` for UDP.
    SockDiagUdp,
    /// A BPF iterator over descriptors (Linux 5.11): the holders of all sockets and their positions in
    /// groups, in one pass.
    SocketIterator,
    /// Whether the owner of a socket can be changed (CAP_CHOWN).
    ChangeOwner,
    /// `net.ipv4.tcp_migrate_req` (Linux 5.14).
    TcpMigrateReq,
    /// `net.core.somaxconn`, the limit of backlogs.
    Somaxconn,
    /// Whether this user may bind ports below 1024.
    LowPorts,
    /// Whether programs can use io_uring. Seccomp filters do not see its binds.
    IoUring,
    /// A cgroup v2 hierarchy.
    Cgroup2,
    /// Whether the root cgroup of the machine is visible.
    FirstCgroup,
    /// Whether this user can load eBPF programs.
    Ebpf,
    /// Whether this build contains the preload library.
    PreloadLibrary,
    /// A directory for the preload library.
    PreloadPlace,
    /// Whether a cgroup can be created below this process's own.
    OwnCgroup,
    /// Whether the programs of the cgroup interposer can be attached (Linux 5.18).
    CgroupPrograms,
    /// A BPF file system, where attachments outlive their process.
    Bpffs,
    /// Whether eBPF programs may read kernel memory (no lockdown=confidentiality).
    KernelMemory,
    /// The current attachments of `attach`.
    Attachments,
}

impl ProbeSubject {
    /// The name in the table and JSON. It does not change within a JSON version.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sharing => "sharing",
            Self::Exclusive => "exclusive",
            Self::DualStack => "dual-stack",
            Self::Kernel => "kernel",
            Self::CallFilter => "call-filter",
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
            Self::ReusePortEbpf => "so-attach-reuseport-ebpf",
            Self::TrafficPrograms => "traffic-programs",
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
            Self::KernelMemory => "kernel-memory",
            Self::Attachments => "attachments",
        }
    }
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFact {
    /// The question.
    pub subject: ProbeSubject,
    /// The answer.
    pub answer: ProbeAnswer,
}
