//! `run --prefix` in the foreground.

use crate::harness::named_run::RunSetup;
use crate::harness::{User, start_run};

#[test]
fn lines_have_the_program_and_the_worker_in_front() {
    let script = "echo out; echo err >&2; printf half; exit 3";
    let exited = start_run(User::Current, &["--prefix", "-n", "2"], &["sh", "-c", script]).wait();
    assert_eq!(exited.code, 3, "{exited:?}");
    for worker in [1, 2] {
        let mark = format!("sh.{worker} ");
        let of_worker: Vec<&str> =
            exited.stdout.lines().filter_map(|line| line.strip_prefix(&mark)).collect();
        assert_eq!(of_worker, ["| out", "| err", "+ half"], "{exited:?}");
    }
    assert_eq!(exited.stdout.lines().count(), 6, "{exited:?}");
    assert!(!exited.stdout.contains('\x1b'));
}

#[test]
fn a_named_run_has_its_name_in_front_and_loses_nothing_at_its_end() {
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo $i; done; exit 1";
    let options = ["--prefix", "--max-restarts", "0"];
    let setup = RunSetup::new(User::Current);
    let mark = format!("{}.1 | ", setup.name);
    let exited = crate::harness::spawn_process(setup.run_command(&options, &["sh", "-c", script]));
    let exited = exited.wait();
    let numbers: Vec<&str> =
        exited.stdout.lines().filter_map(|line| line.strip_prefix(&mark)).collect();
    let expected: Vec<String> = (1..=5000).map(|it| it.to_string()).collect();
    assert_eq!(numbers, expected, "{}", exited.stderr);
    assert_eq!(exited.code, 1);
}

#[test]
fn without_the_option_output_is_the_programs_own() {
    let script = r"printf 'a\000b\n\033[1mc'";
    let exited = start_run(User::Current, &["-n", "1"], &["sh", "-c", script]).wait();
    assert_eq!(exited.stdout, "a\0b\n\x1b[1mc");
}
