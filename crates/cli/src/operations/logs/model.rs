//! What is asked of a run's output, and what is found.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use sameport_policy::model::name::RunName;
use sameport_policy::output::LineEnding;
use sameport_supervisor::control::client::ClientError;
use sameport_sys::kept_log::{self, LogVariables};

use crate::operations::named_runs::OwnerError;

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct LogQuery {
    pub(crate) name: RunName,
    /// The user that the run belongs to, if it is another one.
    pub(crate) user: Option<String>,
    /// Whether to go on until the run ends.
    pub(crate) follow: bool,
    /// Only this many lines.
    pub(crate) lines: Option<usize>,
    pub(crate) worker: Option<u16>,
    /// Milliseconds since 1970.
    pub(crate) since: Option<u64>,
}

/// Lines before the new ones of `--follow`.
const FOLLOWED: usize = 10;

impl LogQuery {
    /// The number of lines before new ones; `None` for all.
    pub(super) fn last(&self) -> Option<usize> {
        let usual = (self.follow && self.since.is_none()).then_some(FOLLOWED);
        self.lines.or(usual)
    }
}

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine<'a> {
    /// As it is written (RFC 3339); `None` in a file without times.
    pub(crate) time: Option<&'a str>,
    /// The run, for a worker with its number; `None` in a file without.
    pub(crate) label: Option<&'a str>,
    pub(crate) worker: Option<u16>,
    pub(crate) ending: LineEnding,
    pub(crate) text: &'a [u8],
    /// The process that wrote it, where it is known.
    pub(crate) pid: Option<i32>,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum LogEvent<'a> {
    Line(LogLine<'a>),
    /// Nothing new: wait this long.
    Pause(Duration),
    /// Something about the lines.
    Note(String),
}

/// Takes an event, and says whether to go on.
pub(super) type Each<'a> = &'a mut dyn FnMut(LogEvent<'_>) -> bool;

/// Why there is nothing to read.
#[derive(Debug)]
pub(crate) enum LogsError {
    Owner(OwnerError),
    /// No run has the name, and nothing is kept under it. The names of runs, and of kept output.
    NoSuchRun(Vec<String>, ClientError),
    /// The run writes to the terminal or the file that it was started with: the pid of its supervisor, and what its
    /// standard output is.
    Foreground(i32, Option<PathBuf>),
    /// The run has ended, and its output was not kept.
    NotKept(ClientError),
    /// The supervisor does not answer, and nothing is kept.
    Client(ClientError),
    /// The option needs lines with a time or a worker, which this file does not have.
    PlainFile(PathBuf, &'static str),
    /// The file belongs to a user other than the run's.
    NotTheRuns(PathBuf),
    /// The files cannot be read.
    Read(PathBuf, std::io::Error),
    /// The journal cannot be asked: why, and the name of the unit.
    Journal(String, String),
}

/// The directory with the output of this user's run of the name, if there can be one.
pub(crate) fn own_directory(name: &RunName) -> Option<PathBuf> {
    let variables = LogVariables {
        of_service: env::var_os("LOGS_DIRECTORY"),
        state: env::var_os("XDG_STATE_HOME"),
        home: env::var_os("HOME"),
    };
    kept_log::directory(name, &variables)
}
