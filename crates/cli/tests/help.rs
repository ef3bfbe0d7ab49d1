//! Help, completions, manual pages, and the errors of wrong command lines.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

#[path = "help/hints.rs"]
mod hints;
#[path = "harness/relative_time.rs"]
mod relative_time;

const VERBS: &[&str] = &[
    "run",
    "status",
    "logs",
    "restart",
    "scale",
    "upgrade",
    "stop",
    "reexec",
    "install-service",
    "up",
    "down",
    "steer",
    "drain",
    "agent",
    "listen",
    "dial",
    "ls",
    "top",
    "metrics",
    "why",
    "audit",
    "attach",
    "detach",
    "guard",
    "preload",
    "doctor",
    "completions",
    "manual",
];

fn sameport<I: IntoIterator<Item = S>, S: Into<OsString>>(args: I) -> Output {
    let args = args.into_iter().map(Into::into);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sameport"));
    command.args(args).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn stdout_of(args: &[&str]) -> String {
    let output = sameport(args.iter().copied());
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The output of a program for this input. `None` if the program is not installed.
fn run_with_input(check: &str, program: &str, args: &[&str], input: &str) -> Option<Output> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    fs::write(&file, input).unwrap();
    let input = fs::File::open(file).unwrap();
    match Command::new(program).args(args).stdin(input).output() {
        Ok(output) => Some(output),
        // A directory in PATH that the user cannot enter hides its programs.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            sameport_skips::skip(check, &format!("no {program}"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn every_help_begins_with_examples() {
    assert!(stdout_of(&["--help"]).starts_with("Examples:\n  sameport "));
    for verb in VERBS {
        for flag in ["--help", "-h"] {
            let help = stdout_of(&[verb, flag]);
            let example = help.strip_prefix("Examples:\n").and_then(|rest| rest.lines().next());
            let example = example.unwrap_or_else(|| panic!("{verb} {flag}:\n{help}"));
            assert!(example.contains(&format!("sameport {verb}")), "{verb} {flag}:\n{help}");
            assert!(help.contains(&format!("\nUsage: sameport {verb}")), "{help}");
        }
    }
}

#[test]
fn help_lists_and_describes_every_verb() {
    let help = stdout_of(&["--help"]);
    let commands = help.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let listed = commands.expect("a list of commands").lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (line.starts_with("  ") && !line.starts_with("   ")).then(|| (words.next(), words.count()))
    });
    let listed: Vec<_> = listed.filter(|(verb, _)| *verb != Some("help")).collect();
    assert_eq!(listed.iter().filter_map(|(verb, _)| *verb).collect::<Vec<_>>(), VERBS);
    for (verb, words) in listed {
        assert!(words > 2, "{verb:?} does not say what it does:\n{help}");
    }
}

#[test]
fn completions_are_valid_and_know_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout_of(&["completions", shell]);
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        // -n reads the script without running it; the other two shells have no such option.
        if let "bash" | "zsh" | "fish" = shell
            && let Some(output) =
                run_with_input(&format!("completions-{shell}"), shell, &["-n"], &script)
        {
            assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
        }
    }
}

#[test]
fn bash_completes_a_verb() {
    let script = stdout_of(&["completions", "bash"]);
    let ask = "COMP_WORDS=(sameport doc); COMP_CWORD=1; _sameport sameport doc sameport; \
               echo \"${COMPREPLY[@]}\"\n";
    if let Some(output) =
        run_with_input("completions-bash", "bash", &["--norc", "-s"], &format!("{script}\n{ask}"))
    {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "doctor\n", "{output:?}");
    }
}

#[test]
fn manual_has_a_page_for_every_verb_and_renders() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    assert_eq!(stdout_of(&["manual", "--out", out]), "");
    let names = VERBS.iter().map(|verb| format!("sameport-{verb}.1"));
    let mut expected: Vec<_> = names.chain(["sameport.1".to_owned()]).collect();
    expected.sort();
    let mut written: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, expected);

    for name in &written {
        let page = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(page.contains("\n.TH sameport"), "{name}:\n{page}");
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "SEE ALSO",
        ] {
            let begins = page.matches(&format!("\n.SH {section}\n")).count();
            assert_eq!(begins, 1, "{name}: {section}:\n{page}");
        }
        let see_also = page.split(".SH SEE ALSO\n").nth(1).unwrap();
        let others = see_also.lines().filter(|line| line.contains("fBsameport"));
        for other in others.map(|line| line.replace("\\fB", "").replace("\\-", "-")) {
            let file = other.split("\\fR(").next().unwrap().to_owned() + ".1";
            assert!(written.contains(&file) && file != *name, "{name}: {file}");
        }
        if let Some(output) =
            run_with_input("manual-groff", "groff", &["-man", "-Tutf8", "-ww"], &page)
        {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
            assert!(text.contains(name.trim_end_matches(".1")), "{name}:\n{text}");
        }
    }
    assert!(stdout_of(&["manual"]).contains("\n.TH sameport 1"));
}

#[test]
fn unwritable_manual_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let output = sameport(["manual".into(), "--out".into(), OsString::from(&missing)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: write ") && stderr.contains("missing/sameport.1"),
        "{stderr}"
    );
    assert!(!missing.exists());
}

/// Wrong command lines, each with the text that the message contains.
fn wrong_lines() -> Vec<(Vec<OsString>, &'static str)> {
    let line = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
    // The longest single argument of Linux has 128 KiB with its terminator. Nine of them exceed 1
    // MiB.
    let long = "x".repeat(131_071);
    let mut lines = vec![
        (line(&["--frobnicate"]), "--frobnicate"),
        (line(&["frobnicate"]), "frobnicate"),
        (line(&[""]), "''"),
        (line(&["doctr"]), "doctr"),
        (line(&["doctor", "--frobnicate"]), "--frobnicate"),
        (line(&["doctor", "8080"]), "8080"),
        (line(&["doctor", "--json=yes"]), "--json"),
        (line(&["doctor", "--json", "--json"]), "--json"),
        (line(&["completions"]), "SHELL"),
        (line(&["completions", "tcsh"]), "tcsh"),
        (line(&["completions", "bash", "zsh"]), "zsh"),
        (line(&["manual", "--out"]), "--out"),
        (line(&["manual", "a\nb\u{1b}[31m"]), "a"),
        (line(&[&long]), "xxx"),
        (vec![OsString::from(&long); 9], "xxx"),
        (line(&["doctor", &long]), "xxx"),
        (line(&["completions", &long]), "xxx"),
    ];
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        let bytes = || OsString::from_vec(vec![b'a', 0xff, 0xfe]);
        lines.push((vec![bytes()], ""));
        lines.push((vec!["doctor".into(), bytes()], ""));
        lines.push((vec!["completions".into(), bytes()], ""));
    }
    lines
}

#[test]
fn wrong_command_line_is_one_error_one_hint_and_exit_2() {
    // Builds without optimization are slow in comparing long words with the verbs.
    const FACTOR: u32 = 200;
    for (args, named) in wrong_lines() {
        let brief = |arg: &OsString| arg.to_string_lossy().chars().take(30).collect::<String>();
        let what = args.iter().map(brief).collect::<Vec<_>>().join(" ");
        let version = || assert!(sameport(["--version"]).status.success());
        let is_quick = relative_time::is_within_factor(version, FACTOR, || {
            let output = sameport(args.iter().cloned());
            let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
            assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
            assert!(output.stdout.is_empty(), "{what}");
            let lines: Vec<_> = stderr.lines().collect();
            assert_eq!(lines.len(), 2, "{what}: {stderr}");
            assert!(lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{stderr}");
            assert!(lines[0].contains(named), "{what}: {stderr}");
            assert!(stderr.len() < 600, "{what}: {} bytes", stderr.len());
        });
        assert!(is_quick, "{what}: always over {FACTOR} times as long as --version");
    }
}

#[test]
fn no_verb_shows_the_help_and_exits_2() {
    let output = sameport::<[&str; 0], &str>([]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && output.stderr.starts_with(b"Examples:\n"), "{output:?}");
}

/// Arguments are part of messages, and must not control the terminal.
#[test]
fn arguments_are_escaped_in_messages() {
    let evil = "a\u{1b}[31mb\rc";
    let lines: &[&[&str]] = &[
        &[evil],
        &["run", evil],
        &["run", "--", evil],
        &["run", "--map", evil, "--", "true"],
        &["run", "--user", evil, "--", "true"],
        &["run", "--directory", evil, "--", "true"],
        &["run", "--name", "a", "--log", "/no/a\u{1b}[31m", "--", "true"],
        &["status", evil],
        &["ls", evil],
        &["why", evil],
        &["guard", "80", "--allow", evil],
        &["attach", "--unit", evil],
        &["manual", "--out", evil],
        &["preload", "--out", "/no/a\u{1b}[31m"],
        &["dial", evil],
    ];
    for args in lines {
        let output = sameport(args.iter().copied());
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let is_control = |byte: &&u8| byte.is_ascii_control() && **byte != b'\n';
        assert_eq!(text.iter().find(is_control), None, "{args:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("1b"), "{args:?}: the escape is shown: {stderr}");
    }
}

#[test]
fn the_synopsis_has_values_and_dashes() {
    let dir = tempfile::tempdir().unwrap();
    stdout_of(&["manual", "--out", dir.path().to_str().unwrap()]);
    let synopsis = |verb: &str| {
        let page = fs::read_to_string(dir.path().join(format!("sameport-{verb}.1"))).unwrap();
        let line = page.split(".SH SYNOPSIS\n").nth(1).unwrap().lines().next().unwrap().to_owned();
        line.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-")
    };
    let restart = "sameport restart [--user USER] [--surge N] [--wait[=TIME]] [--now] [--no-wait] [--json] NAME";
    assert_eq!(synopsis("restart"), restart);
    assert_eq!(synopsis("detach"), "sameport detach {--unit NAME|--cgroup PATH|--all}");
    assert_eq!(synopsis("completions"), "sameport completions bash|elvish|fish|powershell|zsh");
    let guard = synopsis("guard");
    assert!(guard.starts_with("sameport guard {PORT|") && guard.contains("|--off-all"), "{guard}");
    assert_eq!(
        synopsis("upgrade"),
        "sameport upgrade [--user USER] [--canary N%] [--after TIME] [--directory DIR] [--env NAME=VALUE]... \
         [--json] [--promote] [--rollback] NAME [-- COMMAND ...]"
    );
    let run = synopsis("run");
    assert!(run.contains("[--via auto|seccomp|preload|cgroup]"), "{run}");
    assert!(run.contains("[-q|--quiet]") && run.ends_with(" -- COMMAND ..."), "{run}");
}

#[test]
fn the_manual_names_the_files_that_verbs_write() {
    let dir = tempfile::tempdir().unwrap();
    stdout_of(&["manual", "--out", dir.path().to_str().unwrap()]);
    let page = |verb: &str| {
        fs::read_to_string(dir.path().join(format!("sameport-{verb}.1")))
            .unwrap()
            .replace("\\-", "-")
    };
    assert!(page("guard").contains("/etc/sameport/guards.json"), "{}", page("guard"));
    for verb in ["attach", "detach"] {
        let files = page(verb);
        assert!(files.contains("UNIT.d/50-sameport-attach.conf"), "{files}");
        assert!(!files.contains("guards"), "{files}");
    }
}

#[test]
fn help_of_help_is_the_help() {
    let help = stdout_of(&["help"]);
    for line in [["help", "--help"], ["help", "-h"]] {
        assert_eq!(stdout_of(&line), help, "{line:?}");
    }
    assert_eq!(stdout_of(&["help", "ls", "--help"]), stdout_of(&["help", "ls"]));
    let output = sameport(["help", "ls", "8080"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(
        stderr,
        "error: unexpected argument 8080 found\nhint: `sameport help ls` shows the help\n"
    );
}
