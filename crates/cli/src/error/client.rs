//! Advice for a run that does not do what a verb asks: one that does not exist or has ended, and a supervisor
//! that does not answer.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use sameport_policy::holder::Unit;
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{ClientError, DeadSupervisor, now, users_of};
use sameport_supervisor::control::protocol::FaultKind;
use sameport_supervisor::control::{EndedRun, RunRecord, StartLine};
use sameport_sys::run_files::ConnectError;

use super::{ExitKind, Failure};
use crate::operations::named_runs::{OwnerError, service_of};
use crate::output::text::{age, elapsed, printable, sentence_list, shorten};
use crate::output::{holder, shell};

/// Pids or names in one message.
const LISTED: usize = 16;

impl From<OwnerError> for Failure {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::NoUser(user) => Self::usage(format!("--user: there is no user {user}"))
                .hint("`getent passwd` lists the users; a number is taken too"),
            OwnerError::NotPermitted(user) => {
                Self::unsupported(format!("--user {user}: a run obeys its own user and root"))
                    .hint("run it as root")
            }
        }
    }
}

/// A supervisor that did not do what it was asked.
pub(crate) fn client_failure(name: &RunName, error: &ClientError) -> Failure {
    let supervisor = format!("the supervisor of {name}");
    match error {
        ClientError::NoSuchRun(others) if others.is_empty() => {
            Failure::failed(format!("there is no run named {name}, nor any other"))
                .hint(format!("`sameport run --name {name} -- COMMAND` starts one"))
        }
        ClientError::NoSuchRun(others) => Failure::failed(format!("there is no run named {name}"))
            .hint(format!("there is {}", sentence_list(others, LISTED))),
        ClientError::Elsewhere(users) => {
            let user = users.first().map(String::as_str).unwrap_or_default();
            Failure::failed(format!("there is no run named {name} in the directories of this user"))
                .hint(format!(
                    "user {} has one: add --user {}",
                    sentence_list(users, LISTED),
                    shell::word(user)
                ))
        }
        ClientError::OfUser(user, error) => of_user(name, user, error),
        ClientError::Ended(ended) => {
            let before = age(elapsed(ended.ended, now()));
            let why = printable(&ended.why);
            let again = format!("start it again: {}", start_again(name, ended));
            let users = users_of(name);
            let hint = match users.first() {
                None => again,
                Some(user) => format!(
                    "user {} has a run of that name: add --user {}; or {again}",
                    sentence_list(&users, LISTED),
                    shell::word(user)
                ),
            };
            Failure::failed(format!("{name} has ended: {why}, {before} ago")).hint(hint)
        }
        ClientError::SupervisorDead(dead) => {
            let unit = dead.record.as_ref().and_then(|record| service_of(&record.info));
            dead_supervisor(name, dead, unit.as_ref())
        }
        ClientError::Unreachable(ConnectError::Busy) => {
            Failure::failed(format!("{supervisor} does not take another connection"))
                .hint("its queue is full: try again in a few seconds, or see whether it is stopped")
        }
        ClientError::Unreachable(ConnectError::OtherUser(uid)) => {
            Failure::failed(format!("connect: user {uid} listens in the place of {supervisor}"))
        }
        ClientError::Unreachable(ConnectError::System(errno)) => {
            Failure::failed(format!("connect to {supervisor}: {errno}"))
        }
        ClientError::NoAnswer(pid) => {
            Failure::failed(format!("{supervisor} (pid {pid}) does not answer"))
                .hint(format!("if a signal stopped it, `kill -CONT {pid}` continues it"))
        }
        ClientError::SupervisorEnded(pid) => {
            Failure::failed(format!("{supervisor} (pid {pid}) ended before it was done"))
                .hint(format!("`sameport status {name}` says what is left"))
        }
        ClientError::TooLong(bytes, limit) => Failure::usage(format!(
            "the command has {bytes} bytes, and {supervisor} takes {limit} at most"
        ))
        .hint("move long arguments to a file, or start the program from a script"),
        ClientError::Frame(pid, error) => {
            Failure::failed(format!("{supervisor} (pid {pid}): {error}"))
        }
        ClientError::Failed { fault, error, hint } => {
            let kind = match fault {
                FaultKind::Other | FaultKind::Busy => ExitKind::Failed,
                FaultKind::NotFound => ExitKind::NotFound,
                FaultKind::NotExecutable => ExitKind::NotExecutable,
                FaultKind::Usage => ExitKind::Usage,
                FaultKind::Unsupported => ExitKind::Unsupported,
            };
            let message = shorten(&printable(error));
            // A hint can be a command.
            Failure { kind, message, hint: hint.as_deref().map(printable), also: Vec::new() }
        }
    }
}

/// A run of another user. The user wrote its files and the replies of its supervisor, so none of their
/// text becomes advice.
fn of_user(name: &RunName, user: &str, error: &ClientError) -> Failure {
    let Failure { kind, message, hint, also } = client_failure(name, error);
    let by_user = |verb| format!("{}sameport {verb} {name}", shell::as_user(user));
    let hint = match error.cause() {
        ClientError::Ended(_) | ClientError::Failed { .. } => None,
        ClientError::SupervisorDead(dead) if dead.running_workers.is_empty() => None,
        ClientError::SupervisorDead(_) => {
            Some(format!("what it left is ended by its user only: {}", by_user("stop")))
        }
        ClientError::NoSuchRun(names) if names.is_empty() => {
            Some("`sameport status --all` lists the runs of all users".to_owned())
        }
        _ => hint,
    };
    Failure { kind, message: format!("user {}: {message}", printable(user)), hint, also }
}

/// How to start a run again. A report of an earlier build has only the command of the workers.
fn command_again(name: &RunName, command: &[OsString], line: Option<&StartLine>) -> String {
    let Some(StartLine { arguments, directory }) = line else {
        let command = shell::os_command(command);
        return format!("sameport run --name {name} … -- {command}");
    };
    // One worker is the default.
    let line = shell::os_command(arguments.iter().filter(|word| *word != "-n1"));
    let here = std::env::current_dir().is_ok_and(|here| here.as_os_str() == directory);
    match here {
        true => line,
        false => format!("cd {} && {line}", shell::os_command([directory])),
    }
}

/// The command that starts an ended run again.
fn start_again(name: &RunName, ended: &EndedRun) -> String {
    match service_of(&ended.info) {
        Some(unit) => holder::start(&unit),
        None => command_again(name, &ended.info.command, ended.start_line.as_ref()),
    }
}

/// The command line of a killed supervisor, in its directory.
fn recorded_line(name: &RunName, record: &RunRecord) -> String {
    let line = record.continuation.as_ref().and_then(|next| {
        StartLine::of(&record.info, &next.arguments, &next.directory, next.copies)
    });
    command_again(name, &record.info.command, line.as_ref())
}

/// A supervisor that was killed: its workers may still serve.
pub(super) fn dead_supervisor(
    name: &RunName,
    dead: &DeadSupervisor,
    unit: Option<&Unit>,
) -> Failure {
    let Some(record) = &dead.record else {
        return Failure::failed(format!(
            "the supervisor of {name} is gone and left no record of its workers"
        ))
        .hint("`sameport ls` lists the sockets on its ports");
    };
    let supervisor = format!("the supervisor of {name} (pid {})", record.pid);
    let again = match unit {
        Some(unit) => holder::restart(unit),
        None => recorded_line(name, record),
    };
    let next = |it| match unit {
        Some(unit) => format!("replace {it}: {}", holder::restart(unit)),
        None => {
            format!("`sameport restart {name}` replaces {it}, `sameport stop {name}` ends {it}")
        }
    };
    match &dead.running_workers[..] {
        [] => Failure::failed(format!("{supervisor} is gone, and so are its workers"))
            .hint(format!("start it again: {again}")),
        [pid] => Failure::failed(format!(
            "{supervisor} is gone; its worker (pid {pid}) keeps serving, and can bind nothing new"
        ))
        .hint(next("it")),
        pids => Failure::failed(format!(
            "{supervisor} is gone; its workers (pids {}) keep serving, and can bind nothing new",
            sentence_list(pids, LISTED)
        ))
        .hint(next("them")),
    }
}

/// A change that takes longer than the user waits.
pub(crate) fn change_goes_on(name: &RunName, change: &str, limit: Duration) -> Failure {
    let limit = limit.as_secs_f64();
    Failure::failed(format!("{change} is not done after {limit} s, and goes on"))
        .hint(format!("`sameport status {name}` shows its progress"))
}

/// The run of a service, which its manager starts: a supervisor beside it would have neither the manager's
/// restarts nor its limits, and the service's own next supervisor would find the name taken.
pub(crate) fn service_failure(name: &RunName, unit: &Unit) -> Failure {
    let service = shell::word(&unit.name);
    Failure::failed(format!(
        "the supervisor of {name} was killed, and {service} starts it: another would be outside of the \
         service"
    ))
    .hint(holder::restart(unit))
}

/// A program for `reexec` that cannot be executed.
pub(crate) fn program_failure(program: &OsStr, fault: FaultKind) -> Failure {
    let program = shell::os_command([program]);
    match fault {
        FaultKind::NotFound => {
            Failure::new(ExitKind::NotFound, format!("{program}: command not found"))
        }
        _ => Failure::new(ExitKind::NotExecutable, format!("{program}: cannot be executed")),
    }
    .hint("name a `sameport` that is installed")
}
