//! JSON on one line, safe for a terminal: control characters inside strings are escaped.

mod object;

use std::io::{self, BufWriter, Write as _};

use serde::Serialize;
use serde_json::ser::Formatter;

pub(crate) use object::{Object, fields, object};

use super::text::controls_terminal;

/// The JSON of a value and the end of the line.
pub(crate) fn line(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, value)
        .unwrap_or_else(|error| unreachable!("structs with text keys are always JSON: {error}"));
    String::from_utf8(bytes).unwrap_or_else(|error| unreachable!("JSON is UTF-8: {error}"))
}

/// Writes the JSON of a value and the end of the line, in blocks of 64 KiB.
pub(crate) fn write_line(to: impl io::Write, value: &impl Serialize) -> io::Result<()> {
    let mut blocks = BufWriter::with_capacity(64 * 1024, to);
    write(&mut blocks, value)?;
    blocks.flush()
}

fn write(to: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *to, TerminalSafe))?;
    to.write_all(b"\n")
}

/// JSON permits characters that control a terminal: U+009B begins an escape sequence.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W>(&mut self, to: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        // Nearly every string is printable ASCII, which a scan of its bytes tells.
        while !rest.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let Some((at, c)) = rest.char_indices().find(|(_, c)| controls_terminal(*c)) else {
                break;
            };
            to.write_all(&rest.as_bytes()[..at])?;
            // None of these characters is above U+FFFF.
            write!(to, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        to.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let text = "\u{1b}[2J \u{7f} \u{9b}31m \u{202e}é\n\"\\\r\t\u{8}\u{c}";
        let written = line(&[text]);
        let expected = "[\"\\u001b[2J \\u007f \\u009b31m \\u202eé\\n\\\"\\\\\\r\\t\\b\\f\"]\n";
        assert_eq!(written, expected);
        let read: Vec<String> = serde_json::from_str(&written).expect("it is JSON");
        assert_eq!(read, [text]);
    }

    #[test]
    fn values_are_as_serde_json_writes_them() {
        let values = [
            json!({"a": 1, "b": [true, null, -5, 1.5, 1_764_480_000.25, 0.0, "x"], "c": {}}),
            json!([]),
            json!([u64::MAX, i64::MIN, 10, 99, 100, 1_234_567]),
        ];
        for value in values {
            assert_eq!(line(&value), format!("{value}\n"));
            let mut blocks = Vec::new();
            write_line(&mut blocks, &value).expect("memory does not fail");
            let read: Value = serde_json::from_slice(&blocks).expect("it is JSON");
            assert_eq!(read, value);
        }
    }
}
