//! Programs for tests: found on this machine, or built from `tests/programs`.
//!
//! Other processes (`cp`, `cc`, `go`) write the executables. If the test process wrote one, a child
//! that another test forks would inherit the open descriptor, and execve(2) would fail with
//! ETXTBSY.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::in_test_dir;

/// A path to the binary under test that every user can execute: the one of this build, or that of
/// SAMEPORT_UNDER_TEST, for example an earlier version.
pub(crate) fn sameport() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let binary = std::env::var_os("SAMEPORT_UNDER_TEST")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_sameport")), PathBuf::from);
        let copy = in_test_dir("sameport");
        if std::fs::hard_link(&binary, &copy).is_ok() {
            return copy;
        }
        create_once(copy, |copy| {
            let mut command = Command::new("cp");
            command.arg(binary).arg(copy);
            command
        })
    });
    &COPY
}

/// Compiles `tests/programs/NAME.c` with the system's compiler.
pub(crate) fn c_program(name: &str, flags: &[&str]) -> PathBuf {
    compiled_by("cc", name, flags)
}

/// Compiles `tests/programs/NAME.c` with `cc` or `musl-gcc`, or `NAME.cpp` with `g++`.
pub(crate) fn compiled_by(compiler: &str, name: &str, flags: &[&str]) -> PathBuf {
    let (ending, standard) = match compiler {
        "g++" => ("cpp", "-std=gnu++17"),
        _ => ("c", "-std=gnu11"),
    };
    let other = if compiler == "cc" { String::new() } else { format!("-{compiler}") };
    let target = in_test_dir(format!("{name}{}{other}.bin", flags.concat()));
    create_once(target, |target| {
        let mut command = Command::new(compiler);
        command
            .args([standard, "-O1", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(target)
            .arg(source(&format!("{name}.{ending}")))
            .args(flags);
        command
    })
}

/// Builds `tests/programs/NAME.go` without cgo: a static program without libc.
pub(crate) fn go_program(name: &str) -> PathBuf {
    create_once(in_test_dir(name), |target| {
        let mut command = Command::new("go");
        // Go finds the directory of its build cache by these variables.
        if ["GOCACHE", "XDG_CACHE_HOME", "HOME"].map(std::env::var_os) == [const { None }; 3] {
            command.env("GOCACHE", in_test_dir("go-cache"));
        }
        command
            .env("CGO_ENABLED", "0")
            .args([OsStr::new("build"), OsStr::new("-o"), target.as_os_str()])
            .arg(source(&format!("{name}.go")));
        command
    })
}

/// A copy of `tests/programs/NAME` that every user can read.
pub(crate) fn script(name: &str) -> PathBuf {
    create_once(in_test_dir(name), |target| {
        let mut command = Command::new("cp");
        command.arg(source(name)).arg(target);
        command
    })
}

/// A script that every user can execute.
pub(crate) fn executable(name: &str, text: &str) -> PathBuf {
    create_once(in_test_dir(name), |target| {
        let mut command = Command::new("/bin/sh");
        let write = "printf %s \"$1\" > \"$0\" && chmod 0755 \"$0\"";
        command.args(["-c", write]).arg(target).arg(text);
        command
    })
}

/// A copy of a system program that every user can execute.
pub(crate) fn copy_of(program: &str, name: &str) -> PathBuf {
    let program = find_program(program).unwrap_or_else(|| panic!("{program} is needed"));
    create_once(in_test_dir(name), |target| {
        let mut command = Command::new("install");
        command.args(["-m", "0755"]).arg(program).arg(target);
        command
    })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// Creates a file by a command, once.
fn create_once(target: PathBuf, command: impl FnOnce(&Path) -> Command) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if !target.exists() {
        let mut command = command(&target);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
    }
    target
}

/// Looks in the system directories first, because other users cannot enter a home directory, then
/// in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
