//! Whether two processes are one program: by evidence, and where there is none they are not.
//!
//! What the kernel itself keeps counts for everybody: the process, who started it, the unit or
//! container, and with them the file it executes. Command lines, which a process can write over, count
//! only between processes of one user, where an intruder has every right of the other anyway.

use std::path::{Path, PathBuf};

use super::owner::{ServiceOrContainer, service_or_container};
use super::{AuditFacts, ProgramEvidence};
use crate::model::{Process, ProcessDetails};

/// Whose evidence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvidenceSource {
    /// The sockets are one user's.
    OneUser,
    /// They are different users'.
    Users,
}

/// Whether these are one program. Both have a socket that this is about.
pub(super) fn are_one_program(
    one: &Process,
    other: &Process,
    between: EvidenceSource,
    facts: &AuditFacts,
) -> bool {
    if one.pid == other.pid {
        return true;
    }
    let (place_of_one, place_of_other) = (service_of(one), service_of(other));
    if let Some(verdict) = place_of_one.is_one_program(&place_of_other) {
        return verdict;
    }
    let nothing = ProgramEvidence::default();
    let trace = |process: &Process| facts.evidence.get(&process.pid).unwrap_or(&nothing);
    let (trace_of_one, trace_of_other) = (trace(one), trace(other));
    let below = is_below(one, other, facts) || is_below(other, one, facts);
    if between == EvidenceSource::Users {
        let of_the_machine = one.pid == 1 || other.pid == 1;
        return below && (of_the_machine || is_worker(one, trace_of_one, other, trace_of_other));
    }
    if below {
        return true;
    }
    let in_one_run = trace_of_one
        .runs
        .iter()
        .any(|run| trace_of_other.runs.iter().any(|other| run.belongs_with(other)));
    in_one_run
        || (place_of_one.unit.is_none() || place_of_other.unit.is_none())
            && execute_same_program(one, trace_of_one, other, trace_of_other, facts)
}

/// Nowhere, where that cannot be seen.
pub(super) fn service_of(process: &Process) -> ServiceOrContainer {
    let cgroup = process.details.as_ref().and_then(|details| details.cgroup.as_deref());
    cgroup.map(service_or_container).unwrap_or_default()
}

/// Whether the one was started, at however many removes, by the other. Below process 1 is everybody:
/// where it is one that serves sockets to services, only services are its own.
fn is_below(one: &Process, other: &Process, facts: &AuditFacts) -> bool {
    let above = facts.evidence.get(&one.pid).map_or(&[][..], |trace| &trace.ancestors);
    let parent = one.details.as_ref().and_then(|details| details.parent);
    let started = above.contains(&other.pid) || parent == Some(other.pid);
    let counts =
        other.pid != 1 || !facts.kernel.init_passes_sockets || service_of(one).unit.is_some();
    started && counts
}

/// Whoever logs in is below sshd, and was started by it as another user, to do as he likes: only a
/// process that still executes the master's own file is its worker.
fn is_worker(
    one: &Process,
    trace_of_one: &ProgramEvidence,
    other: &Process,
    trace_of_other: &ProgramEvidence,
) -> bool {
    let executable = |process: &Process| process.details.as_ref()?.executable.clone();
    trace_of_one.executable.is_some()
        && trace_of_one.executable == trace_of_other.executable
        && [one, other]
            .iter()
            .all(|process| executable(process).is_some_and(|it| !runs_arguments(&it)))
}

/// The same file, which for a program that does as it is told means little: what it was told must be
/// the same then, too, or its parent must be such a program itself, that has started both.
fn execute_same_program(
    one: &Process,
    trace_of_one: &ProgramEvidence,
    other: &Process,
    trace_of_other: &ProgramEvidence,
    facts: &AuditFacts,
) -> bool {
    let (Some(details), Some(others)) = (&one.details, &other.details) else { return false };
    if trace_of_one.executable.is_none() || trace_of_one.executable != trace_of_other.executable {
        return false;
    }
    let does_as_told =
        |details: &ProcessDetails| details.executable.as_deref().is_none_or(runs_arguments);
    if !does_as_told(details) && !does_as_told(others) {
        return true;
    }
    let started_by_their_own_kind = details.parent.is_some_and(|parent| {
        let trace = facts.evidence.get(&parent);
        details.parent == others.parent
            && trace.is_some_and(|parent| parent.executable == trace_of_one.executable)
    }) && !run_different_scripts(details, others);
    started_by_their_own_kind
        || (script_and_directory(details, trace_of_one).is_some()
            && script_and_directory(details, trace_of_one)
                == script_and_directory(others, trace_of_other))
}

/// A manager of processes in one of these languages starts other people's scripts, by their names.
fn run_different_scripts(one: &ProcessDetails, other: &ProcessDetails) -> bool {
    let script = |details: &ProcessDetails| {
        details.command.get(1).filter(|it| !it.starts_with('-')).cloned()
    };
    matches!((script(one), script(other)), (Some(one), Some(other)) if one != other)
}

/// What an interpreter was told to do, and where: `None` if that cannot be known. The script, if that is
/// the first argument or a module; else every argument.
fn script_and_directory<'a>(
    details: &'a ProcessDetails,
    trace: &'a ProgramEvidence,
) -> Option<(&'a [String], Option<&'a PathBuf>)> {
    let arguments = details.command.get(1..).filter(|arguments| !arguments.is_empty())?;
    let first = arguments[0].as_str();
    let takes_arguments = details.executable.as_deref().is_some_and(runs_scripts);
    let what = match first {
        "-m" | "-jar" if takes_arguments && arguments.len() > 1 => &arguments[..2],
        first if takes_arguments && !first.starts_with('-') => &arguments[..1],
        _ => arguments,
    };
    if what.len() == 1 && Path::new(first).is_absolute() {
        return Some((what, None));
    }
    Some((what, Some(trace.directory.as_ref()?)))
}

/// Programs that do whatever their arguments say. Of these the file proves nothing.
pub(super) fn runs_arguments(executable: &Path) -> bool {
    const TOOLS: [&str; 14] = [
        "socat",
        "nc",
        "ncat",
        "netcat",
        "ssh",
        "openssl",
        "busybox",
        "toybox",
        "gdb",
        "env",
        "xinetd",
        "inetd",
        "systemd-socket-activate",
        "tcpserver",
    ];
    let name = name(executable);
    runs_scripts(executable)
        || TOOLS.contains(&name.as_str())
        || name.starts_with("nc.")
        || name.starts_with("ld-")
        || name.starts_with("ld.so")
        || name.starts_with("qemu-")
        || name.starts_with("wine")
        || name.starts_with("memfd:")
}

/// Interpreters, whose first argument is what they run.
fn runs_scripts(executable: &Path) -> bool {
    const INTERPRETERS: [&str; 33] = [
        "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "java", "beam",
        "beam.smp", "erlexec", "lua", "luajit", "sh", "bash", "dash", "zsh", "ksh", "mksh", "fish",
        "ash", "tclsh", "wish", "R", "Rscript", "guile", "dotnet", "mono", "julia", "escript",
        "gawk",
    ];
    let name = name(executable);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name.as_str()) || INTERPRETERS.contains(&bare)
}

/// The file's name; a file that has been replaced since is named with that.
fn name(executable: &Path) -> String {
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
