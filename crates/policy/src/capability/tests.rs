//! Tables of facts and capabilities.

use super::*;

fn yes() -> ProbeAnswer {
    ProbeAnswer::Yes(String::new())
}

/// Facts that are all yes, except these.
fn machine(but: &[(ProbeSubject, ProbeAnswer)]) -> Vec<ProbeFact> {
    let answer = |s| but.iter().find(|(b, _)| *b == s).map_or_else(yes, |(_, a)| a.clone());
    let needs = CAPABILITIES.iter().flat_map(|row| row.needs.iter().map(|need| need.subject));
    let improvements = CAPABILITIES
        .iter()
        .flat_map(|row| row.improvements.iter().map(|improvement| improvement.subject));
    needs
        .chain(improvements)
        .map(|subject| ProbeFact { subject, answer: answer(subject) })
        .collect()
}

fn no(text: &str) -> ProbeAnswer {
    ProbeAnswer::No(text.into())
}

fn unknown(text: &str) -> ProbeAnswer {
    ProbeAnswer::Unknown(text.into())
}

#[test]
fn the_weakest_requirement_decides() {
    use ProbeSubject::*;
    type Row<'a> = (&'a [(ProbeSubject, ProbeAnswer)], &'a str, ProbeAnswer);
    let cases: &[Row<'_>] = &[
        (&[], "run", yes()),
        (&[(SeccompListener, no("EBUSY"))], "run-seccomp", no("seccomp-listener: EBUSY")),
        (&[(SeccompListener, no("EBUSY"))], "ls", yes()),
        (
            &[(CallFilter, no("seccomp")), (SeccompNotify, no("EPERM"))],
            "run",
            ProbeAnswer::Yes("by preload; seccomp cannot: call-filter: seccomp".into()),
        ),
        // `run` selects another interposer if it fails before the start.
        (
            &[(SeccompListener, no("EBUSY"))],
            "run",
            ProbeAnswer::Yes("by preload; seccomp cannot: seccomp-listener: EBUSY".into()),
        ),
        (
            &[(NoNewPrivs, no("x")), (PreloadPlace, no("noexec"))],
            "run",
            ProbeAnswer::Yes("by cgroup; seccomp cannot: no-new-privs: x".into()),
        ),
        (
            &[(SeccompNotify, no("x")), (PreloadLibrary, no("none")), (Ebpf, unknown("?"))],
            "run",
            unknown("cgroup: ebpf: ?"),
        ),
        (
            &[(SeccompNotify, no("x")), (PreloadLibrary, no("none")), (Ebpf, no("EPERM"))],
            "run",
            no("seccomp-notify: x"),
        ),
        (&[(PreloadLibrary, no("none"))], "run-preload", no("preload-library: none")),
        (&[(PreloadPlace, unknown("?"))], "run-preload", unknown("preload-place: ?")),
        (&[(OwnCgroup, no("EACCES"))], "run-cgroup", no("own-cgroup: EACCES")),
        (&[(OwnCgroup, no("EACCES"))], "attach", yes()),
        (&[(Bpffs, no("x"))], "run-cgroup", yes()),
        (&[(Bpffs, no("x"))], "attach", no("bpffs: x")),
        (&[(CgroupPrograms, no("old"))], "attach", no("cgroup-programs: old")),
        (&[(PidfdGetfd, unknown("EPERM"))], "run", unknown("pidfd-getfd: EPERM")),
        // A no outweighs an earlier unknown.
        (&[(ReusePort, unknown("?")), (PidfdGetfd, no("x"))], "run-seccomp", no("pidfd-getfd: x")),
        (
            &[(PidfdGetfd, no("x"))],
            "run",
            ProbeAnswer::Yes("by preload; seccomp cannot: pidfd-getfd: x".into()),
        ),
        // Unrelated facts have no effect.
        (&[(Ebpf, no("x")), (Cgroup2, no("x")), (IoUring, no("x"))], "run", yes()),
        (&[(TraceSameUser, no("scope 1"))], "ls-shared", no("trace-same-user: scope 1")),
        (&[(TraceSameUser, no("scope 1"))], "run", yes()),
        (&[(SeeOtherUsers, no("not root"))], "ls-others", no("see-other-users: not root")),
        (&[(SocketIterator, no("EPERM"))], "ls-groups", no("socket-iterator: EPERM")),
        (&[(SocketIterator, no("EPERM"))], "ls", yes()),
        (
            &[(SocketIterator, no("EPERM"))],
            "audit",
            ProbeAnswer::Yes(
                "socket-iterator: a program that steers a group is not visible".into(),
            ),
        ),
        (&[(ReusePortEbpf, no("EPERM"))], "steer", no("so-attach-reuseport-ebpf: EPERM")),
        (
            &[(TrafficPrograms, no("no CAP_PERFMON"))],
            "steer",
            no("traffic-programs: no CAP_PERFMON"),
        ),
        (&[(ReusePortEbpf, no("EPERM"))], "policy", yes()),
        (&[(ReusePortCbpf, no("filtered"))], "policy", no("so-attach-reuseport-cbpf: filtered")),
        (&[(ReusePortCbpf, no("filtered"))], "steer", yes()),
        (
            &[(SocketIterator, no("EPERM"))],
            "steer",
            ProbeAnswer::Yes(
                "socket-iterator: a hung worker is known by its open connections only".into(),
            ),
        ),
        (&[(ChangeOwner, no("EPERM"))], "private", no("change-owner: EPERM")),
        (&[(ChangeOwner, no("EPERM"))], "run", yes()),
        (&[(FirstCgroup, no("a part"))], "guard", no("first-cgroup: a part")),
        (&[(FirstCgroup, no("a part"))], "attach", yes()),
        (&[(KernelMemory, no("locked down"))], "guard", no("kernel-memory: locked down")),
        (&[(KernelMemory, no("locked down"))], "attach", yes()),
        (
            &[(SeccompWaitKillable, no("old"))],
            "run",
            ProbeAnswer::Yes(
                "seccomp-wait-killable: a signal can interrupt a program's bind".into(),
            ),
        ),
    ];
    for (but, name, expected) in cases {
        let capabilities = capabilities(&machine(but));
        let found = capabilities.iter().find(|a| a.name == *name).expect(name);
        assert_eq!(&found.answer, expected, "{name} with {but:?}");
        let full = matches!(expected, ProbeAnswer::Yes(_));
        assert_eq!(found.next.is_none(), full, "a hint if it does not work completely");
        assert_eq!(is_unavailable(&capabilities, name), matches!(expected, ProbeAnswer::No(_)));
    }
}

/// Yama's `ptrace_scope` 2 and 3: `run` takes another interposer before the start.
#[test]
fn without_access_to_workers_another_interposer_is_used() {
    use ProbeSubject::*;
    let by = |via| ProbeAnswer::Yes(format!("by {via}; seccomp cannot: trace-descendants: x"));
    let cases: [(&[ProbeSubject], ProbeAnswer, Option<&str>); 3] = [
        (&[TraceDescendants], by("preload"), None),
        (&[TraceDescendants, PreloadLibrary], by("cgroup"), None),
        (&[TraceDescendants, PreloadLibrary, Ebpf], no("trace-descendants: x"), Some(PTRACE_SCOPE)),
    ];
    for (absent, answer, next) in cases {
        let absent: Vec<_> = absent.iter().map(|subject| (*subject, no("x"))).collect();
        let run = &capabilities(&machine(&absent))[0];
        assert_eq!((run.name, &run.answer, run.next), ("run", &answer, next), "{absent:?}");
    }
}

/// After the start, `run` cannot select another interposer, but the user can.
#[test]
fn the_hint_names_an_interposer_that_works() {
    use ProbeSubject::*;
    let cases: [(&[ProbeSubject], &str); 2] =
        [(&[ReusePort], OLD_KERNEL), (&[ReusePort, PreloadLibrary, Ebpf], OLD_KERNEL)];
    for (absent, expected) in cases {
        let absent: Vec<_> = absent.iter().map(|subject| (*subject, no("x"))).collect();
        let capabilities = capabilities(&machine(&absent));
        assert_eq!((capabilities[0].name, capabilities[0].next), ("run", Some(expected)));
    }
}

#[test]
fn without_facts_everything_is_unknown() {
    for capability in capabilities(&[]) {
        assert!(matches!(capability.answer, ProbeAnswer::Unknown(_)), "{capability:?}");
        assert!(!is_unavailable(std::slice::from_ref(&capability), capability.name));
    }
}

/// Each hint names the kernel of [`kernels`].
#[test]
fn a_hint_names_the_oldest_kernel_of_its_capability() {
    for row in CAPABILITIES {
        let oldest = match row.name {
            "run-seccomp" | "private" => kernels::SECCOMP,
            "ls-shared" => kernels::SOCKET_OPTIONS,
            "run-cgroup" | "attach" | "guard" => kernels::CGROUP,
            _ => continue,
        };
        for Requirement { subject, next } in row.needs {
            // SO_REUSEPORT needs 3.9: an older kernel has none of the rest either.
            if let Some((_, rest)) = next.split_once("Linux ")
                && *subject != ProbeSubject::ReusePort
            {
                let named = rest.split([' ', ',']).next();
                if *next == DIAG {
                    continue;
                }
                assert_eq!(named, Some(oldest), "{} {subject:?}: {next}", row.name);
            }
        }
    }
    let best = format!(
        "needs Linux {} or newer, {} or newer is best",
        kernels::SECCOMP,
        kernels::UNINTERRUPTED
    );
    assert_eq!(OLD_KERNEL, best);
}
