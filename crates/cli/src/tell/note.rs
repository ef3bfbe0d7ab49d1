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
