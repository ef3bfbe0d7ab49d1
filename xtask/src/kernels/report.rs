//! The report: a table as text and as Markdown, and everything as JSON.

use serde::{Deserialize, Serialize};

use super::judge::Finding;
use super::record::Record;

/// What one kernel did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelResult {
    /// `uname -r`
    pub(crate) release: String,
    /// The package and its version.
    pub(crate) package: String,
    /// Seconds of each boot, with its steps.
    pub(crate) boots: Vec<(String, u64)>,
    /// Follow from the records.
    #[serde(skip_deserializing)]
    pub(crate) findings: Vec<Finding>,
    pub(crate) records: Vec<Record>,
}

impl KernelResult {
    pub(crate) fn agrees(&self) -> bool {
        self.findings.iter().all(|finding| finding.agrees)
    }

    fn finding(&self, check: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }

    fn duration(&self) -> String {
        let boots: Vec<_> = self.boots.iter().map(|(name, s)| format!("{name} {s} s")).collect();
        boots.join(", ")
    }
}

/// The checks of any of the kernels, in order.
fn checks(kernels: &[KernelResult]) -> Vec<&str> {
    let mut checks: Vec<&str> = Vec::new();
    for finding in kernels.iter().flat_map(|kernel| &kernel.findings) {
        if !checks.contains(&finding.check) {
            checks.push(finding.check);
        }
    }
    checks
}

/// For each check a line with what each kernel did. A difference has the expected beside it.
pub(crate) fn text(kernels: &[KernelResult]) -> String {
    let mut lines = Vec::new();
    for kernel in kernels {
        lines.push(format!("{}: {} ({})", kernel.release, kernel.duration(), kernel.package));
    }
    for check in checks(kernels) {
        lines.push(String::new());
        lines.push(check.to_owned());
        for kernel in kernels {
            let Some(finding) = kernel.finding(check) else { continue };
            let verdict = if finding.agrees { "ok  " } else { "DIFF" };
            lines.push(format!("  {verdict} {}: {}", kernel.release, finding.got));
            if !finding.agrees {
                lines.push(format!("       expected: {}", finding.expected));
            }
        }
    }
    let all = kernels.iter().flat_map(|kernel| &kernel.findings);
    let (same, different): (Vec<_>, Vec<_>) = all.partition(|finding| finding.agrees);
    lines.push(String::new());
    lines.push(format!("{} as expected, {} not", same.len(), different.len()));
    lines.join("\n")
}

pub(crate) fn json(kernels: &[KernelResult]) -> String {
    serde_json::to_string_pretty(kernels).expect("strings and numbers are JSON")
}

/// A table with a row for each check and a column for each kernel.
pub(crate) fn markdown(kernels: &[KernelResult]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut head = vec!["check".to_owned()];
    head.extend(kernels.iter().map(|kernel| format!("Linux {}", kernel.release)));
    let mut lines = vec![row(head), format!("|{}", "---|".repeat(kernels.len() + 1))];
    for check in checks(kernels) {
        let mut cells = vec![cell(check)];
        cells.extend(kernels.iter().map(|kernel| match kernel.finding(check) {
            Some(finding) if finding.agrees => cell(&finding.got),
            Some(finding) => format!("**{}**", cell(&finding.got)),
            None => "–".to_owned(),
        }));
        lines.push(row(cells));
    }
    let mut cells = vec!["time with emulation".to_owned()];
    cells.extend(kernels.iter().map(KernelResult::duration));
    lines.push(row(cells));
    lines.join("\n")
}

const BEGIN: &str = "<!-- written by cargo xtask kernels --docs -->\n";
const END: &str = "<!-- end -->";

/// The document with this table between its two marks. None: it has no marks.
pub(crate) fn with_table(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, table, "\n", END, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<KernelResult> {
        let finding = |check, got: &str, agrees| Finding {
            check,
            got: got.to_owned(),
            expected: "2 answer".to_owned(),
            agrees,
        };
        let kernel = |release: &str, findings| KernelResult {
            release: release.to_owned(),
            package: format!("linux-image-{release}_1"),
            boots: vec![("first".to_owned(), 90), ("second".to_owned(), 20)],
            findings,
            records: Vec::new(),
        };
        vec![
            kernel("6.1.0", vec![finding("run", "2 answer", true)]),
            kernel("6.12.1", vec![finding("run", "1 answers", false), finding("ls", "a|b", true)]),
        ]
    }

    #[test]
    fn the_text_has_the_expected_only_beside_a_difference() {
        let expected = "\
6.1.0: first 90 s, second 20 s (linux-image-6.1.0_1)
6.12.1: first 90 s, second 20 s (linux-image-6.12.1_1)

run
  ok   6.1.0: 2 answer
  DIFF 6.12.1: 1 answers
       expected: 2 answer

ls
  ok   6.12.1: a|b

2 as expected, 1 not";
        assert_eq!(text(&results()), expected);
        let agrees: Vec<_> = results().iter().map(KernelResult::agrees).collect();
        assert_eq!(agrees, [true, false]);
    }

    #[test]
    fn the_table_replaces_what_is_between_the_marks() {
        let table = markdown(&results());
        let expected = "\
| check | Linux 6.1.0 | Linux 6.12.1 |
|---|---|---|
| run | 2 answer | **1 answers** |
| ls | – | a\\|b |
| time with emulation | first 90 s, second 20 s | first 90 s, second 20 s |";
        assert_eq!(table, expected);
        let document = format!("before\n{BEGIN}an old table\n{END}\nafter\n");
        let new = with_table(&document, &table).unwrap();
        assert_eq!(new, format!("before\n{BEGIN}{expected}\n{END}\nafter\n"));
        assert_eq!(with_table(&new, &table), Some(new.clone()));
        assert_eq!(with_table("no marks", &table), None);
    }

    #[test]
    fn json_has_every_kernel_and_finding() {
        let value: serde_json::Value = serde_json::from_str(&json(&results())).unwrap();
        assert_eq!(value[1]["findings"][0]["got"], "1 answers");
        assert_eq!(value[0]["boots"][0][1], 90);
        let again: Vec<KernelResult> = serde_json::from_str(&json(&results())).unwrap();
        assert_eq!((again[1].release.as_str(), again[1].findings.len()), ("6.12.1", 0));
    }
}
