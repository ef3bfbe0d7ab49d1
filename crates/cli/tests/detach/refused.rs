//! A run that cannot start: the error and the exit code of the foreground, and nothing is left.

use std::ffi::OsStr;
use std::net::TcpListener;

use crate::background::{Background, assert_nothing_left, detach_command, drains};
use crate::harness::named_run::RunSetup;
use crate::harness::{User, command_for, executable, sameport, skip, spawn_process};

#[test]
fn errors_are_those_of_the_foreground() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = format!("127.0.0.1:{}", held.local_addr().unwrap().port());
    let plain = executable("not-executable", "text");
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let plain = plain.to_str().unwrap();
    let cases: [(&[&str], &[&str], i32); 9] = [
        (&[], &["no-such-program"], 127),
        (&[], &["/no/such/program"], 127),
        (&[], &[plain], 126),
        (&["--directory", "/no/such"], &["true"], 2),
        (&["--listen", &held], &["true"], 1),
        (&["--map", "80=192.0.2.1:8080"], &["true"], 3),
        (&["--private", "--via", "preload"], &["true"], 2),
        (&["--each", "65535", "-n", "2"], &["true"], 2),
        (&["--user", "no-such-user"], &["true"], 2),
    ];
    for user in User::all() {
        for (options, command, code) in cases {
            let setup = RunSetup::new(*user);
            let foreground = spawn_process(setup.run_command(options, command)).wait();
            let background = spawn_process(detach_command(&setup, options, command)).wait();
            assert_eq!(background.stderr, foreground.stderr, "{options:?} {command:?}");
            assert_eq!(background.code, foreground.code, "{options:?} {command:?}");
            assert_eq!(background.stdout, "", "{options:?} {command:?}");
            // As another user than root some are refused before.
            if *user == User::Current && crate::harness::is_root() {
                assert_eq!(background.code, code, "{options:?} {command:?}: {background:?}");
            }
            assert_nothing_left(&setup);
        }
    }
}

#[test]
fn a_name_in_use_is_refused() {
    let setup = RunSetup::new(User::Current);
    let (run, _) = Background::start(setup, &[], &[&*drains(), "{port}"]);
    run.ready(1);
    let options: [&[&str]; 2] = [&[], &["--wait"]];
    for options in options {
        let command = [&*drains(), "{port}"];
        let foreground = spawn_process(run.setup.run_command(&[], &command)).wait();
        let again = spawn_process(detach_command(&run.setup, options, &command)).wait();
        assert_eq!(again.code, 1, "{again:?}");
        assert_eq!(again.stderr, foreground.stderr);
        let in_use = format!("this name is in use by pid {}", run.pid);
        assert!(again.stderr.contains(&in_use), "{again:?}");
    }
    run.ready(1);
    run.stop();
}

/// Where the run would end with its caller, or leave the service manager.
#[test]
fn callers_that_a_run_cannot_leave() {
    let setup = RunSetup::new(User::Current);
    let plain = detach_command(&setup, &[], &["true"]);
    let mut notified = detach_command(&setup, &[], &["true"]);
    notified.env("NOTIFY_SOCKET", "/run/systemd/notify");
    let mut activated = command_for(
        User::Current,
        "/bin/sh",
        &["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run --name x --detach -- true"],
    );
    activated.arg(sameport());
    let unnamed = setup.command(&["run", "--detach", "--", "true"]);
    let alone = setup.command(&["run", "--name", "x", "--wait", "--", "true"]);
    for (command, error) in [
        (notified, "NOTIFY_SOCKET is set: the service manager keeps the run"),
        (activated, "the sockets of LISTEN_FDS are for this process"),
        (unnamed, "required arguments were not provided: --name <NAME>"),
        (alone, "required arguments were not provided: --detach"),
    ] {
        let refused = spawn_process(command).wait();
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(error), "{refused:?}");
        assert!(refused.stderr.contains("\nhint: "), "{refused:?}");
    }
    let words = std::iter::once(plain.get_program()).chain(plain.get_args());
    let words = ["--pid", "--fork", "--mount-proc"].map(OsStr::new).into_iter().chain(words);
    let words: Vec<_> = words.collect();
    let first = spawn_process(command_for(User::Current, "unshare", &words)).wait();
    if first.stderr.starts_with("unshare: ") {
        return skip("callers_that_a_run_cannot_leave", "no pid namespace");
    }
    assert_eq!(first.code, 2, "{first:?}");
    assert!(first.stderr.contains("pid 1 of a container"), "{first:?}");
    assert_nothing_left(&setup);
}
