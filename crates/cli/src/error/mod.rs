//! Errors as advice: the message, the next step and the exit code for every error of the operations,
//! the supervisor and the library.
//!
//! `command_line` explains wrong arguments, `unknown_verb` a word that is no verb, `address` an address that
//! cannot be bound, `launch` a command that cannot be executed, `run` a run that does not start, `client` a
//! run that does not exist or a supervisor that does not answer, `system` what the machine refuses to the
//! other verbs, `traffic` what `steer` and `drain` refuse, `service_file` what is wrong in a file of services. No other file maps an error to a message or a code.

#[cfg(target_os = "linux")]
mod address;
#[cfg(target_os = "linux")]
mod client;
pub(crate) mod command_line;
#[cfg(target_os = "linux")]
mod detach;
#[cfg(target_os = "linux")]
mod launch;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod metrics;
#[cfg(target_os = "linux")]
mod revive;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod service;
#[cfg(target_os = "linux")]
mod service_file;
#[cfg(target_os = "linux")]
mod services;
#[cfg(target_os = "linux")]
mod system;
#[cfg(target_os = "linux")]
mod traffic;
mod unknown_verb;

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use sameport::{Error as SocketError, ErrorKind as SocketErrorKind};

use crate::operations::export::ExportError;
use crate::operations::list::Error as ListError;
use crate::output::stderr;
use crate::output::stderr::Severity;
use crate::output::text::printable;

#[cfg(target_os = "linux")]
pub(crate) use address::{listen_failure, refusal_advice, unshared_failure};
#[cfg(target_os = "linux")]
pub(crate) use client::{change_goes_on, client_failure, program_failure, service_failure};
#[cfg(target_os = "linux")]
pub(crate) use detach::detach_failure;
#[cfg(target_os = "linux")]
pub(crate) use launch::{directory_failure, user_failure};
#[cfg(target_os = "linux")]
pub(crate) use logs::{logs_failure, no_log_directory};
#[cfg(target_os = "linux")]
pub(crate) use revive::revive_failure;
#[cfg(target_os = "linux")]
pub(crate) use run::{interposer_name, run_failure};
#[cfg(target_os = "linux")]
pub(crate) use sandbox::{permit, sandbox_reason};
#[cfg(target_os = "linux")]
pub(crate) use services::{
    lock_failure, not_of_file, service_obstacle, step_failure, unknown_services, watch_failure,
};
#[cfg(target_os = "linux")]
pub(crate) use system::guard_state_failure;
#[cfg(target_os = "linux")]
pub(crate) use traffic::drain_timeout;

/// The result of a verb: its exit code, or the reason that it failed.
pub(crate) type VerbResult = Result<ExitCode, Failure>;

/// The cause of a failure, as the exit code reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitKind {
    /// 1: the operating system or the other side refused.
    Failed,
    /// 2: the command line is wrong; nothing was started.
    Usage,
    /// 3: this machine cannot do it: kernel, privilege or system.
    Unsupported,
    /// 126: the command was found and cannot be executed.
    #[cfg(target_os = "linux")]
    NotExecutable,
    /// 127: the command was not found.
    #[cfg(target_os = "linux")]
    NotFound,
}

impl ExitKind {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unsupported => 3,
            #[cfg(target_os = "linux")]
            Self::NotExecutable => 126,
            #[cfg(target_os = "linux")]
            Self::NotFound => 127,
        }
    }

    /// The cause that another process reports by this exit code.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_code(code: u8) -> Self {
        let kinds = [Self::Usage, Self::Unsupported, Self::NotExecutable, Self::NotFound];
        kinds.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Failed)
    }
}

/// The end of a verb that failed: one `error:` line, one `hint:` line, one exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ExitKind,
    /// The call, the address and the other side; lower case, no full stop.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: Option<String>,
    /// More of the same kind, each with a line of its own.
    pub(crate) also: Vec<Self>,
}

impl Failure {
    pub(crate) fn new(kind: ExitKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), hint: None, also: Vec::new() }
    }

    /// The system or the other side refused.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(ExitKind::Failed, message)
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitKind::Usage, message)
    }

    /// This machine cannot do it.
    pub(crate) fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(ExitKind::Unsupported, message)
    }

    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Prints the failure to stderr and returns its exit code. Arguments, paths and names of programs are
    /// part of messages, so control characters are escaped.
    pub(crate) fn report(&self) -> ExitCode {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let cyan = anstyle::AnsiColor::Cyan.on_default();
        // Where stderr is closed, the exit code is the only report.
        let message = printable(&self.message);
        stderr::write(Severity::Error, &format!("{red}error:{red:#} {message}"));
        if let Some(hint) = &self.hint {
            let hint = printable(hint);
            stderr::write(Severity::Error, &format!("{cyan}hint:{cyan:#} {hint}"));
        }
        for failure in &self.also {
            failure.report();
        }
        ExitCode::from(self.kind.code())
    }
}

/// The hint where `doctor` names the missing part of the machine.
const DOCTOR: &str = "`sameport doctor` says what this machine can do";

/// A verb that only Linux has.
pub(crate) fn needs_linux(verb: &str) -> Failure {
    Failure::unsupported(format!(
        "{verb} needs Linux: other systems have neither seccomp notification nor sock_diag"
    ))
    .hint("a program of your own can share a port by the library `sameport`")
}

/// A name that does not resolve.
pub(crate) fn unresolved(name: &str, source: &io::Error) -> Failure {
    Failure::usage(format!("{name} does not resolve: {source}"))
        .hint("write its IP address instead")
}

/// Two `--map` options for one address.
pub(crate) fn contradicting_maps(earlier: impl fmt::Display, later: impl fmt::Display) -> Failure {
    Failure::usage(format!("--map {later}: contradicts --map {earlier}"))
        .hint("keep one of the two")
}

/// A result that could not be written.
pub(crate) fn stdout_failure(error: &io::Error) -> Failure {
    Failure::failed(format!("write to stdout: {error}"))
}

/// A page of the manual that could not be written.
pub(crate) fn manual_failure(page: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("write {}: {error}", page.display()))
        .hint("--out names a directory that exists and that you may write to")
}

/// A preload library that was not written to `file`.
pub(crate) fn export_failure(file: &Path, error: &ExportError) -> Failure {
    let file = file.display();
    match error {
        ExportError::NoLibrary(why) => no_library(why),
        ExportError::Exists => Failure::failed(format!("{file} exists"))
            .hint("--force replaces it, --out names another file"),
        ExportError::System(error) => Failure::failed(format!("write {file}: {error}"))
            .hint("--out names a file in a directory that exists and that you may write to"),
    }
}

fn no_library(why: &str) -> Failure {
    Failure::unsupported(format!("this build has no preload library: {why}"))
        .hint("build sameport on the machine that it is for")
}

/// A socket that could not be opened or connected.
impl From<&SocketError> for Failure {
    fn from(error: &SocketError) -> Self {
        let kind = match error.kind() {
            SocketErrorKind::BadAddress => ExitKind::Usage,
            SocketErrorKind::NotPermitted | SocketErrorKind::Unsupported => ExitKind::Unsupported,
            _ => ExitKind::Failed,
        };
        let failure = Self::new(kind, error);
        match (error.hint(), error.kind()) {
            (Some(hint), _) => failure.hint(hint),
            (None, SocketErrorKind::Refused) => {
                failure.hint("no socket listens there; `sameport ls` lists those that do")
            }
            (None, _) => failure,
        }
    }
}

/// The sockets of `ls` could not be listed.
impl From<ListError> for Failure {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Name { name, source } => unresolved(&name, &source),
            ListError::Network(why) => Self::usage(why)
                .hint("`ip netns` lists the named ones; `pid:PID` is that of a process"),
            ListError::NotPermitted(why) => Self::unsupported(why)
                .hint("entering another network namespace needs CAP_SYS_ADMIN: try as root"),
            ListError::Machine(why) => Self::unsupported(why).hint(DOCTOR),
            ListError::Look(why) => Self::failed(why),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
