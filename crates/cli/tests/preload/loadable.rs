//! Predicts which programs can load the library, and compares by starting them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sameport_sys::preload::{Loadable, Obstacle, check_program};
use sameport_sys::process::FileCapability;

use crate::harness::{
    User, c_program, command_for, compiled_by, find_program, free_port, go_program, in_test_dir,
    is_root, skip, spawn_process, start_command,
};
use crate::preloaded;

fn obstacle(program: &Path) -> Option<Obstacle> {
    match check_program(program, Some(OsStr::new("/usr/bin:/bin"))) {
        Loadable::Yes => None,
        Loadable::No { file, obstacle } => {
            assert_eq!(file, program);
            Some(obstacle)
        }
        Loadable::CouldNotTell { file, doubt } => panic!("{}: {doubt:?}", file.display()),
    }
}

#[test]
fn static_programs_are_detected() {
    let mut programs = vec![
        (c_program("preload_calls", &[]), None),
        (c_program("preload_calls", &["-no-pie"]), None),
        (c_program("preload_calls", &["-static"]), Some(Obstacle::Static)),
        (c_program("preload_calls", &["-static-pie"]), Some(Obstacle::Static)),
    ];
    if find_program("musl-gcc").is_some() {
        let musl = |flags: &[&str]| compiled_by("musl-gcc", "preload_calls", flags);
        programs.push((musl(&["-Dstrerrorname_np=strerror"]), None));
        let flags = ["-Dstrerrorname_np=strerror", "-static"];
        programs.push((musl(&flags), Some(Obstacle::Static)));
    } else {
        skip("preload-musl", "no musl-gcc");
    }
    for (program, expected) in programs {
        assert_eq!(obstacle(&program), expected, "{}", program.display());
        let port = free_port().to_string();
        let command = [program.to_str().unwrap(), "bind", "tcp", "127.0.0.1", &port];
        let exited = preloaded(User::Current, &[("SAMEPORT_SHARE", "1")], &command).wait();
        let is_shared = exited.stdout.contains(" port=1 ");
        assert_eq!(is_shared, expected.is_none(), "{}: {exited:?}", program.display());
    }
}

#[test]
fn go_programs_are_detected() {
    if find_program("go").is_none() {
        return skip("preload-go", "no go");
    }
    // Static programs, and the Go tools, which are dynamic on some systems.
    let obstacle = obstacle(&go_program("serve"));
    assert!(matches!(obstacle, Some(Obstacle::Static | Obstacle::Go)), "{obstacle:?}");
}

#[test]
fn privileged_programs_are_detected() {
    if !is_root() {
        return skip("preload-privileges", "needs root");
    }
    let copy: PathBuf = in_test_dir("preload-set-user-id");
    let program = c_program("preload_calls", &[]);
    let commands: [&[&str]; 3] = [
        &["cp", program.to_str().unwrap(), copy.to_str().unwrap()],
        &["chown", "65533", copy.to_str().unwrap()],
        &["chmod", "4755", copy.to_str().unwrap()],
    ];
    for command in commands {
        assert_eq!(start_command(User::Current, command[0], &command[1..]).wait().code, 0);
    }
    assert_eq!(obstacle(&copy), Some(Obstacle::GainsPrivilege(FileCapability::UserId)));
    let port = free_port().to_string();
    let command = [copy.to_str().unwrap(), "bind", "tcp", "127.0.0.1", &port];
    for user in User::all() {
        let exited = preloaded(*user, &[("SAMEPORT_SHARE", "1")], &command).wait();
        assert!(exited.stdout.contains(" port=0 "), "{exited:?}");
    }
}

/// Without `run`, only the dynamic linker reports the missing file, and the program runs.
#[test]
fn dynamic_linker_reports_a_missing_library() {
    let port = free_port().to_string();
    let calls = c_program("preload_calls", &[]);
    let mut command = command_for(User::Current, &calls, &["bind", "tcp", "127.0.0.1", &*port]);
    command.env("LD_PRELOAD", in_test_dir("gone.so")).env("SAMEPORT_SHARE", "1");
    let exited = spawn_process(command).wait();
    assert!(exited.stderr.contains("gone.so") && exited.stdout.contains(" port=0 "), "{exited:?}");
}
