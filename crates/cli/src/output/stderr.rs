//! Lines on standard error. An error of writing is ignored.

use std::io::Write as _;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};

use super::text::printable;

/// The importance of a line: a priority of `syslog(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
}

impl Severity {
    /// The severity that the beginning of a line says.
    pub(crate) fn of(line: &str) -> Self {
        match line.split_once(':') {
            Some(("error", _)) => Self::Error,
            Some(("warning", _)) => Self::Warning,
            _ => Self::Info,
        }
    }
}

/// Prints a line in one write, because other processes may write there too. Where stderr is the journal,
/// the line begins with its priority (`sd-daemon(3)`): `journalctl -p err` selects by it.
pub(crate) fn write(severity: Severity, text: &str) {
    let priority = if is_journal() { format!("<{}>", severity as u8) } else { String::new() };
    let lines: String = text.split('\n').map(|line| format!("{priority}{line}\n")).collect();
    // `anstream` would write what is between the styles piece by piece.
    let lines = if is_plain() { strip_str(&lines).to_string() } else { lines };
    // A closed stderr is no error.
    let _ = anstream::stderr().write_all(lines.as_bytes());
}

/// Whether styles and movements of the cursor are left out: no terminal, NO_COLOR, TERM=dumb.
pub(crate) fn is_plain() -> bool {
    AutoStream::choice(&std::io::stderr()) == ColorChoice::Never
}

/// Prints a line, with control characters escaped.
pub(crate) fn print(text: &str) {
    styled(&printable(text));
}

/// Prints a line that controls the terminal: the caller has escaped the parts that are not its own.
pub(crate) fn styled(text: &str) {
    write(Severity::of(text), text);
}

/// Prints a next step, with control characters escaped.
pub(crate) fn hint(text: &str) {
    let cyan = anstyle::AnsiColor::Cyan.on_default();
    write(Severity::Info, &format!("{cyan}hint:{cyan:#} {}", printable(text)));
}

#[cfg(target_os = "linux")]
fn is_journal() -> bool {
    use std::sync::OnceLock;

    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM");
        stream.is_ok_and(|stream| sameport_sys::systemd::is_journal(std::io::stderr(), &stream))
    })
}

/// The journal is a part of systemd.
#[cfg(not(target_os = "linux"))]
fn is_journal() -> bool {
    false
}

/// Asks a question on the terminal and returns whether the answer is yes. Without a terminal it is no.
#[cfg(target_os = "linux")]
pub(crate) fn ask(question: &[String]) -> bool {
    use std::io::IsTerminal as _;

    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    question.iter().for_each(|line| print(line));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer).is_ok();
    read && ["y", "yes"].contains(&answer.trim())
}
