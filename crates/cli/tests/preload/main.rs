//! The preload library: what it does when a user preloads it by hand, and what it must not disturb.
#![cfg(target_os = "linux")]

mod bindp;
mod calls;
mod languages;
mod loadable;
mod object;
mod reports;
#[path = "../stage/mod.rs"]
mod stage;
mod traps;
mod under_run;
mod verb;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use stage::{Started, User, command_for, in_folder, start, start_built};

/// The library as a user gets it, where every user may read it.
fn library() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = in_folder("libsameport_preload.so");
        let arguments = [OsStr::new("preload"), OsStr::new("--out"), file.as_os_str()];
        let ended = start(User::Ourselves, &arguments).ended();
        assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (0, "", ""), "{ended:?}");
        file
    });
    &FILE
}

/// Starts a program with the library and these variables.
fn preloaded<S: AsRef<OsStr>>(user: User, variables: &[(&str, &str)], command: &[S]) -> Started {
    let mut built = command_for(user, command[0].as_ref(), &command[1..]);
    built.env("LD_PRELOAD", library()).envs(variables.iter().copied());
    start_built(built)
}

/// What a program of ours says with the library and these variables: it ends with 0, and stderr is
/// empty.
#[track_caller]
fn said<S: AsRef<OsStr>>(user: User, variables: &[(&str, &str)], command: &[S]) -> String {
    let ended = preloaded(user, variables, command).ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{variables:?}: {ended:?}");
    ended.stdout
}
