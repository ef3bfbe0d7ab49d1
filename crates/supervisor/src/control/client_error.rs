//! Why a request to a named run failed.

use sameport_policy::model::name::RunName;
use sameport_sys::run_files::ConnectError;

use super::codec::FrameError;
use super::protocol::FaultKind;
use super::record::{EndedRun, RunRecord};

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// No run has this name; the names that exist.
    NoSuchRun(Vec<RunName>),
    /// No run in the directories of this user has this name; these users have one elsewhere.
    Elsewhere(Vec<String>),
    /// The error of a run of this user, who is not the caller.
    OfUser(String, Box<ClientError>),
    /// The run has ended.
    Ended(Box<EndedRun>),
    /// Its supervisor was killed.
    SupervisorDead(Box<DeadSupervisor>),
    /// The control socket cannot be connected.
    Unreachable(ConnectError),
    /// The supervisor with this pid does not answer.
    NoAnswer(i32),
    /// The supervisor with this pid ended before its last reply.
    SupervisorEnded(i32),
    /// The request exceeds the maximum: its size and the maximum, in bytes.
    TooLong(usize, usize),
    /// The process with this pid sent an invalid message.
    Frame(i32, FrameError),
    /// The supervisor refused or could not execute the request.
    Failed {
        /// The kind, for the exit code.
        fault: FaultKind,
        /// The message.
        error: String,
        /// The next step.
        hint: Option<String>,
    },
}

/// A supervisor that was killed.
#[derive(Debug)]
pub struct DeadSupervisor {
    /// Its record, if there is one.
    pub record: Option<RunRecord>,
    /// First processes of its workers that still run.
    pub running_workers: Vec<i32>,
}

impl ClientError {
    /// The error itself, whoever the run belongs to.
    pub fn cause(&self) -> &Self {
        match self {
            Self::OfUser(_, error) => error.cause(),
            error => error,
        }
    }

    /// Whether no run has the name now.
    pub fn is_over(&self) -> bool {
        matches!(self.cause(), Self::NoSuchRun(_) | Self::Elsewhere(_) | Self::Ended(_))
    }
}
