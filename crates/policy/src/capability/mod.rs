//! From what probes found on a machine to what `sameport` can do there.
//!
//! An ability follows the weakest of the answers it needs.

pub mod question;

use crate::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

/// Something that `sameport` does, and whether it does it on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Short, as in the table and in JSON: `run`, `ls`.
    pub name: &'static str,
    /// What it is, for a person.
    pub purpose: &'static str,
    /// Whether it works here, and if not in full, why.
    pub answer: ProbeAnswer,
    /// What the user can do about anything but a full yes.
    pub next: Option<&'static str>,
}

/// One thing that an ability stands on.
struct Requirement {
    subject: ProbeSubject,
    /// What to do when it is not there.
    next: &'static str,
}

/// One thing that an ability is better with: what is lost without it.
struct Optional {
    subject: ProbeSubject,
    lost: &'static str,
}

/// An ability as a table row: what it needs, what it is better with.
struct CapabilityRow {
    name: &'static str,
    purpose: &'static str,
    needs: &'static [Requirement],
    improvements: &'static [Optional],
}

const OLD_KERNEL: &str = "needs Linux 5.9 or newer, 5.19 or newer is best";
const GETFD: &str = "needs Linux 5.6 or newer, and a container profile that allows it (many do with CAP_SYS_PTRACE)";
const SANDBOX: &str = "start sameport outside the sandbox or container profile that forbids it";
const TRY: &str = "nothing is known against it: try it";
const ROOT: &str = "needs root, or CAP_BPF with CAP_NET_ADMIN";
const PTRACE_SCOPE: &str = "set kernel.yama.ptrace_scope to 0 or 1, or grant CAP_SYS_PTRACE";
const MOUNT_CGROUP2: &str = "mount it: mount -t cgroup2 none /sys/fs/cgroup";
const DIAG: &str = "needs Linux with the kernel modules tcp_diag, udp_diag and inet_diag";

/// What `sameport` does, and what each part stands on; but for `run` itself, which [`first_way`]
/// tells.
const CAPABILITIES: &[CapabilityRow] = &[
    CapabilityRow {
        name: SECCOMP,
        purpose: "run --via seccomp: any program, static ones too, without privilege",
        needs: &[
            Requirement { subject: ProbeSubject::ReusePort, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::SeccompNotify, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::NoNewPrivs, next: SANDBOX },
            Requirement {
                subject: ProbeSubject::SeccompListener,
                next: "only one supervisor can listen: start sameport outside the other one",
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
                lost: "binds of threads with descriptors of their own are not shared",
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
                next: "build it on the machine it is for",
            },
            Requirement {
                subject: ProbeSubject::PreloadPlace,
                next: "make one of these folders usable; without root, XDG_RUNTIME_DIR names another",
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
            Requirement {
                subject: ProbeSubject::CgroupPrograms,
                next: "needs Linux 5.18 or newer, and root",
            },
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
            Requirement {
                subject: ProbeSubject::CgroupPrograms,
                next: "needs Linux 5.18 or newer, and root",
            },
            Requirement {
                subject: ProbeSubject::Bpffs,
                next: "mount it: mount -t bpf bpf /sys/fs/bpf",
            },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "guard",
        purpose: "let the kernel refuse binds of a port",
        needs: &[
            Requirement {
                subject: ProbeSubject::FirstCgroup,
                next: "outside of containers, as root",
            },
            Requirement { subject: ProbeSubject::Ebpf, next: ROOT },
            Requirement {
                subject: ProbeSubject::CgroupPrograms,
                next: "needs Linux 5.18 or newer, and root",
            },
            Requirement {
                subject: ProbeSubject::Bpffs,
                next: "mount it: mount -t bpf bpf /sys/fs/bpf",
            },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "private",
        purpose: "run --private: let nobody but the group onto its ports, root included",
        needs: &[
            Requirement { subject: ProbeSubject::SeccompNotify, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD },
            Requirement { subject: ProbeSubject::ChangeOwner, next: "needs root, or CAP_CHOWN" },
        ],
        improvements: &[],
    },
    CapabilityRow {
        name: "listen",
        purpose: "listen on a shared address, and dial from one",
        needs: &[Requirement {
            subject: ProbeSubject::Sharing,
            next: "listen --exclusive works everywhere",
        }],
        improvements: &[],
    },
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
        purpose: "tell of any socket of this user whether it is shared",
        needs: &[
            Requirement { subject: ProbeSubject::SockDiagTcp, next: DIAG },
            Requirement { subject: ProbeSubject::PidfdOpen, next: OLD_KERNEL },
            Requirement { subject: ProbeSubject::PidfdGetfd, next: GETFD },
            Requirement {
                subject: ProbeSubject::TraceSameUser,
                next: "run ls as root; without that it infers what it can and leaves the rest open",
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
        purpose: "tell a member's place in its group, and whether a program chooses in it",
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
            lost: "options of other users' sockets are not known, and it may say `unsure`",
        }],
    },
    CapabilityRow {
        name: "audit",
        purpose: "find who has taken a port, or a part of it",
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
                lost: "who steers a group is not seen",
            },
        ],
    },
];

/// What `sameport` can do where these facts hold. A subject that was not asked counts as one that
/// could not be told.
#[must_use]
pub fn capabilities(facts: &[ProbeFact]) -> Vec<Capability> {
    let mut abilities: Vec<_> = CAPABILITIES.iter().map(|plan| evaluate(plan, facts)).collect();
    let run = run_capability(&abilities, facts);
    abilities.insert(0, run);
    abilities
}

const SECCOMP: &str = "run-seccomp";
const PRELOAD: &str = "run-preload";
const CGROUP: &str = "run-cgroup";

/// What is asked of the kernel before a program is started. Only where one of these is refused does
/// `run` take another interposer by itself.
const BEFORE_THE_START: [ProbeSubject; 6] = [
    ProbeSubject::SeccompNotify,
    ProbeSubject::NoNewPrivs,
    ProbeSubject::SeccompListener,
    ProbeSubject::PidfdOpen,
    ProbeSubject::PidfdGetfd,
    ProbeSubject::ProcessVmReadv,
];

const NAME_PRELOAD: &str = "--via preload reaches dynamically linked programs here";
const NAME_CGROUP: &str = "--via cgroup reaches any program here";

/// `run` takes the first interposer that can.
fn run_capability(abilities: &[Capability], facts: &[ProbeFact]) -> Capability {
    let of = |name| abilities.iter().find(|ability| ability.name == name);
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
    let others = others.iter().filter_map(|(via, ability, hint)| {
        let answer = &ability.as_ref()?.answer;
        Some((via, answer, *hint))
    });
    let works = others.clone().find(|(_, answer, _)| matches!(answer, ProbeAnswer::Yes(_)));
    let passed_by = facts.iter().any(|fact| {
        BEFORE_THE_START.contains(&fact.subject) && matches!(fact.answer, ProbeAnswer::No(_))
    });
    if !passed_by {
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

/// Whether the ability of this name is a definite no.
#[must_use]
pub fn is_unavailable(abilities: &[Capability], name: &str) -> bool {
    abilities.iter().any(|a| a.name == name && matches!(a.answer, ProbeAnswer::No(_)))
}

/// The first no among the needs decides; then the first that could not be told; what is wished for
/// and absent only qualifies a yes.
fn evaluate(plan: &CapabilityRow, facts: &[ProbeFact]) -> Capability {
    let answer_to = |subject| facts.iter().find(|f| f.subject == subject).map(|f| &f.answer);
    let because = |subject: ProbeSubject, text: &str| format!("{}: {text}", subject.name());
    let ability =
        |answer, next| Capability { name: plan.name, purpose: plan.purpose, answer, next };

    for Requirement { subject, next } in plan.needs {
        if let Some(ProbeAnswer::No(reason)) = answer_to(*subject) {
            return ability(ProbeAnswer::No(because(*subject, reason)), Some(*next));
        }
    }
    for Requirement { subject, .. } in plan.needs {
        let reason = match answer_to(*subject) {
            Some(ProbeAnswer::Unknown(reason)) => reason.as_str(),
            None => "not asked",
            Some(_) => continue,
        };
        return ability(ProbeAnswer::Unknown(because(*subject, reason)), Some(TRY));
    }
    let lost: Vec<_> = plan
        .improvements
        .iter()
        .filter(|wish| !matches!(answer_to(wish.subject), Some(ProbeAnswer::Yes(_))))
        .map(|wish| because(wish.subject, wish.lost))
        .collect();
    ability(ProbeAnswer::Yes(lost.join("; ")), None)
}

#[cfg(test)]
mod tests;
