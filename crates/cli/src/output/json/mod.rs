//! JSON on one line, safe for a terminal: control characters inside strings are escaped.
//!
//! `serde_json` looks at every byte of every key and writes each token by itself, which costs more
//! than to find the sockets that `ls` lists. Here the keys of structs are copied unread, and strings of
//! printable ASCII at once.

mod object;
mod writer;

use std::io;

use serde::Serialize;

pub(crate) use object::{Object, ObjectFields, fields, object};
use writer::{JsonError, JsonWriter};

/// The JSON of a value and the end of the line.
pub(crate) fn line(value: &impl Serialize) -> String {
    let mut writer = JsonWriter { to: io::sink(), text: String::new(), flush_at: usize::MAX };
    value
        .serialize(&mut writer)
        .unwrap_or_else(|error| unreachable!("structs with text keys are always JSON: {error}"));
    writer.text.push('\n');
    writer.text
}

/// Writes the JSON of a value and the end of the line, in blocks of 64 KiB.
pub(crate) fn write_line(to: impl io::Write, value: &impl Serialize) -> io::Result<()> {
    const BLOCK: usize = 64 * 1024;
    let mut writer = JsonWriter { to, text: String::with_capacity(2 * BLOCK), flush_at: BLOCK };
    value.serialize(&mut writer).map_err(|JsonError(error)| error)?;
    writer.text.push('\n');
    writer.to.write_all(writer.text.as_bytes())?;
    writer.to.flush()
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
