//! Whether two processes are one program. Without evidence they are two.
//!
//! Facts from the kernel always count: process id, ancestors, unit or container, and the executed
//! file together with one of them. Command lines, which a process can overwrite, count only between
//! processes of one user: there an intruder has all rights of the other process anyway.

use std::path::{Path, PathBuf};

use super::facts::{AuditFacts, ProgramEvidence};
use super::service::service_of;
use crate::interpreter::{runs_arguments, runs_scripts};
use crate::model::{Process, ProcessDetails};

/// Which evidence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvidenceSource {
    /// All: the sockets have one user.
    OneUser,
    /// Facts from the kernel: the sockets have different users.
    Users,
}

/// A process and the evidence about its program.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    process: &'a Process,
    evidence: &'a ProgramEvidence,
}

/// Whether two processes with sockets are one program.
pub(super) fn are_one_program(
    one: &Process,
    other: &Process,
    source: EvidenceSource,
    facts: &AuditFacts,
) -> bool {
    if one.pid == other.pid {
        return true;
    }
    let (service, other_service) = (service_of(one), service_of(other));
    if let Some(verdict) = service.is_one_program(&other_service) {
        return verdict;
    }
    let none = ProgramEvidence::default();
    let candidate =
        |process| Candidate::new(process, facts).unwrap_or(Candidate { process, evidence: &none });
    let (one, other) = (candidate(one), candidate(other));
    let related = one.descends_from(other, facts) || other.descends_from(one, facts);
    if source == EvidenceSource::Users {
        let with_init = one.process.pid == 1 || other.process.pid == 1;
        return related && (with_init || is_worker(one, other));
    }
    let runs = &other.evidence.runs;
    related
        || one.evidence.runs.iter().any(|run| runs.iter().any(|other| run.belongs_with(other)))
        || (service.unit.is_none() || other_service.unit.is_none())
            && execute_same_program(one, other, facts)
}

impl<'a> Candidate<'a> {
    fn new(process: &'a Process, facts: &'a AuditFacts) -> Option<Self> {
        Some(Self { process, evidence: facts.evidence.get(&process.pid)? })
    }

    fn details(self) -> Option<&'a ProcessDetails> {
        self.process.details.as_ref()
    }

    /// Whether `other` is an ancestor. Process 1 is an ancestor of every process: if it passes
    /// sockets to services, it counts for services only.
    fn descends_from(self, other: Self, facts: &AuditFacts) -> bool {
        let ancestor = other.process.pid;
        let parent = self.details().and_then(|details| details.parent);
        let descends = self.evidence.ancestors.contains(&ancestor) || parent == Some(ancestor);
        let counts = ancestor != 1
            || !facts.kernel.init_passes_sockets
            || service_of(self.process).unit.is_some();
        descends && counts
    }

    fn has_file_of(self, other: Self) -> bool {
        let executable = self.evidence.executable;
        executable.is_some() && executable == other.evidence.executable
    }

    /// The script of an interpreter, and the directory for a relative path: the first argument, a
    /// module, or else all arguments. `None` if unknown.
    fn script(self) -> Option<(&'a [String], Option<&'a PathBuf>)> {
        let details = self.details()?;
        let arguments = details.command.get(1..).filter(|arguments| !arguments.is_empty())?;
        let first = arguments[0].as_str();
        let is_interpreter = details.executable.as_deref().is_some_and(runs_scripts);
        let script = match first {
            "-m" | "-jar" if is_interpreter && arguments.len() > 1 => &arguments[..2],
            first if is_interpreter && !first.starts_with('-') => &arguments[..1],
            _ => arguments,
        };
        if script.len() == 1 && Path::new(first).is_absolute() {
            return Some((script, None));
        }
        Some((script, Some(self.evidence.directory.as_ref()?)))
    }
}

/// Whether one is a worker process of the other, given that one descends from the other. A login
/// session descends from sshd, too, and runs any program as another user: so both must execute the
/// same file, which must not run its arguments.
fn is_worker(one: Candidate<'_>, other: Candidate<'_>) -> bool {
    let runs_itself = |candidate: Candidate<'_>| {
        let executable = candidate.details().and_then(|details| details.executable.as_deref());
        executable.is_some_and(|path| !runs_arguments(path))
    };
    one.has_file_of(other) && runs_itself(one) && runs_itself(other)
}

/// Whether both execute the same file. If that file runs its arguments, the scripts must be equal,
/// or a common parent must execute the file as well.
fn execute_same_program(one: Candidate<'_>, other: Candidate<'_>, facts: &AuditFacts) -> bool {
    let (Some(details), Some(other_details)) = (one.details(), other.details()) else {
        return false;
    };
    if !one.has_file_of(other) {
        return false;
    }
    let is_tool =
        |details: &ProcessDetails| details.executable.as_deref().is_none_or(runs_arguments);
    if !is_tool(details) && !is_tool(other_details) {
        return true;
    }
    let parent = details.parent.filter(|_| details.parent == other_details.parent);
    let parent = parent.and_then(|parent| facts.evidence.get(&parent));
    let forked = parent.is_some_and(|parent| parent.executable == one.evidence.executable)
        && !run_different_scripts(details, other_details);
    forked || (one.script().is_some() && one.script() == other.script())
}

/// A process manager written in an interpreted language starts unrelated scripts.
fn run_different_scripts(one: &ProcessDetails, other: &ProcessDetails) -> bool {
    let script = |details: &ProcessDetails| {
        details.command.get(1).filter(|it| !it.starts_with('-')).cloned()
    };
    matches!((script(one), script(other)), (Some(one), Some(other)) if one != other)
}

#[cfg(test)]
mod tests;
