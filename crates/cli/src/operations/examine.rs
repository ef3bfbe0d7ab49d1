//! Finding out what this machine can do: the probes' facts, and what follows from them.

use sameport_rules::readiness::{self, Ability, Answer, Fact, Subject};

/// What was found, and what it makes possible.
pub(crate) struct Examination {
    pub(crate) facts: Vec<Fact>,
    pub(crate) abilities: Vec<Ability>,
}

impl Examination {
    /// Whether `sameport run` is known not to work here.
    pub(crate) fn run_is_impossible(&self) -> bool {
        readiness::cannot(&self.abilities, "run")
    }
}

/// Asks the system. Changes nothing and leaves nothing behind.
pub(crate) fn examine() -> Examination {
    let mut facts = vec![Fact { subject: Subject::Sharing, answer: sharing(sameport::support()) }];
    facts.extend(of_this_system());
    let abilities = readiness::abilities(&facts);
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

#[cfg(target_os = "linux")]
fn of_this_system() -> Vec<Fact> {
    sameport_linux::probe::examine()
}

/// `run` and `ls` stand on what only Linux has.
#[cfg(not(target_os = "linux"))]
fn of_this_system() -> Vec<Fact> {
    [Subject::SeccompNotify, Subject::SockDiagTcp, Subject::SockDiagUdp]
        .map(|subject| Fact { subject, answer: Answer::No("only Linux has it".to_owned()) })
        .into()
}
