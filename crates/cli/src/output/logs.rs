//! Lines of output, for a terminal, a pipe, and programs.

use std::io;
use std::io::Write;

use sameport_policy::output::LineEnding;
use serde::Serialize;

use super::screen;
use super::text::push_printable;
use crate::operations::logs::LogLine;

/// How lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Every byte as it was written.
    Bytes,
    /// For people: control characters are escaped.
    Terminal {
        color: bool,
    },
    Json,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: Option<&'a str>,
    run: Option<&'a str>,
    worker: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    text: &'a str,
    complete: bool,
}

impl LogFormat {
    /// The format for the stdout of this process.
    pub(crate) fn of_stdout(json: bool) -> Self {
        match (json, screen::is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal { color: screen::stdout_is_coloured() },
            (false, false) => Self::Bytes,
        }
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub(crate) fn write(self, line: &LogLine<'_>, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes => {
                prefix(line, false, to)?;
                to.write_all(line.text)?;
            }
            Self::Terminal { color } => {
                prefix(line, color, to)?;
                to.write_all(escaped(line.text).as_bytes())?;
            }
            Self::Json => {
                let label = line.label;
                let run = match (label, line.worker) {
                    (Some(label), Some(_)) => label.rsplit_once('.').map(|(run, _)| run),
                    (label, _) => label,
                };
                let json = JsonLine {
                    time: line.time,
                    run,
                    worker: line.worker,
                    pid: line.pid,
                    text: &String::from_utf8_lossy(line.text),
                    complete: line.ending == LineEnding::Newline,
                };
                serde_json::to_writer(&mut *to, &json)?;
            }
        }
        to.write_all(b"\n")
    }
}

fn prefix(line: &LogLine<'_>, color: bool, to: &mut dyn Write) -> io::Result<()> {
    if let Some(time) = line.time {
        match color {
            true => write!(to, "\x1b[2m{time}\x1b[0m ")?,
            false => write!(to, "{time} ")?,
        }
    }
    let Some(label) = line.label else { return Ok(()) };
    let mark = if line.ending == LineEnding::Newline { '|' } else { '+' };
    match color {
        true => {
            let color = sameport_supervisor::color_of(label);
            write!(to, "\x1b[{color}m{label} {mark}\x1b[0m ")
        }
        false => write!(to, "{label} {mark} "),
    }
}

/// The text of a line, without anything that a terminal would execute. Tabs stay.
fn escaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut escaped = String::with_capacity(text.len());
    for (place, part) in text.split('\t').enumerate() {
        if place > 0 {
            escaped.push('\t');
        }
        push_printable(&mut escaped, part);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, text: &[u8], ending: LineEnding) -> String {
        let line = LogLine {
            time: Some("2026-11-30T21:55:25.123Z"),
            label: Some("web.2"),
            worker: Some(2),
            ending,
            text,
            pid: None,
        };
        let mut bytes = Vec::new();
        format.write(&line, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_pipe_gets_every_byte_and_a_terminal_none_that_controls_it() {
        let text = b"a\tb\x1b[31m\0\r";
        assert_eq!(
            written(LogFormat::Bytes, text, LineEnding::Newline),
            "2026-11-30T21:55:25.123Z web.2 | a\tb\x1b[31m\0\r\n"
        );
        assert_eq!(
            written(LogFormat::Terminal { color: false }, text, LineEnding::Open),
            "2026-11-30T21:55:25.123Z web.2 + a\tb\\u{1b}[31m\\u{0}\\r\n"
        );
        assert_eq!(
            written(LogFormat::Terminal { color: true }, b"x", LineEnding::Newline),
            "\x1b[2m2026-11-30T21:55:25.123Z\x1b[0m \x1b[33mweb.2 |\x1b[0m x\n"
        );
    }

    #[test]
    fn json_names_the_run_and_the_worker() {
        assert_eq!(
            written(LogFormat::Json, b"a \"b\"\xff", LineEnding::Open),
            r#"{"time":"2026-11-30T21:55:25.123Z","run":"web","worker":2,"text":"a \"b\"�","complete":false}
"#
        );
    }
}
