//! Finding out what this machine can do: the probes' facts, and what follows from them.

use std::path::Path;

use sameport_policy::capability;
use sameport_policy::capability::Ability;
use sameport_policy::capability::question::{Answer, Fact, Subject};

/// What was found, and what it makes possible.
pub(crate) struct Examination {
    pub(crate) facts: Vec<Fact>,
    pub(crate) abilities: Vec<Ability>,
}

impl Examination {
    /// Whether `sameport run` is known not to work here.
    pub(crate) fn run_is_impossible(&self) -> bool {
        capability::cannot(&self.abilities, "run")
    }
}

/// Asks the system. Changes nothing and leaves nothing behind. `runtime_folder`: XDG_RUNTIME_DIR.
pub(crate) fn examine(runtime_folder: Option<&Path>) -> Examination {
    let mut facts = vec![Fact { subject: Subject::Sharing, answer: sharing(sameport::support()) }];
    facts.extend(of_this_system(runtime_folder));
    facts.push(Fact { subject: Subject::PreloadLibrary, answer: library() });
    let abilities = capability::abilities(&facts);
    Examination { facts, abilities }
}

/// The library's promise, as a fact among others.
fn sharing(support: sameport::Support) -> Answer {
    let text = format!("{}; {} can join", support.sharing, support.joiners);
    match support.sharing {
        sameport::Sharing::Unsupported => Answer::No(support.sharing.to_string()),
        sameport::Sharing::CouldNotTell => Answer::CouldNotTell(support.sharing.to_string()),
        _ => Answer::Yes(text),
    }
}

/// Whether this build has it.
fn library() -> Answer {
    match sameport_preload::LIBRARY {
        Some(library) => Answer::Yes(format!("{} KiB, in this program", library.len() / 1024)),
        None => Answer::No(sameport_preload::WHY_NOT.to_owned()),
    }
}

#[cfg(target_os = "linux")]
fn of_this_system(runtime_folder: Option<&Path>) -> Vec<Fact> {
    use sameport_sys::probe;

    let place = probe::preload_place(sameport_preload::LIBRARY.unwrap_or_default(), runtime_folder);
    let mut facts = probe::examine();
    facts.push(Fact { subject: Subject::PreloadPlace, answer: place });
    facts
}

/// `run` and `ls` stand on what only Linux has.
#[cfg(not(target_os = "linux"))]
fn of_this_system(_: Option<&Path>) -> Vec<Fact> {
    [Subject::SeccompNotify, Subject::Cgroup2, Subject::SockDiagTcp, Subject::SockDiagUdp]
        .map(|subject| Fact { subject, answer: Answer::No("only Linux has it".to_owned()) })
        .into()
}
