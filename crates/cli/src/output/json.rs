//! One line of JSON, as safe for a terminal as text is.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::text::controls_terminal;

/// With the end of the line.
pub(crate) fn line(told: &impl Serialize) -> String {
    let mut line = Vec::new();
    to(&mut line, told).unwrap_or_else(|error| {
        unreachable!("plain structs with text keys are always JSON: {error}")
    });
    String::from_utf8(line).unwrap_or_else(|error| unreachable!("JSON is UTF-8: {error}"))
}

/// The same, as it comes to be: there may be much.
pub(crate) fn to(mut to: impl io::Write, told: &impl Serialize) -> io::Result<()> {
    told.serialize(&mut Serializer::with_formatter(&mut to, EscapedJson))?;
    to.write_all(b"\n")
}

/// What JSON leaves as it is may steer a terminal all the same: U+009B is the start of a command.
struct EscapedJson;

impl Formatter for EscapedJson {
    fn write_string_fragment<W>(&mut self, to: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| controls_terminal(*c)) {
            to.write_all(&rest.as_bytes()[..at])?;
            // None of them is above U+FFFF.
            write!(to, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        to.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_told_and_not_sent() {
        let odd = "\u{1b}[2J \u{7f} \u{9b}31m \u{202e}é\n";
        let told = line(&[odd]);
        assert_eq!(told, "[\"\\u001b[2J \\u007f \\u009b31m \\u202eé\\n\"]\n");
        let read: Vec<String> = serde_json::from_str(&told).expect("it is JSON");
        assert_eq!(read, [odd]);
    }
}
