//! From what probes found on a machine to what `sameport` can do there.
//!
//! A probe answers yes, no or could not tell, and an ability follows the weakest of the answers it
//! needs. Being refused the question is never taken for a no.

use std::fmt;

/// What a probe, or a rule about probes, says. The text is for a person: for a yes the detail, for
/// the other two the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is there and works here.
    Yes(String),
    /// It is not there, or it is forbidden here; the reason says which.
    No(String),
    /// The question could not be asked, or its answer proves nothing.
    CouldNotTell(String),
}

impl Answer {
    /// The detail or the reason.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Yes(text) | Self::No(text) | Self::CouldNotTell(text) => text,
        }
    }
}

/// `yes`, `no` or `could not tell`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::CouldNotTell(_) => "could not tell",
        })
    }
}

/// What can be asked about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
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
    /// An eBPF program can be loaded by this user.
    Ebpf,
}

impl Subject {
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
            Self::TcpMigrateReq => "tcp-migrate-req",
            Self::Somaxconn => "somaxconn",
            Self::LowPorts => "low-ports",
            Self::IoUring => "io-uring",
            Self::Cgroup2 => "cgroup2",
            Self::Ebpf => "ebpf",
        }
    }
}

/// One subject and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What was asked.
    pub subject: Subject,
    /// What came back.
    pub answer: Answer,
}

/// Something that `sameport` does, and whether it does it on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// Short, as in the table and in JSON: `run`, `ls`.
    pub name: &'static str,
    /// What it is, for a person.
    pub purpose: &'static str,
    /// Whether it works here, and if not in full, why.
    pub answer: Answer,
    /// What the user can do about anything but a full yes.
    pub next: Option<&'static str>,
}

/// One thing that an ability stands on.
struct Need {
    subject: Subject,
    /// What to do when it is not there.
    next: &'static str,
}

/// One thing that an ability is better with: what is lost without it.
struct Wish {
    subject: Subject,
    lost: &'static str,
}

/// An ability as a table row: what it needs, what it is better with.
struct Plan {
    name: &'static str,
    purpose: &'static str,
    needs: &'static [Need],
    wishes: &'static [Wish],
}

const OLD_KERNEL: &str = "needs Linux 5.9 or newer, 5.19 or newer is best";
const SANDBOX: &str = "start sameport outside the sandbox or container profile that forbids it";
const TRY: &str = "nothing is known against it: try it";
const DIAG: &str = "needs Linux with the kernel modules tcp_diag, udp_diag and inet_diag";

/// What `sameport` does, and what each part stands on.
const PLANS: &[Plan] = &[
    Plan {
        name: "run",
        purpose: "share the port of an unmodified program",
        needs: &[
            Need { subject: Subject::ReusePort, next: OLD_KERNEL },
            Need { subject: Subject::SeccompNotify, next: OLD_KERNEL },
            Need { subject: Subject::NoNewPrivs, next: SANDBOX },
            Need {
                subject: Subject::SeccompListener,
                next: "only one supervisor can listen: start sameport outside the other one",
            },
            Need { subject: Subject::PidfdOpen, next: OLD_KERNEL },
            Need { subject: Subject::PidfdGetfd, next: OLD_KERNEL },
            Need { subject: Subject::ProcessVmReadv, next: SANDBOX },
            Need {
                subject: Subject::TraceDescendants,
                next: "set kernel.yama.ptrace_scope to 0 or 1, or grant CAP_SYS_PTRACE",
            },
        ],
        wishes: &[
            Wish {
                subject: Subject::SeccompWaitKillable,
                lost: "a signal can interrupt a program's bind",
            },
            Wish {
                subject: Subject::PidfdThread,
                lost: "binds of threads with descriptors of their own are not shared",
            },
        ],
    },
    Plan {
        name: "listen",
        purpose: "listen on a shared address, and dial from one",
        needs: &[Need { subject: Subject::Sharing, next: "listen --exclusive works everywhere" }],
        wishes: &[],
    },
    Plan {
        name: "ls",
        purpose: "list the sockets that hold ports",
        needs: &[
            Need { subject: Subject::SockDiagTcp, next: DIAG },
            Need { subject: Subject::SockDiagUdp, next: DIAG },
        ],
        wishes: &[],
    },
    Plan {
        name: "ls-shared",
        purpose: "tell of any socket of this user whether it is shared",
        needs: &[
            Need { subject: Subject::SockDiagTcp, next: DIAG },
            Need { subject: Subject::PidfdOpen, next: OLD_KERNEL },
            Need { subject: Subject::PidfdGetfd, next: OLD_KERNEL },
            Need {
                subject: Subject::TraceSameUser,
                next: "run ls as root; without that it infers what it can and leaves the rest open",
            },
        ],
        wishes: &[],
    },
    Plan {
        name: "ls-others",
        purpose: "name the programs of other users",
        needs: &[
            Need { subject: Subject::SockDiagTcp, next: DIAG },
            Need { subject: Subject::SeeOtherUsers, next: "run ls as root" },
        ],
        wishes: &[],
    },
];

/// What `sameport` can do where these facts hold. A subject that was not asked counts as one that
/// could not be told.
#[must_use]
pub fn abilities(facts: &[Fact]) -> Vec<Ability> {
    PLANS.iter().map(|plan| weigh(plan, facts)).collect()
}

/// Whether the ability of this name is a definite no.
#[must_use]
pub fn cannot(abilities: &[Ability], name: &str) -> bool {
    abilities.iter().any(|a| a.name == name && matches!(a.answer, Answer::No(_)))
}

/// The first no among the needs decides; then the first that could not be told; what is wished for
/// and absent only qualifies a yes.
fn weigh(plan: &Plan, facts: &[Fact]) -> Ability {
    let answer_to = |subject| facts.iter().find(|f| f.subject == subject).map(|f| &f.answer);
    let because = |subject: Subject, text: &str| format!("{}: {text}", subject.name());
    let ability = |answer, next| Ability { name: plan.name, purpose: plan.purpose, answer, next };

    for Need { subject, next } in plan.needs {
        if let Some(Answer::No(reason)) = answer_to(*subject) {
            return ability(Answer::No(because(*subject, reason)), Some(*next));
        }
    }
    for Need { subject, .. } in plan.needs {
        let reason = match answer_to(*subject) {
            Some(Answer::CouldNotTell(reason)) => reason.as_str(),
            None => "not asked",
            Some(_) => continue,
        };
        return ability(Answer::CouldNotTell(because(*subject, reason)), Some(TRY));
    }
    let lost: Vec<_> = plan
        .wishes
        .iter()
        .filter(|wish| !matches!(answer_to(wish.subject), Some(Answer::Yes(_))))
        .map(|wish| because(wish.subject, wish.lost))
        .collect();
    ability(Answer::Yes(lost.join("; ")), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes() -> Answer {
        Answer::Yes(String::new())
    }

    /// A machine where everything answers yes, but for these.
    fn machine(but: &[(Subject, Answer)]) -> Vec<Fact> {
        let answer = |s| but.iter().find(|(b, _)| *b == s).map_or_else(yes, |(_, a)| a.clone());
        let needs = PLANS.iter().flat_map(|plan| plan.needs.iter().map(|need| need.subject));
        let wishes = PLANS.iter().flat_map(|plan| plan.wishes.iter().map(|wish| wish.subject));
        needs.chain(wishes).map(|subject| Fact { subject, answer: answer(subject) }).collect()
    }

    fn no(text: &str) -> Answer {
        Answer::No(text.into())
    }

    fn unknown(text: &str) -> Answer {
        Answer::CouldNotTell(text.into())
    }

    #[test]
    fn abilities_follow_the_weakest_need() {
        use Subject::*;
        type Row<'a> = (&'a [(Subject, Answer)], &'a str, Answer);
        let cases: &[Row<'_>] = &[
            (&[], "run", yes()),
            (&[(SeccompListener, no("EBUSY"))], "run", no("seccomp-listener: EBUSY")),
            (&[(SeccompListener, no("EBUSY"))], "ls", yes()),
            (&[(PidfdGetfd, unknown("EPERM"))], "run", unknown("pidfd-getfd: EPERM")),
            // A definite no outweighs an earlier doubt.
            (&[(ReusePort, unknown("?")), (PidfdGetfd, no("x"))], "run", no("pidfd-getfd: x")),
            // What no verb of today uses takes nothing away.
            (&[(Ebpf, no("x")), (Cgroup2, no("x")), (IoUring, no("x"))], "run", yes()),
            (&[(TraceSameUser, no("scope 1"))], "ls-shared", no("trace-same-user: scope 1")),
            (&[(TraceSameUser, no("scope 1"))], "run", yes()),
            (&[(SeeOtherUsers, no("not root"))], "ls-others", no("see-other-users: not root")),
            (
                &[(SeccompWaitKillable, no("old"))],
                "run",
                Answer::Yes(
                    "seccomp-wait-killable: a signal can interrupt a program's bind".into(),
                ),
            ),
        ];
        for (but, name, expected) in cases {
            let abilities = abilities(&machine(but));
            let found = abilities.iter().find(|a| a.name == *name).expect(name);
            assert_eq!(&found.answer, expected, "{name} with {but:?}");
            let full = matches!(expected, Answer::Yes(_));
            assert_eq!(found.next.is_none(), full, "a next step exactly where one is needed");
            assert_eq!(cannot(&abilities, name), matches!(expected, Answer::No(_)));
        }
    }

    #[test]
    fn nothing_asked_is_nothing_known() {
        for ability in abilities(&[]) {
            assert!(matches!(ability.answer, Answer::CouldNotTell(_)), "{ability:?}");
            assert!(!cannot(std::slice::from_ref(&ability), ability.name));
        }
    }
}
