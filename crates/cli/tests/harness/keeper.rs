//! The end of a test executable: nothing that it started keeps running, and its files are removed.
//!
//! A shell script, the keeper, is a process of its own, so that it also cleans up after SIGKILL and
//! Ctrl-C. At a normal exit, a process that is still running is a failure of the tests.
#![allow(unsafe_code, reason = "atexit and _exit have no safe wrapper")]

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::cgroup2_mount;

/// The environment variable that marks the processes of a test executable. sameport removes those that
/// begin with `SAMEPORT_` from programs.
pub(crate) const MARK: &str = "TEST_SAMEPORT_DIR";

static KEEPER: Mutex<Option<Child>> = Mutex::new(None);

/// Starts the keeper of this directory.
pub(super) fn start(dir: &Path) {
    let mut keeper = Command::new("/bin/sh")
        .args(["-c", include_str!("keeper.sh"), "keeper"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .current_dir("/")
        // Not in the group that Ctrl-C ends.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let cgroups = cgroup2_mount().filter(|_| super::is_root()).unwrap_or_default();
    let lines = format!("{}\n{}\n{}\n", dir.display(), std::process::id(), cgroups.display());
    keeper.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    *KEEPER.lock().unwrap() = Some(keeper);
    // Rust does not drop statics.
    // SAFETY: the function has the C ABI and does not unwind into the C library.
    unsafe { libc::atexit(at_exit) };
}

/// Waits for the keeper. Fails if tests have left processes.
extern "C" fn at_exit() {
    let Some(mut keeper) = KEEPER.lock().ok().and_then(|mut keeper| keeper.take()) else { return };
    let _ = keeper.stdin.take().map(|mut pipe| pipe.write_all(b"end\n"));
    let mut left = String::new();
    let _ = keeper.stdout.take().map(|mut pipe| pipe.read_to_string(&mut left));
    let _ = keeper.wait();
    if !left.is_empty() {
        let _ = writeln!(std::io::stderr(), "error: tests left processes running:\n{left}");
        // SAFETY: _exit(2) takes a number. exit(3) must not be called a second time.
        unsafe { libc::_exit(101) }
    }
}
