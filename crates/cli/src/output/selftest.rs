//! The table of the kernel's rules while it is run: a row at a time, as text or as lines of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sameport_policy::kernel_rules::{Line, Verdict, telling};
use serde_json::{Value, json};

use super::stdout;
use crate::error::Failure;
use crate::operations::selftest::{Chosen, Counts, kernel};

/// Tells of rows as they end.
pub(crate) struct Rows {
    json: bool,
    /// Why rows were skipped, and how many for each reason.
    skipped: BTreeMap<String, usize>,
    /// What could not be written.
    failed: Option<Failure>,
}

impl Rows {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, skipped: BTreeMap::new(), failed: None }
    }

    pub(crate) fn tell(&mut self, chosen: &Chosen, verdict: &Verdict) {
        if let Verdict::Skipped(why) = verdict {
            *self.skipped.entry(why.clone()).or_default() += 1;
        }
        let text = if self.json {
            format!("{}\n", value(&chosen.name(), chosen.shows(), verdict))
        } else {
            row(&chosen.name(), chosen.shows(), verdict)
        };
        if let Err(failure) = stdout::write(&text) {
            self.failed = self.failed.take().or(Some(failure));
        }
    }

    /// All rows have ended.
    pub(crate) fn done(self, counts: &Counts) -> Result<(), Failure> {
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        let kernel = kernel();
        if self.json {
            return stdout::write(&format!("{}\n", summary(&kernel, counts)));
        }
        let Counts { agree, differ, skipped, broken } = counts;
        let mut text = format!("\n{} rows on Linux {kernel}: {agree} ok", counts.all());
        for (count, word) in [(differ, "differ"), (broken, "broken"), (skipped, "skipped")] {
            if *count > 0 {
                // Writing to a String does not fail.
                let _ = write!(text, ", {count} {word}");
            }
        }
        text.push('\n');
        for (why, count) in &self.skipped {
            let _ = writeln!(text, "{count} skipped: {why}");
        }
        stdout::write(&text)
    }
}

/// The names alone.
pub(crate) fn list(chosen: &[Chosen]) -> String {
    chosen.iter().map(|one| format!("{}: {}\n", one.name(), one.shows())).collect()
}

/// A row for a person: its name, what it shows, and beside each other what was expected and seen.
fn row(name: &str, shows: &str, verdict: &Verdict) -> String {
    const MARGIN: &str = "         ";
    let (word, lines) = match verdict {
        Verdict::Agrees(lines) => ("ok", telling(lines).map(line).collect()),
        Verdict::Differs(lines) => ("differs", lines.iter().map(line).collect()),
        Verdict::Skipped(why) => ("skipped", vec![why.clone()]),
        Verdict::Broken(why) => ("broken", vec![why.clone()]),
    };
    let mut text = format!("{word:<7}  {name}: {shows}\n");
    for line in lines {
        let _ = writeln!(text, "{MARGIN}{line}");
    }
    text
}

fn line(line: &Line) -> String {
    format!("{}: expected {}, seen {}", line.step, line.expected, line.seen)
}

/// Version 1 of a row's line.
fn value(name: &str, shows: &str, verdict: &Verdict) -> Value {
    let (word, lines, why) = match verdict {
        Verdict::Agrees(lines) => ("ok", &lines[..], None),
        Verdict::Differs(lines) => ("differs", &lines[..], None),
        Verdict::Skipped(why) => ("skipped", &[][..], Some(why)),
        Verdict::Broken(why) => ("broken", &[][..], Some(why)),
    };
    let line = |line: &Line| {
        json!({ "step": line.step, "expected": line.expected, "seen": line.seen,
                "agrees": line.agrees })
    };
    json!({ "version": 1, "event": "row", "name": name, "shows": shows, "verdict": word,
            "why": why, "steps": lines.iter().map(line).collect::<Vec<_>>() })
}

/// Version 1 of the last line.
fn summary(kernel: &str, counts: &Counts) -> Value {
    let Counts { agree, differ, skipped, broken } = counts;
    json!({ "version": 1, "event": "done", "kernel": kernel, "rows": counts.all(), "ok": agree,
            "differ": differ, "skipped": skipped, "broken": broken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(step: &str, expected: &str, seen: &str) -> Line {
        let agrees = expected == seen;
        Line { step: step.into(), expected: expected.into(), seen: seen.into(), agrees }
    }

    #[test]
    fn a_row_says_what_was_expected_and_what_was_seen() {
        let lines = vec![seen("A binds", "ok", "ok"), seen("B binds", "EADDRINUSE", "ok")];
        assert_eq!(
            row("tcp/x", "who wins", &Verdict::Differs(lines.clone())),
            "differs  tcp/x: who wins\n         A binds: expected ok, seen ok\n         \
             B binds: expected EADDRINUSE, seen ok\n"
        );
        let agreed = vec![lines[0].clone(), seen("B binds", "EADDRINUSE", "EADDRINUSE")];
        assert_eq!(
            row("tcp/x", "who wins", &Verdict::Agrees(agreed)),
            "ok       tcp/x: who wins\n         B binds: expected EADDRINUSE, seen EADDRINUSE\n"
        );
        assert_eq!(
            row("tcp/x", "who wins", &Verdict::Skipped("needs root".into())),
            "skipped  tcp/x: who wins\n         needs root\n"
        );
    }

    #[test]
    fn json_keeps_its_shape() {
        let lines = vec![seen("A binds", "ok", "EPERM")];
        let told = value("tcp/x", "who", &Verdict::Differs(lines));
        assert_eq!((&told["event"], &told["verdict"]), (&json!("row"), &json!("differs")));
        assert_eq!(told["steps"][0]["seen"], "EPERM");
        assert!(told["why"].is_null());
        let told = value("tcp/x", "who", &Verdict::Skipped("needs root".into()));
        assert_eq!((&told["why"], &told["steps"]), (&json!("needs root"), &json!([])));
        let counts = Counts { agree: 2, differ: 1, skipped: 3, broken: 0 };
        assert_eq!(summary("6.1", &counts)["rows"], 6);
    }
}
