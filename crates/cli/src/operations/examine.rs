//! Finding out what this machine can do: the probes' facts, and what follows from them.

use std::path::Path;

use sameport_policy::capability;
use sameport_policy::capability::Capability;
use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

/// What was found, and what it makes possible.
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

/// Asks the system. Changes nothing and leaves nothing behind. `runtime_folder`: XDG_RUNTIME_DIR.
pub(crate) fn examine(runtime_folder: Option<&Path>) -> MachineReport {
    let mut facts =
        vec![ProbeFact { subject: ProbeSubject::Sharing, answer: sharing(sameport::support()) }];
    facts.extend(of_this_system(runtime_folder));
    facts.push(ProbeFact { subject: ProbeSubject::PreloadLibrary, answer: library() });
    let abilities = capability::capabilities(&facts);
    MachineReport { facts, abilities }
}

/// The library's promise, as a fact among others.
fn sharing(support: sameport::Support) -> ProbeAnswer {
    let text = format!("{}; {} can join", support.sharing, support.join_policy);
    match support.sharing {
        sameport::Sharing::Unsupported => ProbeAnswer::No(support.sharing.to_string()),
        sameport::Sharing::Unknown => ProbeAnswer::Unknown(support.sharing.to_string()),
        _ => ProbeAnswer::Yes(text),
    }
}

/// Whether this build has it.
fn library() -> ProbeAnswer {
    match sameport_preload::LIBRARY {
        Some(library) => ProbeAnswer::Yes(format!("{} KiB, in this program", library.len() / 1024)),
        None => ProbeAnswer::No(sameport_preload::WHY_NOT.to_owned()),
    }
}

#[cfg(target_os = "linux")]
fn of_this_system(runtime_folder: Option<&Path>) -> Vec<ProbeFact> {
    use sameport_sys::probe;

    let place = probe::preload_dir(sameport_preload::LIBRARY.unwrap_or_default(), runtime_folder);
    let mut facts = probe::examine();
    facts.push(ProbeFact { subject: ProbeSubject::PreloadPlace, answer: place });
    facts
}

/// `run` and `ls` stand on what only Linux has.
#[cfg(not(target_os = "linux"))]
fn of_this_system(_: Option<&Path>) -> Vec<ProbeFact> {
    [
        ProbeSubject::SeccompNotify,
        ProbeSubject::Cgroup2,
        ProbeSubject::SockDiagTcp,
        ProbeSubject::SockDiagUdp,
    ]
    .map(|subject| ProbeFact { subject, answer: ProbeAnswer::No("only Linux has it".to_owned()) })
    .into()
}
