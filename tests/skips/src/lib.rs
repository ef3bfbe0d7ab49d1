//! Skipped tests: each one is recorded, and one line counts the skipped tests of a run.
//!
//! A run is what one process starts, such as one `cargo test`: every test executable of a workspace
//! has the same parent. Each skip is a line in a file that is named after that parent, below the
//! target directory. `xtask/tests/skipped_tests.rs`, the last test of a workspace, prints the line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The tests that CI may skip, one per line: `name: reason`.
const EXPECTED: &str = include_str!("../../skips.txt");

/// Prints and records that the test `name`, or a part of a test, does not run.
///
/// # Panics
///
/// In CI (`CI=true`), unless `tests/skips.txt` lists the name. Without a record in the target
/// directory, because the closing line would count too few.
#[track_caller]
pub fn skip(name: &str, reason: &str) {
    let allowed = record(name, reason);
    assert!(allowed, "{name} is skipped in CI: {reason}");
}

/// As [`skip`]. Returns false instead of a panic in CI.
///
/// # Panics
///
/// Without a record in the target directory.
#[track_caller]
#[must_use]
pub fn record(name: &str, reason: &str) -> bool {
    // Not `eprintln`, which the test harness captures.
    let _ = writeln!(io::stderr(), "skipped: {name}: {reason}");
    let Record { executable, file } = open_record();
    let line = format!("{executable} {}\t{name}\t{reason}\n", test(name));
    // One `write`, so that lines of parallel tests do not mix.
    let recorded = (&*file).write_all(line.as_bytes());
    assert!(recorded.is_ok(), "the record of skipped tests: {recorded:?}");
    is_expected(name) || std::env::var_os("CI").map_or(true, |ci| ci != "true")
}

fn is_expected(name: &str) -> bool {
    EXPECTED.lines().any(|line| line.split_once(':').is_some_and(|(listed, _)| listed == name))
}

/// The record of this run, and the name of this executable.
#[derive(Debug)]
pub struct Record {
    executable: String,
    file: File,
}

/// Opens the record, once. A process that changes its user calls this before: afterwards neither the
/// target directory nor `/proc/self/exe` need be readable.
///
/// # Panics
///
/// The record cannot be created in the target directory.
pub fn open_record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| {
        let path = run_file();
        let file = open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let executable = std::env::current_exe().unwrap_or_default();
        let executable = executable.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Record { executable, file }
    })
}

fn open(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    File::options().create(true).append(true).open(path)
}

/// The name of the running test. The main thread runs tests without libtest, which are named by
/// their caller.
fn test(name: &str) -> String {
    let thread = std::thread::current();
    thread.name().filter(|thread| *thread != "main").unwrap_or(name).to_owned()
}

/// The line about all tests that the parent of this process has started, and that were skipped.
/// Removes the record.
///
/// # Errors
///
/// The record exists and cannot be read.
pub fn closing_line() -> io::Result<String> {
    let path = run_file();
    let recorded = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        recorded => recorded?,
    };
    let _ = fs::remove_file(&path);
    remove_old_records(&path);
    Ok(line_of(&recorded))
}

/// Records of runs that were interrupted.
fn remove_old_records(own: &Path) {
    let records = own.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
    for record in records {
        let name = record.file_name();
        let name = name.to_string_lossy();
        let (pid, start) = name.split_once('-').unwrap_or_default();
        if pid.parse().ok().map_or(true, |pid| start_time(pid).as_deref() != Some(start)) {
            let _ = fs::remove_file(record.path());
        }
    }
}

/// Counts tests, not the skipped parts of one test. The reason is the text before a `,` or `:`,
/// because the rest differs from test to test.
fn line_of(recorded: &str) -> String {
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in recorded.lines() {
        let mut fields = line.splitn(3, '\t');
        let (test, _, reason) = (fields.next(), fields.next(), fields.next());
        let reason = reason.unwrap_or_default().split([',', ':']).next().unwrap_or_default();
        tests.entry(test.unwrap_or_default()).or_default().insert(reason);
    }
    if tests.is_empty() {
        return "skipped: no test".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in tests.values().flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let plural = if tests.len() == 1 { "" } else { "s" };
    let mut line = format!("skipped: {} test{plural}, wholly or in part: ", tests.len());
    for (number, (reason, count)) in counts.into_iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        let _ = write!(line, "{comma}{reason} ({count})");
    }
    line
}

/// The record of this run: `target/tmp/skipped-tests/PID-START`, of the parent process. A pid alone
/// can belong to another process later.
fn run_file() -> PathBuf {
    let parent = parent_process();
    let start = start_time(parent).unwrap_or_default();
    let executable = std::env::current_exe().unwrap_or_default();
    // target/PROFILE/deps/EXECUTABLE
    let target = executable.ancestors().nth(3).unwrap_or(Path::new("."));
    target.join("tmp/skipped-tests").join(format!("{parent}-{start}"))
}

#[cfg(unix)]
fn parent_process() -> u32 {
    std::os::unix::process::parent_id()
}

#[cfg(not(unix))]
fn parent_process() -> u32 {
    0
}

/// The 22nd field of proc_pid_stat(5). `None` where `/proc` is not Linux's, and of no process.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_tests_and_reasons() {
        let of = |lines: &[&str]| line_of(&lines.concat());
        assert_eq!(of(&[]), "skipped: no test");
        let one = "a t1\tpart-1\tneeds root\n";
        assert_eq!(of(&[one]), "skipped: 1 test, wholly or in part: needs root (1)");
        let second_part = "a t1\tpart-2\tneeds root, for two users\n";
        assert_eq!(of(&[one, second_part]), of(&[one]));
        let others = ["b t1\tx\tno python3\n", "b t2\ty\tneeds root: servers change their user\n"];
        assert_eq!(
            of(&[one, others[0], others[1]]),
            "skipped: 3 tests, wholly or in part: needs root (2), no python3 (1)"
        );
        let two_reasons = "a t1\tpart-3\tno go\n";
        assert_eq!(
            of(&[one, two_reasons]),
            "skipped: 1 test, wholly or in part: needs root (1), no go (1)"
        );
    }

    #[test]
    fn names_in_the_list_are_expected() {
        let listed = EXPECTED.lines().filter(|line| !line.starts_with('#'));
        let mut names = listed.filter_map(|line| line.split_once(':')).map(|(name, _)| name);
        assert!(names.all(is_expected));
        assert!(!is_expected("no-such-test") && !is_expected("#"));
    }

    #[test]
    fn a_run_has_the_record_of_its_parent() {
        let parent = parent_process();
        assert!(
            run_file().ends_with(format!("{parent}-{}", start_time(parent).unwrap_or_default()))
        );
        assert_ne!(start_time(std::process::id()), None);
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn records_of_earlier_runs_are_removed() {
        let dir = std::env::temp_dir().join(format!("sameport-skips-{}", std::process::id()));
        let own = std::process::id();
        let here = dir.join(format!("{own}-{}", start_time(own).unwrap_or_default()));
        let earlier = [dir.join(format!("{own}-1")), dir.join("4294967295-1"), dir.join("x")];
        for record in earlier.iter().chain([&here]) {
            open(record).unwrap().write_all(b"a\tb\tc\n").unwrap();
        }
        remove_old_records(&here);
        assert_eq!(fs::read_to_string(&here).unwrap(), "a\tb\tc\n");
        assert!(earlier.iter().all(|record| !record.exists()));
        fs::remove_dir_all(dir).unwrap();
    }
}
