//! The kernel's rules for sockets that share a port, as a table that runs against this kernel: one test
//! a row. Root runs the rows of one user a second time, as an ordinary user. docs/semantics.md describes
//! how to run and read the table.

mod arguments;
mod dsl;
mod model;
#[path = "../netns/mod.rs"]
mod netns;
mod report;
mod runner;
mod table;
mod wrong_rows;

use std::collections::HashSet;
use std::process::ExitCode;

use arguments::Arguments;
use model::{Proto, Row};
use report::{StepReport, Verdict};
use runner::Rights;
use table::TABLE;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1).collect()) {
        Ok(arguments) => arguments,
        Err(unknown) => {
            eprintln!("error: unknown argument {unknown}");
            return ExitCode::from(2);
        }
    };
    let is_root = rustix::process::geteuid().as_raw() == model::ROOT;
    let selected = |test: &Test| arguments.selects(&test.name);
    let tests: Vec<Test> = all_tests().filter(selected).collect();
    let tests_as_user: Vec<Test> =
        tests_as_user().filter(|test| is_root && selected(test)).collect();
    if arguments.list {
        for test in tests.iter().chain(&tests_as_user) {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    // Before this process gives up its rights.
    sameport_skips::open_record();
    let mut counts = Counts::default();
    if !tests.is_empty() {
        run_all(tests, &mut counts);
    }
    if !tests_as_user.is_empty() {
        match Rights::give_up_root() {
            Ok(()) => run_all(tests_as_user, &mut counts),
            Err(error) => {
                println!("FAIL  {AS_USER}: root cannot become another user: {error}");
                counts.failed += 1;
            }
        }
    }
    let Counts { passed, failed, skipped } = counts;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs the tests with the rights of this process, and prints a line for each.
fn run_all(tests: Vec<Test>, counts: &mut Counts) {
    let rights = Rights::probe();
    for Test { name, kind } in tests {
        match kind.run(&rights) {
            Outcome::Passed(text) => {
                counts.passed += 1;
                println!("ok    {name}: {text}");
            }
            Outcome::Failed(text) => {
                counts.failed += 1;
                println!("FAIL  {name}: {text}");
            }
            Outcome::Skipped(reason) => {
                if sameport_skips::record(&name, &reason) {
                    counts.skipped += 1;
                } else {
                    counts.failed += 1;
                    println!("FAIL  {name}: skipped, and not in tests/skips.txt");
                }
            }
        }
    }
}

struct Test {
    name: String,
    kind: Kind,
}

enum Kind {
    /// The kernel must behave as the row says.
    Row(&'static Row, Proto),
    /// The runner must report a difference in the last step of the row.
    WrongRow(&'static Row, Proto),
    /// A test of the runner itself, which panics on failure.
    Check(fn()),
    /// A test of what the process may do, which panics on failure.
    RightsCheck(fn(&Rights)),
}

enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
}

const CHECKS: &[(&str, fn())] = &[
    ("only-equal-answers-agree", report::checks::only_equal_answers_agree),
    ("releases-are-ordered", report::checks::releases_are_ordered_and_select_the_answer),
    ("shares-are-bounds", report::checks::shares_are_bounds),
    ("every-queued-connection-is-counted", report::checks::every_queued_connection_is_counted),
    ("row-that-needs-more-rights", runner::checks::a_row_that_needs_more_rights_is_skipped),
    (
        "last-segments-are-waited-for",
        runner::traffic_checks::the_last_segments_of_a_connection_are_waited_for,
    ),
    ("names-are-unique", names_are_unique),
];

fn all_tests() -> impl Iterator<Item = Test> {
    fn with_protocols(row: &'static Row) -> impl Iterator<Item = (&'static Row, Proto)> {
        row.protocols.iter().map(move |&proto| (row, proto))
    }
    let rows = TABLE.iter().copied().flatten().flat_map(with_protocols).map(|(row, proto)| Test {
        name: format!("{}/{}", proto.name(), row.name),
        kind: Kind::Row(row, proto),
    });
    let wrong = wrong_rows::ROWS.iter().flat_map(with_protocols).map(|(row, proto)| Test {
        name: format!("wrong/{}/{}", proto.name(), row.name),
        kind: Kind::WrongRow(row, proto),
    });
    let checks = CHECKS
        .iter()
        .map(|(name, check)| Test { name: format!("runner/{name}"), kind: Kind::Check(*check) });
    rows.chain(wrong).chain(checks)
}

/// The first part of the name of a test that root runs as another user.
const AS_USER: &str = "as-user";

/// The rows of one user, for root to run as another user, and the check that the other rows need root.
fn tests_as_user() -> impl Iterator<Item = Test> {
    let rows = all_tests()
        .filter(|test| matches!(test.kind, Kind::Row(row, _) if !runner::has_several_users(row)));
    let check = Test {
        name: "runner/rows-of-several-users".to_owned(),
        kind: Kind::RightsCheck(runner::checks::an_ordinary_user_has_no_other_users),
    };
    rows.chain([check]).map(|Test { name, kind }| Test { name: format!("{AS_USER}/{name}"), kind })
}

fn names_are_unique() {
    let names: Vec<_> = all_tests().chain(tests_as_user()).map(|test| test.name).collect();
    assert!(names.len() > 100, "{} tests", names.len());
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
}

impl Kind {
    fn run(&self, rights: &Rights) -> Outcome {
        match *self {
            Self::Row(row, proto) => match runner::run(rights, row, proto) {
                Verdict::Agrees(reports) => Outcome::Passed(report::summary(&reports)),
                Verdict::Differs(reports) => {
                    Outcome::Failed(format!("{}\n{}", row.rule, lines(&reports)))
                }
                Verdict::Skipped(reason) => Outcome::Skipped(reason),
                Verdict::Error(error) => Outcome::Failed(error),
            },
            Self::WrongRow(row, proto) => match runner::run(rights, row, proto) {
                Verdict::Differs(reports) if reports.len() == row.steps.len() => {
                    Outcome::Passed(format!("reported: {}", report::summary(&reports)))
                }
                Verdict::Differs(reports) | Verdict::Agrees(reports) => Outcome::Failed(format!(
                    "no difference reported in the last step\n{}",
                    lines(&reports)
                )),
                Verdict::Skipped(reason) => Outcome::Skipped(reason),
                Verdict::Error(error) => Outcome::Failed(error),
            },
            Self::Check(check) => checked(check),
            Self::RightsCheck(check) => {
                checked(std::panic::AssertUnwindSafe(move || check(rights)))
            }
        }
    }
}

fn checked(check: impl FnOnce() + std::panic::UnwindSafe) -> Outcome {
    match std::panic::catch_unwind(check) {
        Ok(()) => Outcome::Passed("passed".to_owned()),
        Err(_) => Outcome::Failed("panicked".to_owned()),
    }
}

fn lines(reports: &[StepReport]) -> String {
    reports.iter().map(|report| format!("      {report}")).collect::<Vec<_>>().join("\n")
}
