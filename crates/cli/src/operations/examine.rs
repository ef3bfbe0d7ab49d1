//! `doctor`: the facts of the probes, and the capabilities that follow.

use sameport_policy::capability;
use sameport_policy::capability::Capability;
use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

use crate::system::System;

/// The facts of the machine and the capabilities that follow.
pub(crate) struct MachineReport {
    pub(crate) facts: Vec<ProbeFact>,
    pub(crate) abilities: Vec<Capability>,
}

impl MachineReport {
    /// Whether the main verb of this system is known not to work here.
    pub(crate) fn is_of_no_use(&self) -> bool {
        let main = match System::HERE {
            System::Linux => "run",
            System::Other => "listen",
        };
        capability::is_unavailable(&self.abilities, main)
    }
}

/// Probes the system. Changes nothing and leaves nothing behind.
pub(crate) fn examine() -> MachineReport {
    report(System::HERE, sameport::support(), of_linux())
}

/// The facts of the library, those of Linux where it is Linux, and what follows.
fn report(system: System, support: sameport::Support, of_linux: Vec<ProbeFact>) -> MachineReport {
    let mut facts = vec![ProbeFact { subject: ProbeSubject::Sharing, answer: sharing(support) }];
    let abilities = match system {
        System::Linux => {
            facts.extend(of_linux);
            facts.push(ProbeFact { subject: ProbeSubject::PreloadLibrary, answer: library() });
            capability::capabilities(&facts)
        }
        System::Other => {
            let exclusive = ProbeAnswer::Yes(support.exclusive.to_string());
            facts.push(ProbeFact { subject: ProbeSubject::Exclusive, answer: exclusive });
            facts.push(ProbeFact { subject: ProbeSubject::DualStack, answer: both(support) });
            capability::portable_capabilities(&facts)
        }
    };
    MachineReport { facts, abilities }
}

/// Whether one socket can have both families.
fn both(support: sameport::Support) -> ProbeAnswer {
    let text = support.dual_stack.to_string();
    match support.dual_stack {
        sameport::DualStack::TwoSockets => ProbeAnswer::No(text),
        _ => ProbeAnswer::Yes(text),
    }
}

/// The support of the library as a fact.
fn sharing(support: sameport::Support) -> ProbeAnswer {
    let text = format!("{}; {} can join", support.sharing, support.join_policy);
    match support.sharing {
        sameport::Sharing::Unsupported => ProbeAnswer::No(support.sharing.to_string()),
        sameport::Sharing::Unknown => ProbeAnswer::Unknown(support.sharing.to_string()),
        _ => ProbeAnswer::Yes(text),
    }
}

/// Whether this build has the preload library.
fn library() -> ProbeAnswer {
    match sameport_preload::LIBRARY {
        Some(library) => ProbeAnswer::Yes(format!("{} KiB, in this program", library.len() / 1024)),
        None => ProbeAnswer::No(sameport_preload::WHY_NOT.to_owned()),
    }
}

#[cfg(target_os = "linux")]
fn of_linux() -> Vec<ProbeFact> {
    use std::path::Path;

    use super::runtime_dir::runtime_dir;
    use sameport_sys::probe;

    let library = sameport_preload::LIBRARY.unwrap_or_default();
    let place = probe::preload_dir(library, runtime_dir().as_deref().map(Path::new));
    let mut facts = probe::examine();
    facts.push(ProbeFact { subject: ProbeSubject::PreloadPlace, answer: place });
    facts
}

#[cfg(not(target_os = "linux"))]
fn of_linux() -> Vec<ProbeFact> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a system other than Linux, for the facts that the library can return there.
    #[test]
    fn other_systems_have_rows_of_their_own() {
        let found = report(System::Other, sameport::support(), Vec::new());
        let names: Vec<_> = found.facts.iter().map(|fact| fact.subject.name()).collect();
        assert_eq!(names, ["sharing", "exclusive", "dual-stack"]);
        let names: Vec<_> = found.abilities.iter().map(|ability| ability.name).collect();
        assert_eq!(names, ["listen", "listen-exclusive", "listen-both"]);
        let text = crate::output::doctor::text(&found.facts, &found.abilities);
        let first = "`sameport listen` shares addresses here: balanced; the same user can join\n";
        assert!(text.starts_with(first), "{text}");
        for absent in ["run", "cgroup", "seccomp", "preload", "Linux", "could not tell"] {
            assert!(!text.contains(absent), "{absent}:\n{text}");
        }
    }

    #[test]
    fn each_fact_of_the_library_is_an_answer() {
        use sameport::{DualStack, Exclusive, JoinPolicy, Sharing};
        let base = sameport::support();
        for (sharing_value, dual_stack, shares, listens_both) in [
            (Sharing::OpenToOtherUsers, DualStack::OneSocket, "yes", "yes"),
            (Sharing::NotBalanced, DualStack::TwoSockets, "yes", "no"),
            (Sharing::Balanced, DualStack::OneSocketNotBalanced, "yes", "yes"),
            (Sharing::Unsupported, DualStack::OneSocket, "no", "yes"),
            (Sharing::Unknown, DualStack::OneSocket, "could not tell", "yes"),
        ] {
            let mut support = base;
            support.sharing = sharing_value;
            support.join_policy = JoinPolicy::AnyUser;
            support.exclusive = Exclusive::ExclusiveAddrUse;
            support.dual_stack = dual_stack;
            let found = report(System::Other, support, Vec::new());
            let answers: Vec<_> =
                found.abilities.iter().map(|ability| ability.answer.to_string()).collect();
            assert_eq!(answers, [shares, "yes", listens_both], "{support:?}");
            assert_eq!(found.facts[1].answer.text(), "SO_EXCLUSIVEADDRUSE");
        }
    }
}
