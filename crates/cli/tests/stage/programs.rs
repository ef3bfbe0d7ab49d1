//! Programs for the stage: found on this machine, or built from `tests/programs`.
//!
//! Files that get executed are written by processes of their own (`cp`, `cc`, `go`), never by the
//! test: while it has one open for writing, a child that another test is about to start has it open
//! too, and executing it fails with ETXTBSY.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::in_folder;

/// The binary under test, where every user may execute it.
pub(crate) fn sameport() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let (binary, copy) = (env!("CARGO_BIN_EXE_sameport"), in_folder("sameport"));
        if std::fs::hard_link(binary, &copy).is_ok() {
            return copy;
        }
        made(copy, |copy| {
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

/// Compiles `tests/programs/NAME.c` with `cc`, or another one (`musl-gcc`).
pub(crate) fn compiled_by(compiler: &str, name: &str, flags: &[&str]) -> PathBuf {
    let libc = compiler.strip_suffix("-gcc").map(|libc| format!("-{libc}")).unwrap_or_default();
    let target = in_folder(format!("{name}{}{libc}.bin", flags.concat()));
    made(target, |target| {
        let mut command = Command::new(compiler);
        command
            .args(["-std=gnu11", "-O1", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(target)
            .arg(source(&format!("{name}.c")))
            .args(flags);
        command
    })
}

/// Builds `tests/programs/NAME.go` without cgo: a static program that calls no libc.
pub(crate) fn go_program(name: &str) -> PathBuf {
    made(in_folder(name), |target| {
        let mut command = Command::new("go");
        command
            .env("CGO_ENABLED", "0")
            .args([OsStr::new("build"), OsStr::new("-o"), target.as_os_str()])
            .arg(source(&format!("{name}.go")));
        command
    })
}

/// A copy of `tests/programs/NAME` that every user may read.
pub(crate) fn script(name: &str) -> PathBuf {
    made(in_folder(name), |target| {
        let mut command = Command::new("cp");
        command.arg(source(name)).arg(target);
        command
    })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// Has a command make this file, once.
fn made(target: PathBuf, by: impl FnOnce(&Path) -> Command) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !target.exists() {
        let mut command = by(&target);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
    }
    target
}

/// The program of this name in the system's own folders (a home directory's are closed to other
/// users), or else in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
