//! The preload library, preloaded by hand: what it does, and what it leaves unchanged.
#![cfg(target_os = "linux")]

mod bindp;
mod calls;
#[path = "../harness/mod.rs"]
mod harness;
mod languages;
mod loadable;
mod object;
mod own_sockets;
mod reports;
mod traps;
mod under_run;
mod verb;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use harness::{Process, User, command_for, in_test_dir, spawn_process, start};

/// The library as `sameport preload` writes it, readable for every user.
fn library() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = in_test_dir("libsameport_preload.so");
        let arguments = [OsStr::new("preload"), OsStr::new("--out"), file.as_os_str()];
        let exited = start(User::Current, &arguments).wait();
        assert_eq!((exited.code, &*exited.stdout, &*exited.stderr), (0, "", ""), "{exited:?}");
        file
    });
    &FILE
}

/// Starts a program with the library and these variables.
fn preloaded<S: AsRef<OsStr>>(user: User, variables: &[(&str, &str)], command: &[S]) -> Process {
    let mut built = command_for(user, command[0].as_ref(), &command[1..]);
    built.env("LD_PRELOAD", library()).envs(variables.iter().copied());
    spawn_process(built)
}

/// The stdout of a program with the library and these variables. The program must exit with 0 and
/// an empty stderr.
#[track_caller]
fn stdout_of<S: AsRef<OsStr>>(user: User, variables: &[(&str, &str)], command: &[S]) -> String {
    let exited = preloaded(user, variables, command).wait();
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{variables:?}: {exited:?}");
    exited.stdout
}
