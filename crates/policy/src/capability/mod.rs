//! The capabilities of `sameport` on a machine, from the answers of probes.
//!
//! A capability is as good as the weakest answer it needs.

pub mod kernels;
pub mod question;
pub mod restrictions;
#[cfg(test)]
mod tests;

use crate::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};
use crate::traffic::refusal::EXTENDED_NEEDS;

/// A capability of `sameport`, and whether this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// A short name for the table and JSON: `run`, `ls`.
    pub name: &'static str,
    /// A description for the table.
    pub purpose: &'static str,
    /// Whether it works, and the reason if not, or not completely.
    pub answer: ProbeAnswer,
    /// A hint, unless it works completely.
    pub next: Option<&'static str>,
}

/// A requirement of a capability.
struct Requirement {
    subject: ProbeSubject,
    /// A hint if it is missing.
    next: &'static str,
}

/// An improvement of a capability, and the loss without it.
struct Optional {
    subject: ProbeSubject,
    lost: &'static str,
}

/// A capability and the probes it depends on.
struct CapabilityRow {
    name: &'static str,
    purpose: &'static str,
    needs: &'static [Requirement],
    improvements: &'static [Optional],
}

const OLD_KERNEL: &str = "needs Linux 5.9 or newer, 5.19 or newer is best";
const GETFD: &str = "needs Linux 5.9 or newer, and a container profile that allows it (many do with CAP_SYS_PTRACE)";
const GETFD_ALONE: &str = "needs Linux 5.6 or newer, and a container profile that allows it (many do with CAP_SYS_PTRACE)";
const CGROUP_KERNEL: &str = "needs Linux 5.18 or newer, and root";
const SANDBOX: &str = "start sameport outside the sandbox or container profile that forbids it";
const FILTER: &str =
    "permit them: in a systemd unit by SystemCallFilter=, in a container by its seccomp profile";
const TRY: &str = "no obstacle is known: try it";
const ROOT: &str = "needs root, or CAP_BPF with CAP_NET_ADMIN";
const PTRACE_SCOPE: &str = "set kernel.yama.ptrace_scope to 0 or 1 (3 stays until a reboot); at 2, CAP_SYS_PTRACE is enough";
const LOCKDOWN: &str =
    "boot without lockdown=confidentiality: the programs of guards read kernel memory";
const MOUNT_CGROUP2: &str = "mount it: mount -t cgroup2 none /sys/fs/cgroup";
const MOUNT_BPF: &str = "mount it: mount -t bpf bpf /sys/fs/bpf";
const FIRST_CGROUP: &str = "run it as root, outside of containers";
const DIAG: &str = "needs Linux with the kernel modules tcp_diag, udp_diag and inet_diag";

/// All capabilities, except `run`, which [`run_capability`] derives from its interposers.
const CAPABILITIES: &[CapabilityRow] = &[
    CapabilityRow {
        name: SECCOMP,
        purpose: "run --via seccomp: any program, static ones too, without privilege",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::CallFilter, next: FILTER },
            Requirement { subject: ProbeSubject::SeccompNotify, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::NoNewPrivs, next: SANDBOX },
            Requirement {
                subject: ProbeSubject::SeccompListener,
                next: "only one seccomp listener is possible: start sameport outside of the other one",
            },
            Requirement { subject: ProbeSubject::PidfdOpen, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD },
            Requirement { subject: ProbeSubject::ProcessVmReadv, next: SANDBOX },
            Requirement { subject: ProbeSubject::TraceDescendants, next: PTRACE_SCOPE },
        ],
        improvements: &[
            Optional {
                subject: ProbeSubject::SeccompWaitKillable,
                lost: "a signal can interrupt a program's bind",
            },
            Optional {
                subject: ProbeSubject::PidfdThread,
                lost: "binds of threads with a separate descriptor table are not shared",
            },
        ],
    },
    CapabilityRow {
        name: PRELOAD,
        purpose: "run --via preload: dynamically linked programs, without privilege",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement {
                subject: ProbeSubject::PreloadLibrary,
                next: "build it on the target machine",
            },
            Requirement {
                subject: ProbeSubject::PreloadPlace,
                next: "make one of these directories usable; without root, set XDG_RUNTIME_DIR",
            },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: CGROUP,
        purpose: "run --via cgroup: any program, by eBPF",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::Cgroup2, next: MOUNT_CGROUP2 },
            Requirement { subject: ProbeSubject::Ebpf, next: ROOT },
            Requirement { subject: ProbeSubject::OwnCgroup, next: ROOT },
            Requirement { subject: ProbeSubject::CgroupPrograms, next: CGROUP_KERNEL },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "attach",
        purpose: "share the ports of services that run already",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::Cgroup2, next: MOUNT_CGROUP2 },
            Requirement { subject: ProbeSubject::Ebpf, next: ROOT },
            Requirement { subject: ProbeSubject::CgroupPrograms, next: CGROUP_KERNEL },
            Requirement { subject: ProbeSubject::Bpffs, next: MOUNT_BPF },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "guard",
        purpose: "let the kernel refuse binds of a port",
        needs: &[
            Requirement { subject: ProbeSubject::FirstCgroup, next: FIRST_CGROUP },
            Requirement { subject: ProbeSubject::Ebpf, next: ROOT },
            Requirement { subject: ProbeSubject::CgroupPrograms, next: CGROUP_KERNEL },
            Requirement { subject: ProbeSubject::Bpffs, next: MOUNT_BPF },
            Requirement { subject: ProbeSubject::KernelMemory, next: LOCKDOWN },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "private",
        purpose: "run --private: only members of the group can join its ports, not even root",
        needs: &[
            Requirement { subject: ProbeSubject::SeccompNotify, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD },
            Requirement { subject: ProbeSubject::ChangeOwner, next: "needs root, or CAP_CHOWN" },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "policy",
        purpose: "run --policy: hash, random, weights, sticky, standby, cpu, numa, without privilege",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement {
                subject: ProbeSubject::ReusePortCbpf,
                next: "needs Linux 4.5, in a sandbox that permits the option",
            },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "steer",
        purpose: "every policy, for any group: least-connections, two-choices, round-robin too",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::Ebpf, next: EXTENDED_NEEDS },
            Requirement { subject: ProbeSubject::ReusePortEbpf, next: EXTENDED_NEEDS },
            Requirement { subject: ProbeSubject::TrafficPrograms, next: EXTENDED_NEEDS },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD },
            Requirement { subject: ProbeSubject::Cgroup2, next: MOUNT_CGROUP2 },
            Requirement { subject: ProbeSubject::FirstCgroup, next: FIRST_CGROUP },
            Requirement { subject: ProbeSubject::Bpffs, next: MOUNT_BPF },
        ],
        improvements: &[Optional {
            subject: ProbeSubject::SocketIterator,
            lost: "a hung worker is known by its open connections only",
        }],
    },
    LISTEN,
    CapabilityRow {
        name: "ls",
        purpose: "list the sockets that hold ports",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::SockDiagUdp, next: DIAG },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "ls-shared",
        purpose: "show whether a socket of this user is shared",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::PidfdOpen, next: GETFD_ALONE },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD_ALONE },
            Requirement {
                subject: ProbeSubject::TraceSameUser,
                next: "run ls as root; otherwise unknown options are inferred, or left open",
            },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "ls-others",
        purpose: "name the programs of other users",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::SeeOtherUsers, next: "run ls as root" },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "ls-groups",
        purpose: "show the position of a member in its group, and whether a program steers it",
        needs: &[Requirement { subject: ProbeSubject::SocketIterator, next: "run ls as root" }],
        improvements: &[],
    },
    CapabilityRow {
        name: "why",
        purpose: "predict what a bind would answer",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::SockDiagUdp, next: DIAG },
        ],
        improvements: &[Optional {
            subject: ProbeSubject::SeeOtherUsers,
            lost: "options of other users' sockets are unknown, so the answer may be `unsure`",
        }],
    },
    CapabilityRow {
        name: "audit",
        purpose: "find programs that took a port, or a part of it",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::SockDiagUdp, next: DIAG },
        ],
        improvements: &[
            Optional {
                subject: ProbeSubject::SeeOtherUsers,
                lost: "programs of other users are not named",
            },
            Optional {
                subject: ProbeSubject::SocketIterator,
                lost: "a program that steers a group is not visible",
            },
        ],
    },
];

/// The capabilities, given these facts. A missing fact counts as unknown.
#[must_use]
pub fn capabilities(facts: &[ProbeFact]) -> Vec<Capability> {
    let mut capabilities: Vec<_> = CAPABILITIES.iter().map(|row| evaluate(row, facts)).collect();
    let run = run_capability(&capabilities, facts);
    capabilities.insert(0, run);
    capabilities
}

/// The capabilities of the verbs that exist on every system, given the facts of the library.
#[must_use]
pub fn portable_capabilities(facts: &[ProbeFact]) -> Vec<Capability> {
    PORTABLE.iter().map(|row| evaluate(row, facts)).collect()
}

/// The capability that every system's table has.
const LISTEN: CapabilityRow = CapabilityRow {
    name: "listen",
    purpose: "listen on a shared address, and dial from one",
    needs: &[Requirement {
        subject: ProbeSubject::Sharing,
        next: "listen --exclusive works everywhere",
    }],
    improvements: &[],
};

/// The capabilities of a system other than Linux.
const PORTABLE: &[CapabilityRow] = &[
    LISTEN,
    CapabilityRow {
        name: "listen-exclusive",
        purpose: "listen on an address that no other socket shares",
        needs: &[Requirement { subject: ProbeSubject::Exclusive, next: TRY }],
        improvements: &[],
    },
    CapabilityRow {
        name: "listen-both",
        purpose: "receive IPv4 and IPv6 on one socket",
        needs: &[Requirement {
            subject: ProbeSubject::DualStack,
            next: "`sameport listen PORT` opens one socket for each family",
        }],
        improvements: &[],
    },
];

const SECCOMP: &str = "run-seccomp";
const PRELOAD: &str = "run-preload";
const CGROUP: &str = "run-cgroup";

/// Facts that `run` checks before it starts a program. Only if one of these is a no, `run` selects
/// another interposer.
const CHECKED_BEFORE_START: [ProbeSubject; 8] = [
    ProbeSubject::CallFilter,
    ProbeSubject::SeccompNotify,
    ProbeSubject::NoNewPrivs,
    ProbeSubject::SeccompListener,
    ProbeSubject::PidfdOpen,
    ProbeSubject::PidfdGetfd,
    ProbeSubject::ProcessVmReadv,
    ProbeSubject::TraceDescendants,
];

const NAME_PRELOAD: &str = "--via preload reaches dynamically linked programs here";
const NAME_CGROUP: &str = "--via cgroup reaches any program here";

/// `run` uses the first interposer that works.
fn run_capability(capabilities: &[Capability], facts: &[ProbeFact]) -> Capability {
    let of = |name| capabilities.iter().find(|capability| capability.name == name);
    let run = |answer, next| Capability {
        name: "run",
        purpose: "share the port of an unmodified program",
        answer,
        next,
    };
    let Some(seccomp) = of(SECCOMP) else {
        return run(ProbeAnswer::Unknown("not asked".into()), Some(TRY));
    };
    let ProbeAnswer::No(why) = &seccomp.answer else {
        return run(seccomp.answer.clone(), seccomp.next);
    };
    let others = [("preload", of(PRELOAD), NAME_PRELOAD), ("cgroup", of(CGROUP), NAME_CGROUP)];
    let others = others.iter().filter_map(|(via, capability, hint)| {
        let answer = &capability.as_ref()?.answer;
        Some((via, answer, *hint))
    });
    let works = others.clone().find(|(_, answer, _)| matches!(answer, ProbeAnswer::Yes(_)));
    let falls_back = facts.iter().any(|fact| {
        CHECKED_BEFORE_START.contains(&fact.subject) && matches!(fact.answer, ProbeAnswer::No(_))
    });
    if !falls_back {
        let next = works.map(|(_, _, hint)| hint).or(seccomp.next);
        return run(seccomp.answer.clone(), next);
    }
    if let Some((via, _, _)) = works {
        return run(ProbeAnswer::Yes(format!("by {via}; seccomp cannot: {why}")), None);
    }
    for (via, answer, _) in others {
        if let ProbeAnswer::Unknown(reason) = answer {
            return run(ProbeAnswer::Unknown(format!("{via}: {reason}")), Some(TRY));
        }
    }
    run(seccomp.answer.clone(), seccomp.next)
}

/// Whether the capability of this name is a definite no.
#[must_use]
pub fn is_unavailable(capabilities: &[Capability], name: &str) -> bool {
    capabilities.iter().any(|a| a.name == name && matches!(a.answer, ProbeAnswer::No(_)))
}

/// The first no among the requirements decides, then the first unknown. Missing improvements only
/// qualify a yes.
fn evaluate(row: &CapabilityRow, facts: &[ProbeFact]) -> Capability {
    let answer_to = |subject| facts.iter().find(|f| f.subject == subject).map(|f| &f.answer);
    let because = |subject: ProbeSubject, text: &str| format!("{}: {text}", subject.name());
    let capability =
        |answer, next| Capability { name: row.name, purpose: row.purpose, answer, next };

    for Requirement { subject, next } in row.needs {
        if let Some(ProbeAnswer::No(reason)) = answer_to(*subject) {
            return capability(ProbeAnswer::No(because(*subject, reason)), Some(*next));
        }
    }
    for Requirement { subject, .. } in row.needs {
        let reason = match answer_to(*subject) {
            Some(ProbeAnswer::Unknown(reason)) => reason.as_str(),
            None => "not asked",
            Some(_) => continue,
        };
        return capability(ProbeAnswer::Unknown(because(*subject, reason)), Some(TRY));
    }
    let lost: Vec<_> = row
        .improvements
        .iter()
        .filter(|improvement| !matches!(answer_to(improvement.subject), Some(ProbeAnswer::Yes(_))))
        .map(|improvement| because(improvement.subject, improvement.lost))
        .collect();
    capability(ProbeAnswer::Yes(lost.join("; ")), None)
}
