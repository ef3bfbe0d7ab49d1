//! The table of what ran.

use std::fmt;
use std::process::Output;

/// The errors of `facts.c` that Wine 8 is expected to return, and why.
const FACTS: [(&str, &str, &str); 2] = [
    ("second TCP listener with SO_REUSEADDR", "10013", "WSAEACCES: refused; Windows admits it"),
    ("second UDP socket with SO_REUSEADDR", "0", "admitted, as by Windows"),
];

#[derive(Default)]
pub(super) struct Report {
    pub(super) wine: String,
    rows: Vec<Row>,
}

struct Row {
    of: String,
    name: String,
    result: String,
    passed: bool,
    /// The output of a failed test.
    output: String,
}

impl Report {
    pub(super) fn add_facts(&mut self, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        for (name, expected, meaning) in FACTS {
            let found = text.lines().find_map(|line| line.trim_end().strip_prefix(name));
            let found = found.and_then(|rest| rest.strip_prefix(": ")).unwrap_or("no answer");
            let passed = found == expected;
            let result = match passed {
                true => format!("{found}, {meaning}"),
                false => format!("FAILED: {found}, expected {expected}"),
            };
            self.push("C program", name, result, passed, String::new());
        }
    }

    /// One row a test, from the output of libtest.
    pub(super) fn add_tests(&mut self, executable: &str, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        let mut all_passed = true;
        for line in text.lines() {
            let Some((name, result)) =
                line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            let passed = result.trim() == "ok" || result.starts_with("ignored");
            all_passed &= passed;
            self.push(executable, name, result.trim().to_owned(), passed, String::new());
        }
        // A test executable that crashes, or whose tests failed.
        if !output.status.success() || !all_passed {
            let result = format!("FAILED: {}", output.status);
            let errors = String::from_utf8_lossy(&output.stderr);
            self.push(executable, "", result, false, format!("{text}{errors}"));
        }
    }

    fn push(&mut self, of: &str, name: &str, result: String, passed: bool, output: String) {
        let (of, name) = (of.to_owned(), name.to_owned());
        self.rows.push(Row { of, name, result, passed, output });
    }

    pub(super) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.passed)
    }

    pub(super) fn summary(&self) -> String {
        let failed = self.rows.iter().filter(|row| !row.passed).count();
        match failed {
            0 => format!("{}: {} rows passed", self.wine, self.rows.len()),
            _ => format!("{}: {failed} of {} rows FAILED", self.wine, self.rows.len()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Row) -> &str| self.rows.iter().map(|row| of(row).len()).max();
        let (of, name) = (width(|row| &row.of), width(|row| &row.name));
        let (of, name) = (of.unwrap_or(0), name.unwrap_or(0));
        for row in &self.rows {
            writeln!(f, "{:of$}  {:name$}  {}", row.of, row.name, row.result)?;
        }
        self.rows
            .iter()
            .filter(|row| !row.output.is_empty())
            .try_for_each(|row| writeln!(f, "\n--- {}\n{}", row.of, row.output))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn output(code: i32, stdout: &str) -> Output {
        let status = ExitStatus::from_raw(code << 8);
        Output { status, stdout: stdout.into(), stderr: b"why\n".to_vec() }
    }

    #[test]
    fn a_row_is_a_fact_or_a_test() {
        let facts = "second TCP listener with SO_REUSEADDR: 10013\r\n\
                     second UDP socket with SO_REUSEADDR: 0\r\n";
        let mut report = Report { wine: "wine-8.0".into(), ..Report::default() };
        assert!(!report.passed(), "an empty report");
        report.add_facts(&output(0, facts));
        report.add_tests("sameport portable", &output(0, "test a::b ... ok\ntest c ... ok\n"));
        assert!(report.passed());
        assert_eq!(report.summary(), "wine-8.0: 4 rows passed");
        assert!(report.to_string().contains("10013, WSAEACCES"), "{report}");
        report.add_tests("x", &output(0, "test a ... FAILED\n"));
        assert!(!report.passed());
        assert!(report.to_string().contains("--- x\ntest a ... FAILED\nwhy\n"), "{report}");
    }

    #[test]
    fn a_crash_or_a_fact_that_changed_is_a_failure() {
        let mut report = Report::default();
        report.add_facts(&output(0, "second TCP listener with SO_REUSEADDR: 0\n"));
        assert!(report.to_string().contains("FAILED: 0, expected 10013"), "{report}");
        let mut report = Report::default();
        report.add_tests("x", &output(5, "test a ... ok\n"));
        assert!(!report.passed());
    }
}
