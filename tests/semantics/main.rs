//! The kernel's own rules about shared ports, as a table run against the kernel at hand.
//! docs/semantics.md says how to run it and how to read it.

mod arguments;
mod lies;

use std::process::ExitCode;

use arguments::Arguments;
use sameport_policy::kernel_rules as rows;
use sameport_policy::kernel_rules::model::{Proto, Row};
use sameport_policy::kernel_rules::{Line, TABLE, Verdict};
use sameport_sys::kernel_rules;
use sameport_sys::kernel_rules::Rights;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1).collect()) {
        Ok(arguments) => arguments,
        Err(unknown) => {
            eprintln!("error: unknown argument {unknown}");
            return ExitCode::from(2);
        }
    };
    let tests: Vec<Test> = all_tests().filter(|test| arguments.wants(&test.name)).collect();
    if arguments.list {
        for test in tests {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let rights = Rights::probe();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for test in tests {
        match test.outcome(&rights) {
            Outcome::Passed(text) => {
                passed += 1;
                println!("ok    {}: {text}", test.name);
            }
            Outcome::Failed(text) => {
                failed += 1;
                println!("FAIL  {}: {text}", test.name);
            }
            Outcome::Skipped(why) => {
                eprintln!("skipped: {}: {why}", test.name);
                if arguments.ci && !arguments.may_skip(&test.name) {
                    failed += 1;
                    println!("FAIL  {}: skipped, and not in tests/skips.txt", test.name);
                } else {
                    skipped += 1;
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A row run with one protocol; or a row that lies, which the runner must notice.
struct Test {
    name: String,
    row: &'static Row,
    proto: Proto,
    lies: bool,
}

enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
}

fn all_tests() -> impl Iterator<Item = Test> {
    let tests = |row: &'static Row, lies| {
        row.over.iter().map(move |&proto| Test {
            name: format!("{}{}", if lies { "lies/" } else { "" }, rows::name(row, proto)),
            row,
            proto,
            lies,
        })
    };
    let truths = TABLE.iter().copied().flatten().flat_map(move |row| tests(row, false));
    truths.chain(lies::ROWS.iter().flat_map(move |row| tests(row, true)))
}

impl Test {
    fn outcome(&self, rights: &Rights) -> Outcome {
        match (kernel_rules::run(rights, self.row, self.proto), self.lies) {
            (Verdict::Agrees(lines), false) => Outcome::Passed(brief(&lines)),
            (Verdict::Differs(lines), false) => {
                Outcome::Failed(format!("{}\n{}", self.row.shows, full(&lines)))
            }
            (Verdict::Differs(lines), true) if lines.len() == self.row.steps.len() => {
                Outcome::Passed(format!("noticed: {}", brief(&lines)))
            }
            (Verdict::Differs(lines) | Verdict::Agrees(lines), true) => {
                Outcome::Failed(format!("the runner believed a lie\n{}", full(&lines)))
            }
            (Verdict::Skipped(why), _) => Outcome::Skipped(why),
            (Verdict::Broken(why), _) => Outcome::Failed(why),
        }
    }
}

/// The steps that say something, on one line.
fn brief(lines: &[Line]) -> String {
    rows::telling(lines).map(tell).collect::<Vec<_>>().join("; ")
}

fn full(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("      {}", tell(line))).collect::<Vec<_>>().join("\n")
}

fn tell(line: &Line) -> String {
    format!("{}: expected {}, seen {}", line.step, line.expected, line.seen)
}
