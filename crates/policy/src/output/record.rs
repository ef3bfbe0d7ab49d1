//! One line of a file with kept output.
//!
//! ```text
//! 2026-11-30T21:55:25.123Z web.2 | the text of a line
//! 2026-11-30T21:55:25.124Z web.2 + the beginning of a long one, or a line without its end
//! ```
//!
//! The bytes of the text are the worker's. A worker's output is therefore its texts in order, with a newline after
//! each that has `|`.

/// Whether a line is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnding {
    /// The worker wrote a newline.
    Newline,
    /// The line goes on in the worker's next record, or the worker ended in the middle of it.
    Open,
}

/// A parsed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time at which the text was read, in UTC (RFC 3339).
    pub time: &'a str,
    /// The name of the run, for a worker with `.` and its number.
    pub label: &'a str,
    /// Whether the line is complete.
    pub ending: LineEnding,
    /// The bytes that the worker wrote.
    pub text: &'a [u8],
}

/// Appends a record. `time`: `None` leaves it out, as in a terminal.
pub fn push_record(
    to: &mut Vec<u8>,
    time: Option<&str>,
    label: &str,
    ending: LineEnding,
    text: &[u8],
) {
    if let Some(time) = time {
        to.extend_from_slice(time.as_bytes());
        to.push(b' ');
    }
    to.extend_from_slice(label.as_bytes());
    to.extend_from_slice(match ending {
        LineEnding::Newline => b" | ",
        LineEnding::Open => b" + ",
    });
    to.extend_from_slice(text);
    to.push(b'\n');
}

impl<'a> Record<'a> {
    /// Parses a record without its newline. `None`: the line is something else.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = split_word(line)?;
        let (label, rest) = split_word(rest)?;
        let (ending, text) = match rest {
            [b'|', b' ', text @ ..] => (LineEnding::Newline, text),
            [b'+', b' ', text @ ..] => (LineEnding::Open, text),
            _ => return None,
        };
        super::time::parse_rfc3339(time)?;
        Some(Self { time, label, ending, text })
    }

    /// The number of the worker; `None` for the supervisor.
    #[must_use]
    pub fn worker(&self) -> Option<u16> {
        worker_of(self.label)
    }
}

/// The number of the worker in a label. The name of a run may have dots, so the supervisor's label of a run `web.1`
/// would be worker 1 of a run `web`: the directory of a file tells them apart.
#[must_use]
pub fn worker_of(label: &str) -> Option<u16> {
    label.rsplit_once('.')?.1.parse().ok()
}

fn split_word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = bytes.iter().take(1024).position(|byte| *byte == b' ')?;
    Some((std::str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let time = "2026-11-30T21:55:25.123Z";
        for (label, ending, text) in [
            ("web.2", LineEnding::Newline, &b"text"[..]),
            ("web", LineEnding::Newline, b""),
            ("a.b.12", LineEnding::Open, b"\0\x1b[31m | + \xff"),
        ] {
            let mut bytes = Vec::new();
            push_record(&mut bytes, Some(time), label, ending, text);
            assert_eq!(bytes.pop(), Some(b'\n'));
            assert_eq!(Record::parse(&bytes), Some(Record { time, label, ending, text }));
        }
    }

    #[test]
    fn a_worker_is_the_number_of_its_label() {
        for (label, worker) in
            [("web", None), ("web.1", Some(1)), ("a.b.1024", Some(1024)), ("a.b", None), ("", None)]
        {
            assert_eq!(worker_of(label), worker, "{label}");
        }
    }

    #[test]
    fn other_lines_are_no_records() {
        for line in [
            &b""[..],
            b"text",
            b"2026-11-30T21:55:25.123Z",
            b"2026-11-30T21:55:25.123Z web.1",
            b"2026-11-30T21:55:25.123Z web.1 |",
            b"2026-11-30T21:55:25.123Z web.1 - x",
            b"yesterday web.1 | x",
            b"\xff web.1 | x",
        ] {
            assert_eq!(Record::parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_record_for_people_has_no_time() {
        let mut bytes = Vec::new();
        push_record(&mut bytes, None, "web.1", LineEnding::Newline, b"x");
        assert_eq!(bytes, b"web.1 | x\n");
    }
}
