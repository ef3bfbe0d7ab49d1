//! `sameport selftest`, the real binary: its rows, its filter, and what it says as another user.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const NOBODY: u32 = 65534;

fn selftest(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sameport"));
    command.arg("selftest").args(args).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn every_row_of_this_user_agrees_with_this_kernel() {
    let output = selftest(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (done, rows) = lines.split_last().unwrap();
    assert_eq!(done["event"], "done");
    assert_eq!(done["rows"], rows.len());
    assert!(done["ok"].as_u64().unwrap() > 30, "{done}");
    if is_root() {
        assert!(done["ok"].as_u64().unwrap() > 100, "{done}");
        let row = rows.iter().find(|row| row["name"] == "tcp/reserved-uid").unwrap();
        assert_eq!(row["verdict"], "ok", "{row}");
        assert_eq!(row["steps"][4]["seen"], "EADDRINUSE", "{row}");
    }
    for row in rows {
        assert!(["ok", "skipped"].contains(&row["verdict"].as_str().unwrap()), "{row}");
        assert_eq!(row["verdict"] == "skipped", row["why"].is_string(), "{row}");
    }
}

#[test]
fn a_part_of_a_name_chooses_rows_and_the_list_names_them() {
    let output = selftest(&["tcp/rp-rp", "udp/rp-rp"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = text(&output.stdout);
    let rows: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("ok ") || line.starts_with("skipped"))
        .collect();
    let listed = text(&selftest(&["--list", "tcp/rp-rp", "udp/rp-rp"]).stdout);
    assert_eq!(rows.len(), listed.lines().count(), "{told}\n{listed}");
    assert!(!rows.is_empty() && told.contains("expected some to each of AB, seen "), "{told}");
    assert!(told.contains(&format!("{} rows on Linux ", rows.len())), "{told}");
}

#[test]
fn what_is_no_part_of_a_name_is_a_wrong_command_line() {
    let output = selftest(&["tcp/rp-rp", "no\u{1b}such"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let error = text(&output.stderr);
    assert!(error.contains("no row has `no\\u{1b}such` in its name"), "{error}");
}

#[test]
fn another_user_runs_what_it_can_and_says_what_not() {
    if !is_root() {
        eprintln!(
            "skipped: another user: only root can be one; the other tests are run as this one"
        );
        return;
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("sameport");
    // By another process: what another test's child holds open for writing cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_sameport")).arg(&binary).status();
    assert!(copied.unwrap().success());
    let asked = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("selftest").args(args).env_clear().stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap()
    };
    let output = asked(&["reserved-uid", "rp-rp"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = text(&output.stdout);
    assert!(told.contains("skipped  tcp/reserved-uid: "), "{told}");
    assert!(
        told.contains("\n         needs root\n") && told.contains("ok       tcp/rp-rp: "),
        "{told}"
    );
    assert!(told.contains(" skipped: needs root\n"), "{told}");
    // Nothing to compare is not the same as no difference.
    assert_eq!(asked(&["reserved-uid"]).status.code(), Some(3));
}
