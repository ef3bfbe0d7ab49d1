//! Wrong command lines: one line that names the mistake, exit code 2, nothing started. Unusual but
//! valid arguments reach the program unchanged.
#![cfg(target_os = "linux")]

mod harness;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{
    Exited, User, command_for, executable, in_test_dir, sameport, spawn_process, start, start_run,
};

/// A file that the command would create.
fn marker_file() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let dir = in_test_dir("markers");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    dir.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string())
}

/// Asserts one `error:` line, at most one `hint:` line, and no other output.
#[track_caller]
fn assert_one_line(exited: &Exited, code: i32, named: &str) {
    assert_eq!((exited.code, exited.stdout.as_str()), (code, ""), "{exited:?}");
    let lines: Vec<&str> = exited.stderr.lines().collect();
    assert!(lines[0].starts_with("error: ") && lines[0].contains(named), "{named:?}: {exited:?}");
    assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "), "{exited:?}");
    assert!(lines.iter().all(|line| line.chars().count() < 400), "{exited:?}");
    assert!(!exited.stderr.contains("panicked"), "{exited:?}");
}

#[test]
fn wrong_listen_starts_nothing() {
    let cases: &[(&[&str], &str)] = &[
        (&["--listen", "8080"], "--name"),
        (&["--name", "web", "--listen", ":0"], "fixed port"),
        (&["--name", "web", "--listen", "localhost"], "localhost"),
        (&["--name", "web", "--listen", "::1:80"], "::1:80"),
        (&["--name", "web", "--listen", ""], "--listen"),
        (&["--name", "web", "--listen", "8080", "--no-hold"], "--no-hold"),
        (&["--name", "web", "--listen", "8080", "--listen", "*:8080"], "given twice"),
    ];
    for (options, named) in cases {
        let marker_file = marker_file();
        let exited =
            start_run(User::Current, options, &[OsStr::new("touch"), marker_file.as_os_str()])
                .wait();
        assert_eq!((exited.code, &*exited.stdout), (2, ""), "{options:?}: {exited:?}");
        assert!(exited.stderr.contains(named), "{options:?}: {exited:?}");
        assert!(!marker_file.exists(), "{options:?}");
    }
}

#[test]
fn wrong_each_starts_nothing() {
    let cases: &[(&[&str], &str)] = &[
        (&["--each", "0"], "0"),
        (&["--each", "65535", "-n", "2"], "above 65535"),
        (&["--each", "9229", "--each", "9229"], "given twice"),
        (&["--each", "9229", "--each", "9230", "-n", "2"], "the same port"),
        (&["--each", "9229", "--map", "9229=9300"], "--map 9229=9300"),
        (&["--each", "9229", "--via", "cgroup"], "--each"),
    ];
    for (options, named) in cases {
        let marker_file = marker_file();
        let command = [OsStr::new("touch"), marker_file.as_os_str()];
        assert_one_line(&start_run(User::Current, options, &command).wait(), 2, named);
        assert!(!marker_file.exists(), "{options:?}");
    }
}

#[test]
fn wrong_run_option_starts_nothing() {
    // Per case: the option, its value, and the text that the message contains.
    let cases: &[(&str, &str, &str)] = &[
        ("-n", "0", "0"),
        ("-n", "1025", "1025"),
        ("-n", "65537", "65537"),
        ("-n", "x", "x"),
        ("-n", "", "-n"),
        ("-n", "1.5", "1.5"),
        ("-n", "99999999999999999999", "99999999999999999999"),
        ("-n", "Auto", "or auto"),
        ("--user", "no-such-user", "no-such-user"),
        ("--user", "", "--user"),
        ("--user", "root:no-such-group", "no-such-group"),
        ("--user", "3999999999", "no group"),
        ("--directory", "/no/such/directory", "/no/such/directory"),
        ("--directory", "/dev/null", "Not a directory"),
        ("--env", "NAME", "NAME=VALUE"),
        ("--env", "=value", "NAME=VALUE"),
        ("--env", "LISTEN_FDS=1", "sameport sets this variable itself"),
        ("--port", "0", "0"),
        ("--port", "65536", "65536"),
        ("--port", "99999999999999999999", "99999999999999999999"),
        ("--port=-1", "", "-1"),
        ("--port", "1e3", "1e3"),
        ("--port", "0x50", "0x50"),
        ("--port", "+80", "+80"),
        ("--port", "080", "080"),
        ("--port", "80 ", "80 "),
        ("--port", " 80", " 80"),
        ("--port", "80,81", "80,81"),
        ("--port", "８０", "８０"),
        ("--port", "http", "http"),
        ("--port", "", "--port"),
        ("--port", "80\n", "80"),
        ("--group", "a b", "a b"),
        ("--group", "../web", "../web"),
        ("--group=-web", "", "--group"),
        ("--group=", "", "--group"),
        ("--group", "", "--group"),
        ("--join=yes", "", "--join"),
        ("--unknown", "", "--unknown"),
        ("--prot=80", "", "--prot"),
        ("-x", "", "-x"),
        ("--quiet=yes", "", "--quiet"),
    ];
    for user in User::all() {
        for (option, value, named) in cases {
            let marker_file = marker_file();
            let is_whole = value.is_empty() && *option != "-n" && *option != "--port";
            let options: &[&str] = if is_whole { &[option] } else { &[option, value] };
            let exited =
                start_run(*user, options, &[OsStr::new("touch"), marker_file.as_os_str()]).wait();
            assert_one_line(&exited, 2, named);
            assert!(!marker_file.exists(), "{option} {value}: started");
        }
    }
}

#[test]
fn command_without_dashes_is_not_started() {
    for words in [&["touch"][..], &["-n", "2", "touch"], &["-q", "touch"]] {
        let marker_file = marker_file();
        let all = [&["run"], words, &[marker_file.to_str().unwrap()]].concat();
        let exited = start(User::Current, &all).wait();
        assert_one_line(&exited, 2, "touch");
        assert!(exited.stderr.contains("`--`"), "the next step is not named: {exited:?}");
        assert!(!marker_file.exists(), "{words:?}: started");
    }
    for words in [&["run"][..], &["run", "--"], &["run", "-n", "2"], &["run", "-n", "2", "--"]] {
        assert_one_line(&start(User::Current, words).wait(), 2, "COMMAND");
    }
    assert_one_line(&start(User::Current, &["no-such-verb"]).wait(), 2, "no-such-verb");
    assert_one_line(&start(User::Current, &["run", "-n"]).wait(), 2, "-n");
    assert_one_line(&start(User::Current, &["run", "--port"]).wait(), 2, "--port");
}

#[test]
fn failed_exec_exits_with_126_or_127() {
    let dir = in_test_dir("").into_os_string();
    let file = in_test_dir("plain-file");
    std::fs::write(&file, "#!/bin/sh\necho started\n").unwrap();
    let cases: &[(&OsStr, i32)] = &[
        (OsStr::new("no-such-program"), 127),
        (OsStr::new("/no/such/folder/program"), 127),
        (OsStr::from_bytes(b"no-such-\xff\xfe"), 127),
        (&dir, 126),
        (file.as_os_str(), 126),
        (OsStr::new("/etc/hostname/below-a-file"), 126),
    ];
    for user in User::all() {
        for (command, code) in cases {
            for options in [&[][..], &["-n", "5"]] {
                let exited = start_run(*user, options, &[command]).wait();
                assert_one_line(&exited, *code, &command.to_string_lossy());
            }
        }
    }
}

/// A single argument has up to 128 KiB; a message does not.
#[test]
fn long_argument_is_shortened_in_the_message() {
    let long = "x".repeat(120_000);
    let unknown = format!("--{long}");
    assert_one_line(&start_run(User::Current, &[&unknown], &["true"]).wait(), 2, "xxx");
    assert_one_line(&start_run(User::Current, &["--port", &long], &["true"]).wait(), 2, "xxx");
    assert_one_line(&start_run(User::Current, &["-n", &long], &["true"]).wait(), 2, "xxx");
    assert_one_line(&start_run(User::Current, &[], &[&long]).wait(), 126, "xxx");
    assert_one_line(&start(User::Current, &[&long]).wait(), 2, "xxx");
}

#[test]
fn megabyte_of_arguments_arrives() {
    let command: Vec<String> = ["sh", "-c", "echo $# ${#1}", "sh"]
        .map(String::from)
        .into_iter()
        .chain((0..1024).map(|_| "a".repeat(1023)))
        .collect();
    for user in User::all() {
        let exited = start_run(*user, &[], &command).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (0, "1024 1023\n"), "{}", exited.stderr);
    }
}

/// The kernel accepts the arguments of `sameport`, but not those of the script, whose interpreter
/// makes them longer: E2BIG.
#[test]
fn arguments_too_long_for_the_command_exit_with_126() {
    let deep = in_test_dir("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    std::os::unix::fs::symlink("/bin/sh", deep.join("sh")).unwrap();
    let text = format!("#!{}/sh\necho started\n", deep.display());
    let script = executable("long-interpreter", &text);
    let run = |count: usize, rest: usize| {
        let mut all: Vec<OsString> = ["run", "--"].map(OsString::from).into();
        all.push(script.clone().into());
        all.extend((0..count).map(|_| OsString::from("a".repeat(8191))));
        all.push("a".repeat(rest).into());
        command_for(User::Current, sameport(), &all)
    };
    // The exact maximum that the kernel accepts for `sameport`.
    let fits = |size: usize| run(size / 8192, size % 8192).stdout(Stdio::null()).spawn();
    let (mut fitting, mut failing) = (0, 16 << 20);
    for _ in 0..24 {
        let middle = usize::midpoint(fitting, failing);
        match fits(middle) {
            Ok(mut child) => {
                child.wait().unwrap();
                fitting = middle;
            }
            Err(_) => failing = middle,
        }
    }
    let exited = spawn_process(run(fitting / 8192, fitting % 8192)).wait();
    assert_one_line(&exited, 126, &script.to_string_lossy());
    assert!(exited.stderr.contains("Argument list too long"), "{exited:?}");
}

#[test]
fn non_utf8_arguments_reach_the_program() {
    let odd: Vec<OsString> =
        [&b"\xff\xfe"[..], b"", b"--", b"-n", b"a b\n\t", b"\xe2\x82", "ü".as_bytes()]
            .map(|bytes| OsString::from_vec(bytes.to_vec()))
            .into();
    let script = "for word do printf '<%s>' \"$word\"; done";
    let command: Vec<OsString> = ["run", "--", "sh", "-c", script, "sh"]
        .map(OsString::from)
        .into_iter()
        .chain(odd)
        .collect();
    for user in User::all() {
        let output = command_for(*user, sameport(), &command).output().unwrap();
        let expected = b"<\xff\xfe><><--><-n><a b\n\t><\xe2\x82><\xc3\xbc>";
        assert_eq!(output.stdout, expected, "{user:?}: {output:?}");
        assert_eq!(output.status.code(), Some(0));
    }
    // As other arguments they are an error.
    let wrong = [
        OsStr::new("run"),
        OsStr::from_bytes(b"--port=\xff"),
        OsStr::new("--"),
        OsStr::new("true"),
    ];
    let exited = start(User::Current, &wrong).wait();
    assert_one_line(&exited, 2, "");
}

#[test]
fn closed_stdout_or_stderr_is_no_panic() {
    let full = || Stdio::from(std::fs::File::create("/dev/full").unwrap());
    for arguments in
        [&["--help"][..], &["run", "--help"], &["--version"], &["run"], &["run", "--", "true"]]
    {
        let mut command = command_for(User::Current, sameport(), arguments);
        command.stdout(full());
        let exited = spawn_process(command).wait();
        assert!(!exited.stderr.contains("panicked"), "{arguments:?}: {exited:?}");
        let mut command = command_for(User::Current, sameport(), arguments);
        command.stderr(full());
        let exited = spawn_process(command).wait();
        // 101 is a panic's exit code.
        assert!(exited.code < 4, "{arguments:?}: {exited:?}");
    }
    let closed = "exec >&- 2>&-; exec \"$0\" run -- touch \"$1\"";
    let marker_file = marker_file();
    let exited = harness::start_command(
        User::Current,
        "sh",
        &["-c", closed, path(sameport()), path(&marker_file)],
    )
    .wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(marker_file.exists());
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The same values are wrong for other verbs.
#[test]
fn wrong_arguments_of_other_verbs() {
    let cases: &[(&[&str], &str)] = &[
        (&["ls", "65536"], "65536"),
        (&["ls", "-1"], "-1"),
        (&["ls", "1e3"], "1e3"),
        (&["ls", "80 "], "80 "),
        (&["ls", "８０"], "８０"),
        (&["ls", "--unknown"], "--unknown"),
        (&["ls", "80", "81"], "81"),
        (&["doctor", "extra"], "extra"),
        (&["doctor", "--unknown"], "--unknown"),
        (&["listen"], "ADDR"),
        (&["listen", "65536"], "65536"),
        (&["dial"], "REMOTE"),
    ];
    for (words, named) in cases {
        assert_one_line(&start(User::Current, words).wait(), 2, named);
    }
}
