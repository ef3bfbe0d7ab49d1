//! The input of the audit.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::guard::Binder;
use crate::holder::HolderFacts;
use crate::membership::RunIdentity;
use crate::model::Member;

/// The input of the audit.
#[derive(Debug, Clone, Default)]
pub struct AuditFacts {
    /// Sockets in every state, with their processes.
    pub members: Vec<Member>,
    /// More about these processes and their ancestors, by pid.
    pub evidence: BTreeMap<i32, ProgramEvidence>,
    /// Settings of the kernel.
    pub kernel: KernelSettings,
    /// The port to audit; `None` for all. For a single port, findings include normal obstacles,
    /// such as a connection.
    pub port: Option<u16>,
    /// Programs that select a socket before the kernel's lookup.
    pub redirections: Vec<Redirection>,
    /// Who holds the sockets.
    pub holders: HolderFacts,
    /// The user who would follow a fix.
    pub caller: u32,
    /// Whether this machine can guard a port: the root cgroup is visible.
    pub can_guard: bool,
}

/// Evidence about the program that a process runs. Hidden facts are `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramEvidence {
    /// Device and inode number of the executed file. A path can name another file in another mount
    /// namespace.
    pub executable: Option<(u64, u64)>,
    /// The working directory.
    pub directory: Option<PathBuf>,
    /// The ancestor processes, parent first.
    pub ancestors: Vec<i32>,
    /// The `sameport run`s around the process, innermost first.
    pub runs: Vec<RunIdentity>,
    /// The properties that a guard compares.
    pub binder: Option<Binder>,
}

/// Settings of the kernel, or of the network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSettings {
    /// `net.ipv4.ip_local_port_range`: the ports that the kernel assigns for port 0.
    pub ephemeral_ports: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`, as text: the exceptions from that range.
    pub reserved_ports: String,
    /// `kernel.yama.ptrace_scope`; `None` without Yama, which is like 0: a program can duplicate the
    /// descriptors of another program of its user (`pidfd_getfd(2)`).
    pub ptrace_scope: Option<u8>,
    /// Whether process 1 passes sockets to services, as systemd does. Being a descendant of process
    /// 1 is then no evidence.
    pub init_passes_sockets: bool,
}

impl Default for KernelSettings {
    /// The defaults of Linux.
    fn default() -> Self {
        Self {
            ephemeral_ports: 32_768..=60_999,
            reserved_ports: String::new(),
            ptrace_scope: None,
            init_passes_sockets: false,
        }
    }
}

/// A program in the network namespace that can direct traffic to any socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// The id of the eBPF program (`BPF_PROG_TYPE_SK_LOOKUP`).
    pub program: u32,
}
