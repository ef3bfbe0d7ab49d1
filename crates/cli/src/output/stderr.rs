//! Lines on standard error. An error of writing is ignored.

use std::io::Write as _;

use super::text::printable;

/// Prints a line, with control characters escaped.
pub(crate) fn print(text: &str) {
    styled(&printable(text));
}

/// Prints a line that controls the terminal: the caller has escaped the parts that are not its own.
pub(crate) fn styled(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a next step, with control characters escaped.
pub(crate) fn hint(text: &str) {
    let cyan = anstyle::AnsiColor::Cyan.on_default();
    let _ = writeln!(anstream::stderr(), "{cyan}hint:{cyan:#} {}", printable(text));
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
