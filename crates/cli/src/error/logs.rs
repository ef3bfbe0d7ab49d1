//! Advice where there is no output to show, or no place to keep it.

use std::path::Path;

use sameport_policy::model::name::RunName;
use sameport_policy::spelling;
use sameport_supervisor::control::client::ClientError;
use sameport_sys::kept_log::LogDirectoryError;
use sameport_sys::users::{effective_uid, user_name};
use sameport_sys::{DirRefusal, Errno};

use super::{Failure, client_failure};
use crate::operations::logs::LogsError;
use crate::output::shell;
use crate::output::text::{printable, sentence_list};

/// Names in one message.
const LISTED: usize = 16;

/// No directory follows from the environment.
pub(crate) fn no_log_directory() -> Failure {
    Failure::unsupported(
        "no directory for the output: neither XDG_STATE_HOME nor HOME is an absolute path",
    )
    .hint("set HOME, or write to a file: --log FILE")
}

/// The output of a run in the background cannot be kept.
pub(super) fn directory_failure(error: &LogDirectoryError) -> Failure {
    let LogDirectoryError { path, why } = error;
    let word = || shell::word(&path.to_string_lossy());
    let hint = match why {
        DirRefusal::OthersCanWrite => format!("take the right from others: chmod go-w {}", word()),
        DirRefusal::OtherUser(_) => {
            format!("rename it, so that another is created: mv {0} {0}.old", word())
        }
        DirRefusal::System(Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::MLINK) => {
            format!("it is a link or no directory: ls -ld {}", word())
        }
        DirRefusal::System(Errno::ROFS) => {
            "the file system is read-only: write to a file elsewhere: --log FILE".to_owned()
        }
        _ => format!(
            "make it one that this user may write to, or write elsewhere: --log FILE; ls -ld {}",
            word()
        ),
    };
    Failure::unsupported(format!("output cannot be kept in {error}")).hint(hint)
}

/// Nothing to show.
pub(crate) fn logs_failure(name: &RunName, error: LogsError) -> Failure {
    match error {
        LogsError::Owner(error) => error.into(),
        LogsError::NoSuchRun(names, error) if names.is_empty() => client_failure(name, &error),
        LogsError::NoSuchRun(names, _) => no_such_run(name, &names),
        LogsError::Foreground(pid, output) => foreground(name, pid, output.as_deref()),
        LogsError::NotKept(error) => {
            let failure = client_failure(name, &error);
            let hint = match &error {
                ClientError::OfUser(..) => failure.hint,
                _ => Some(format!(
                    "`sameport status {name}` shows what is known of it; the output of a run with --detach or --log is kept"
                )),
            };
            Failure {
                message: format!("{}; its output was not kept", failure.message),
                hint,
                ..failure
            }
        }
        LogsError::Client(error) => client_failure(name, &error),
        LogsError::PlainFile(path, option) => Failure::usage(format!(
            "{option}: {} has the workers' own lines, without times and workers",
            path.display()
        ))
        .hint("leave the option out; runs in the background (--detach) write both"),
        LogsError::NotTheRuns(path) => Failure::failed(format!(
            "{} does not belong to the user of {name}, whose supervisor names it",
            path.display()
        ))
        .hint("open it yourself if you trust it"),
        LogsError::Read(path, error) => read_failure(&path, &error),
        LogsError::Journal(why, unit) => Failure::failed(format!("the journal of {unit}: {why}"))
            .hint(match effective_uid() {
                0 => "`journalctl --verify` checks the journal's files".to_owned(),
                uid => {
                    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
                    format!("as root: sudo sameport logs {name} --user {user}")
                }
            }),
    }
}

fn no_such_run(name: &RunName, names: &[String]) -> Failure {
    let failure = Failure::failed(format!("there is no run named {name}, and no output of one"));
    match spelling::nearest(name.as_str(), names.iter().map(String::as_str)) {
        Some(nearest) => failure.hint(format!("did you mean `sameport logs {nearest}`?")),
        None => failure.hint(format!("there is {}", sentence_list(names, LISTED))),
    }
}

fn foreground(name: &RunName, pid: i32, output: Option<&Path>) -> Failure {
    let output = output.map(|it| printable(&it.to_string_lossy()));
    let to = match output.as_deref() {
        Some(terminal) if terminal.starts_with("/dev/pts/") || terminal.starts_with("/dev/tty") => {
            format!("to the terminal {terminal}")
        }
        Some(pipe) if pipe.starts_with("pipe:") || pipe.starts_with("socket:") => {
            "to the program that reads its standard output".to_owned()
        }
        Some(file) => format!("to {file}"),
        None => "to the output that it was started with".to_owned(),
    };
    Failure::failed(format!("{name} runs in the foreground (pid {pid}): its workers write {to}"))
        .hint("a run with --detach keeps its output, one with --log FILE writes it to a file")
}

fn read_failure(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("read {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("it is another user's: run it as root, with --user USER")
        }
        _ => failure
            .hint(format!("`ls -l {}` shows what is there", shell::word(&path.to_string_lossy()))),
    }
}
