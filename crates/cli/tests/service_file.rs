//! `sameport up --check`: a file of services as a user sees it, right and wrong.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn check(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sameport.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_sameport"))
        .args(["up", "--check"])
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

#[test]
fn a_right_file_is_printed_as_command_lines() {
    let output =
        check("[web]\ncommand = \"exec sleep 60\"\nworkers = 2\nenv = { TOKEN = \"secret\" }\n");
    let (text, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{error}");
    let begins = "sameport run --name web --env TOKEN -n 2 --directory /";
    assert!(text.starts_with(begins) && text.ends_with(" -- sh -c 'exec sleep 60'\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn every_mistake_is_a_line_and_a_hint() {
    let output = check("[web]\ncomand = \"x\"\nworkers = \"four\"\n");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        error,
        "error: sameport.toml:1:2: web has no command\n\
         hint: add command = [\"PROGRAM\", \"ARGUMENT\"], or a string for sh -c\n\
         error: sameport.toml:2:1: web has no key \"comand\"\n\
         hint: the nearest key is command\n\
         error: sameport.toml:3:11: workers must be a number from 1 to 1024 or \"auto\", not \"four\"\n\
         hint: for example workers = 4\n"
    );
    // What contradicts itself as options of `run` does so as keys.
    let output = check("[web]\ncommand = [\"sleep\", \"60\"]\nprivate = true\njoin = true\n");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("error: sameport.toml:1: web: ") && error.contains("--join"),
        "{error}"
    );
}
