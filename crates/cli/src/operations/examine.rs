//! `doctor`: the facts of the probes, and the capabilities that follow.

use sameport_policy::capability;
use sameport_policy::capability::Capability;
use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

/// The facts of the machine and the capabilities that follow.
pub(crate) struct MachineReport {
    pub(crate) facts: Vec<ProbeFact>,
    pub(crate) abilities: Vec<Capability>,
}

impl MachineReport {
    /// Whether `sameport run` is known not to work here.
    pub(crate) fn run_is_impossible(&self) -> bool {
        capability::is_unavailable(&self.abilities, "run")
    }
}

/// Probes the system. Changes nothing and leaves nothing behind.
pub(crate) fn examine() -> MachineReport {
    let mut facts =
        vec![ProbeFact { subject: ProbeSubject::Sharing, answer: sharing(sameport::support()) }];
    facts.extend(of_this_system());
    facts.push(ProbeFact { subject: ProbeSubject::PreloadLibrary, answer: library() });
    let abilities = capability::capabilities(&facts);
    MachineReport { facts, abilities }
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
fn of_this_system() -> Vec<ProbeFact> {
    use std::path::Path;

    use super::runtime_dir::runtime_dir;
    use sameport_sys::probe;

    let library = sameport_preload::LIBRARY.unwrap_or_default();
    let place = probe::preload_dir(library, runtime_dir().as_deref().map(Path::new));
    let mut facts = probe::examine();
    facts.push(ProbeFact { subject: ProbeSubject::PreloadPlace, answer: place });
    facts
}

/// The facts that only Linux has.
#[cfg(not(target_os = "linux"))]
fn of_this_system() -> Vec<ProbeFact> {
    [
        ProbeSubject::SeccompNotify,
        ProbeSubject::Cgroup2,
        ProbeSubject::SockDiagTcp,
        ProbeSubject::SockDiagUdp,
    ]
    .map(|subject| ProbeFact { subject, answer: ProbeAnswer::No("only Linux has it".to_owned()) })
    .into()
}
