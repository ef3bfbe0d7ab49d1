//! How a command ends badly: one `error:` line, one `hint:` line, one exit code.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// The result of a verb: its exit code, or the reason that it could not be done.
pub(crate) type VerbResult = Result<ExitCode, Failure>;

/// Why a command ended, as its exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitKind {
    /// 1: the operating system, or the other side, said no.
    CouldNotBeDone,
    /// 2: the command line is wrong; nothing was started.
    BadCommandLine,
    /// 3: this machine cannot do it (kernel, privilege, system).
    MachineCannot,
    /// 126: the command to run was found but cannot be executed.
    #[cfg(target_os = "linux")]
    NotExecutable,
    /// 127: the command to run was not found.
    #[cfg(target_os = "linux")]
    NotFound,
}

/// What went wrong, and what the user can do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ExitKind,
    /// Lower case, no full stop; names the call, the address, the other side.
    pub(crate) message: String,
    /// The next step, if there is one to name.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: ExitKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), hint: None }
    }

    /// An error of the command line itself.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitKind::BadCommandLine, message)
    }

    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// For the verbs that ask or change a named run.
#[cfg(not(target_os = "linux"))]
pub(crate) fn named_runs_need_linux(verb: &str) -> Failure {
    Failure::new(
        ExitKind::MachineCannot,
        format!("`{verb}` needs Linux: named runs work by seccomp notification"),
    )
    .hint("a program of your own can share a port by the library `sameport`")
}

/// Prints the failure on stderr and gives the exit code that stands for it.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let cyan = anstyle::AnsiColor::Cyan.on_default();
    let mut stderr = anstream::stderr();
    // Where stderr is closed, the exit code is all that can be told.
    let _ = writeln!(stderr, "{red}error:{red:#} {}", failure.message);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(stderr, "{cyan}hint:{cyan:#} {hint}");
    }
    ExitCode::from(match failure.kind {
        ExitKind::CouldNotBeDone => 1,
        ExitKind::BadCommandLine => 2,
        ExitKind::MachineCannot => 3,
        #[cfg(target_os = "linux")]
        ExitKind::NotExecutable => 126,
        #[cfg(target_os = "linux")]
        ExitKind::NotFound => 127,
    })
}

/// A message is a line for a person, whatever was typed: 1 MiB of argument is cut, not echoed.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}
