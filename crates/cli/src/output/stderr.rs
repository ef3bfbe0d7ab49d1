//! Lines on standard error beside a result. One that cannot be written is lost, and nothing else.

use std::io::Write as _;

/// A plain sentence.
pub(crate) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// What the user can do to learn more.
pub(crate) fn hint(text: &str) {
    let cyan = anstyle::AnsiColor::Cyan.on_default();
    let _ = writeln!(anstream::stderr(), "{cyan}hint:{cyan:#} {text}");
}

/// Asks, and gives whether somebody who sits there says yes. Where nobody does, the answer is no.
#[cfg(target_os = "linux")]
pub(crate) fn ask(question: &[String]) -> bool {
    use std::io::IsTerminal as _;

    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    question.iter().for_each(|line| say(line));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer).is_ok();
    read && ["y", "yes"].contains(&answer.trim())
}
