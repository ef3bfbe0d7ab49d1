//! The harness of the end-to-end tests: the real binary, real programs, real sockets.
//!
//! Dropping a handle kills its process and all descendants, by pid. At the end of the executable, a
//! process that is left fails it. Every wait has a timeout. A
//! failed wait prints the whole output of the process.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of the harness")]

mod cgroup;
mod client;
pub(crate) mod footprint;
pub(crate) mod keeper;
pub(crate) mod load;
pub(crate) mod named_run;
mod patience;
mod ports;
mod programs;
pub(crate) mod relative_time;
pub(crate) mod service;
pub(crate) mod terminal;
pub(crate) mod traps;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

pub(crate) use cgroup::{Cgroup, cgroup2_mount, move_process, remove_cgroup, root_cgroup};
pub(crate) use client::{ask, ask_datagram, wait_until_answering};
pub(crate) use footprint::{Footprint, settled_footprint};
pub(crate) use patience::{Patience, SetAtEnd};
pub(crate) use ports::free_port;
pub(crate) use programs::{
    c_program, compiled_by, copy_of, executable, find_program, go_program, sameport, script,
};
pub(crate) use sameport_skips::skip;

/// The default limit of a wait, see [`Patience`].
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The timeout of a socket. Only a failed test reaches it.
pub(crate) const SOCKET_TIMEOUT: Duration = Duration::from_secs(200);

/// The user that runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// The user that runs the tests.
    Current,
    /// uid 65534, without capabilities. Needs root.
    Nobody,
}

impl User {
    /// Every user that the test process can become.
    pub(crate) fn all() -> &'static [User] {
        if is_root() { &[User::Current, User::Nobody] } else { &[User::Current] }
    }

    fn runtime_name(self) -> &'static str {
        match self {
            Self::Current => "xdg-runtime",
            Self::Nobody => "xdg-runtime-nobody",
        }
    }
}

/// The effective user of the tests.
pub(crate) fn own_uid() -> u32 {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    unsafe {
        libc::geteuid()
    }
}

pub(crate) fn is_root() -> bool {
    own_uid() == 0
}

/// A directory that every user can enter. The keeper removes it when this process ends.
static TEST_DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("sameport-test-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    keeper::start(dir.path());
    for user in User::all() {
        let runtime = dir.path().join(user.runtime_name());
        std::fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        chown_to(&runtime, *user);
    }
    dir
});

/// A path in the test directory.
pub(crate) fn in_test_dir(name: impl AsRef<Path>) -> PathBuf {
    TEST_DIR.path().join(name)
}

/// Changes the owner of a file or directory.
pub(crate) fn chown_to(path: &Path, user: User) {
    if user == User::Nobody {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
}

/// A process that a test started, and its output so far.
pub(crate) struct Process {
    child: Option<Child>,
    pid: u32,
    stdout: Arc<Mutex<Captured>>,
    stderr: Arc<Mutex<Captured>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// The exit code and the whole output of a process.
#[derive(Debug)]
pub(crate) struct Exited {
    /// 128 + n after signal n.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts `sameport` as this user.
pub(crate) fn start<S: AsRef<OsStr>>(user: User, arguments: &[S]) -> Process {
    start_command(user, sameport().as_os_str(), arguments)
}

/// The XDG_RUNTIME_DIR of this test executable for this user: what a run leaves there is removed with it.
pub(crate) fn runtime_dir(user: User) -> PathBuf {
    in_test_dir(user.runtime_name())
}

/// Starts a program as this user. The environment has only PATH, [`runtime_dir`], also for the output of runs, and the
/// mark of the tests.
pub(crate) fn start_command<P: AsRef<OsStr>, S: AsRef<OsStr>>(
    user: User,
    program: P,
    arguments: &[S],
) -> Process {
    spawn_process(command_for(user, program, arguments))
}

/// The command of [`start_command`], which a test can change.
pub(crate) fn command_for<P: AsRef<OsStr>, S: AsRef<OsStr>>(
    user: User,
    program: P,
    arguments: &[S],
) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("XDG_RUNTIME_DIR", runtime_dir(user))
        .env("LOGS_DIRECTORY", runtime_dir(user))
        .env(keeper::MARK, TEST_DIR.path())
        .current_dir(TEST_DIR.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if user == User::Nobody {
        command.uid(65534).gid(65534);
    }
    command
}

/// Starts a command. Collects only the streams that the command pipes.
pub(crate) fn spawn_process(mut command: Command) -> Process {
    let mut child = command.spawn().unwrap();
    let (stdout, stderr) = <(Arc<_>, Arc<_>)>::default();
    let readers = [
        child.stdout.take().map(|pipe| collect(pipe, Arc::clone(&stdout))),
        child.stderr.take().map(|pipe| collect(pipe, Arc::clone(&stderr))),
    ];
    let readers = readers.into_iter().flatten().collect();
    Process { pid: child.id(), child: Some(child), stdout, stderr, readers }
}

/// `sameport run ARGUMENTS -- COMMAND`.
pub(crate) fn start_run<S: AsRef<OsStr>>(user: User, arguments: &[&str], command: &[S]) -> Process {
    let all: Vec<OsString> = ["run"]
        .into_iter()
        .chain(arguments.iter().copied())
        .chain(["--"])
        .map(OsString::from)
        .chain(command.iter().map(|part| part.as_ref().to_owned()))
        .collect();
    start(user, &all)
}

/// The collected output of a stream.
#[derive(Default)]
struct Captured {
    lines: String,
    /// The incomplete last line, which no wait for a line sees.
    rest: Vec<u8>,
}

fn collect(
    mut from: impl std::io::Read + Send + 'static,
    into: Arc<Mutex<Captured>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            let length = match from.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            let mut captured = into.lock().unwrap();
            captured.rest.extend(&bytes[..length]);
            let full_text =
                captured.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = captured.rest.drain(..full_text).collect();
            captured.lines.push_str(&String::from_utf8_lossy(&lines));
        }
    })
}

/// All output, for a stream that no test waits for.
fn full_text(captured: &Mutex<Captured>) -> String {
    let captured = captured.lock().unwrap();
    captured.lines.clone() + &String::from_utf8_lossy(&captured.rest)
}

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.pid).unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().lines.clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().lines.clone()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits until stdout contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_stdout(&self, text: &str) {
        self.wait_for(text, Self::stdout);
    }

    /// Waits until stderr contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        self.wait_for(text, Self::stderr);
    }

    #[track_caller]
    fn wait_for(&self, text: &str, stream: fn(&Self) -> String) {
        let mut patience = Patience::new(TIMEOUT);
        while !stream(self).contains(text) {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            patience.restart_on(stdout.len() + stderr.len());
            assert!(!patience.is_over(), "no {text:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Waits for the exit.
    #[track_caller]
    pub(crate) fn wait(self) -> Exited {
        self.wait_within(TIMEOUT)
    }

    /// Waits for the exit with this limit, which restarts on every line of output.
    pub(crate) fn wait_within(mut self, timeout: Duration) -> Exited {
        let mut child = self.child.take().unwrap();
        let mut patience = Patience::new(timeout);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                for reader in self.readers.drain(..) {
                    // Another process can keep the pipe open after the exit.
                    let patience = Patience::new(Duration::from_secs(2));
                    while !reader.is_finished() && !patience.is_over() {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
                return Exited {
                    code,
                    stdout: full_text(&self.stdout),
                    stderr: full_text(&self.stderr),
                };
            }
            let (stdout, stderr) = (self.stdout(), self.stderr());
            patience.restart_on(stdout.len() + stderr.len());
            if patience.is_over() {
                self.child = Some(child);
                panic!("did not end\nstdout:\n{stdout}\nstderr:\n{stderr}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM and waits for the exit.
    #[track_caller]
    pub(crate) fn terminate(self) -> Exited {
        self.signal(libc::SIGTERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // A master starts a new worker when one exits, so all processes stop before the first is
        // killed.
        if matches!(child.try_wait(), Ok(None)) {
            kill(self.pid(), libc::SIGSTOP);
        }
        let mut stopped = vec![];
        for _ in 0..100 {
            let found = descendants(self.pid()).into_iter();
            let new: Vec<_> = found.filter(|pid| !stopped.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            new.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
            stopped.extend(new);
        }
        stopped.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a signal to a process that this test has started.
pub(crate) fn kill(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: kill(2) takes two numbers. ESRCH of an exited process does not matter.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    unsafe {
        libc::kill(pid, signal)
    };
}

/// All descendants of a process.
pub(crate) fn descendants(of: i32) -> Vec<i32> {
    let mut found = vec![];
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let is_child = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
                == Some(parent);
            if is_child {
                found.push(pid);
                next.push(pid);
            }
        }
    }
    found
}

/// Calls `attempt` until it returns a value. `None` after [`TIMEOUT`].
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let patience = Patience::new(TIMEOUT);
    loop {
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        if patience.is_over() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
