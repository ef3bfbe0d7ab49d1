//! A machine whose pid 1 is the real systemd, in namespaces of its own. It starts in about a second.
//!
//! ```ignore
//! let units = [("web.service", "[Service]\nType=notify\nExecStart=/usr/bin/sameport run …\n")];
//! let Some(machine) = Systemd::start("the name of the test", &units) else { return };
//! machine.systemctl("start web");                          // must succeed, and returns the output
//! let tried = machine.run("systemctl start bad");          // may fail
//! machine.shell("ss -ltn | grep 8080");                    // sh -c, must succeed
//! assert_eq!(machine.property("web", "ActiveState"), "active");
//! let answer = machine.inside(|| ask(address, REQUEST));   // this closure uses its network
//! println!("{}", machine.journal("web"));                  // with the messages of systemd about it
//! ```
//!
//! - The machine sees the root file system of this one through an overlay: programs and libraries are
//!   there, and what it writes is gone at its end. The test directory is there at the same path.
//!   `/usr/bin/sameport` is the binary under test.
//! - Its units are those of the test, below `/etc/systemd/system`. Of the distribution it has the
//!   targets and the journal. A service has the default dependencies, `multi-user.target` is reached,
//!   nothing else starts. There is no D-Bus: `systemctl` talks to pid 1 as root; `systemd-run` does not
//!   work. The user `ann` (uid [`ANN`]) has a home directory.
//! - The network is its own: any port is free, and `lo` is up. A test reaches it by [`Systemd::inside`],
//!   also with `harness::load`.
//! - Dropping the machine kills all of it, and removes its cgroups, also when the test panics or is
//!   killed: see `programs/systemd_machine.sh`.
//! - [`Systemd::reboot`] cuts the power and starts it again.
//! - `None`: the machine cannot be started here. The reason has been printed as a skip.
//! - [`Systemd::wait_until`] waits as long as the machine makes progress.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Exited, TIMEOUT, User, cgroup2_mount, command_for, find_program, in_test_dir, is_root, kill,
    sameport, script, skip, spawn_process,
};

/// The uid and gid of the user `ann`, who exists only in the machine.
pub(crate) const ANN: u32 = 23_501;

/// The longest wait for a machine that makes progress.
const LONGEST: Duration = Duration::from_secs(300);

/// What a machine starts with. `..Setup::default()` gives the rest.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Names and texts of files in `/etc/systemd/system`. A name may have directories:
    /// `web.service.d/more.conf`.
    pub(crate) units: &'a [(&'a str, &'a str)],
    /// Paths and texts of other files, mode 0644.
    pub(crate) files: &'a [(&'a str, &'a str)],
    /// Files and directories of this machine, and their paths in the new one, where they are writable.
    pub(crate) binds: &'a [(&'a Path, &'a str)],
    /// Units for `systemctl enable`, by their section `[Install]`.
    pub(crate) enabled: &'a [&'a str],
    /// Whether the cgroups of the new machine are those of this one, which `sameport guard` needs. pid
    /// 1 has a cgroup below the root cgroup then.
    pub(crate) cgroups_of_host: bool,
}

pub(crate) struct Systemd {
    /// Ends the machine when its stdin is closed.
    script: Child,
    output: Lines<BufReader<ChildStdout>>,
    /// systemd, as seen from here.
    pid: i32,
    cgroup: PathBuf,
    dir: PathBuf,
}

impl Systemd {
    /// Starts a machine with these units, and waits until it is up.
    pub(crate) fn start(test: &str, units: &[(&str, &str)]) -> Option<Self> {
        Self::boot(test, &Setup { units, ..Setup::default() })
    }

    /// [`Systemd::start`] with more.
    pub(crate) fn boot(test: &str, setup: &Setup<'_>) -> Option<Self> {
        if let Some(reason) = obstacle() {
            skip(test, &reason);
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = in_test_dir(format!("systemd-{count}"));
        write_files(&dir, setup);
        let cgroup = cgroup2_mount().unwrap().join(format!("sameport-test-systemd-{count}"));
        let namespace = if setup.cgroups_of_host { "no" } else { "yes" };
        let mut command = command_for(User::Current, "sh", &[script("systemd_machine.sh")]);
        command.arg("start").args([&dir, &cgroup]).arg(namespace).stdin(Stdio::piped());
        // Ctrl-C in a terminal does not reach the script, which then still removes the cgroups.
        command.process_group(0).stderr(fs::File::create(dir.join("stderr")).unwrap());
        let mut script = command.spawn().unwrap();
        let output = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut machine = Self { script, output, pid: 0, cgroup: PathBuf::new(), dir };
        machine.cgroup = machine.told("cgroup ").into();
        machine.wait_until_up();
        Some(machine)
    }

    /// The next line of the script, without its name.
    #[track_caller]
    fn told(&mut self, name: &str) -> String {
        let line = self.output.next().and_then(Result::ok).unwrap_or_default();
        let value = line.strip_prefix(name).map(str::to_owned);
        value.unwrap_or_else(|| panic!("no {name}: {line}\n{}", self.errors()))
    }

    #[track_caller]
    fn wait_until_up(&mut self) {
        self.pid = self.told("pid ").parse().unwrap();
        self.wait_until("multi-user.target", || {
            let state = self.run("systemctl is-active multi-user.target");
            (state.stdout == "active\n").then_some(())
        });
    }

    /// Cuts the power, and starts the machine again: with the files of its setup, and what it has
    /// written to directories from outside.
    pub(crate) fn reboot(&mut self) {
        fs::write(self.dir.join("reboot"), "").unwrap();
        kill(self.pid, libc::SIGKILL);
        self.wait_until_up();
    }

    /// Runs a command of words without blanks as root, to its exit.
    #[track_caller]
    pub(crate) fn run(&self, words: &str) -> Exited {
        self.run_words(&words.split(' ').collect::<Vec<_>>())
    }

    #[track_caller]
    pub(crate) fn run_words(&self, words: &[&str]) -> Exited {
        spawn_process(self.command(words)).wait_within(LONGEST)
    }

    /// `systemctl WORDS`, which must succeed. Returns its output.
    #[track_caller]
    pub(crate) fn systemctl(&self, words: &str) -> String {
        let exited = self.run(&format!("systemctl {words}"));
        assert_eq!(exited.code, 0, "systemctl {words}: {exited:?}\n{}", self.journal("*"));
        exited.stdout
    }

    /// A command line for `sh -c`, which must succeed. Returns its output.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let exited = self.run_words(&["sh", "-c", line]);
        assert_eq!(exited.code, 0, "{line}: {exited:?}");
        exited.stdout
    }

    /// A command in all namespaces of the machine, as root, which a test can change.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = command_for(User::Current, "nsenter", &["--target"]);
        command.arg(self.pid.to_string());
        command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--"]);
        command.args(words).env("SYSTEMD_PAGER", "").current_dir("/");
        command
    }

    /// The value of a property of a unit: `systemctl show`.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&format!("show --value --property={name} {unit}")).trim_end().to_owned()
    }

    /// The pid of the main process of a service, in the machine.
    #[track_caller]
    pub(crate) fn main_pid(&self, unit: &str) -> i32 {
        self.property(unit, "MainPID").parse().unwrap()
    }

    /// The journal of a unit (a pattern: `*` is everything), with the messages of pid 1 about it.
    pub(crate) fn journal(&self, unit: &str) -> String {
        let mut words = vec!["journalctl", "--no-pager", "--quiet", "--output=short-monotonic"];
        if unit != "*" {
            words.extend(["--unit", unit]);
        }
        self.run_words(&words).stdout
    }

    /// The entries of a unit in the journal, with their fields.
    #[track_caller]
    pub(crate) fn journal_entries(&self, unit: &str) -> Vec<serde_json::Value> {
        let text = self.run(&format!("journalctl --no-pager --quiet --output=json --unit={unit}"));
        text.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Calls `action` on a thread in the network of the machine. Threads and processes that `action`
    /// starts are there as well.
    pub(crate) fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: setns(2) takes an open descriptor and a number. It changes this thread alone.
                #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
                let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
                action()
            });
            thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// Calls `attempt` until it returns a value. Gives up when the machine has used no processor time
    /// for [`TIMEOUT`], or after [`LONGEST`].
    #[track_caller]
    pub(crate) fn wait_until<T>(&self, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        let (mut used, mut since) = (self.processor_time(), Instant::now());
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            let now = self.processor_time();
            if now != used {
                (used, since) = (now, Instant::now());
            }
            if since.elapsed() > TIMEOUT || begin.elapsed() > LONGEST {
                panic!("no {what}\n{}\n{}", self.errors(), self.journal("*"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processor time of all processes, in steps of 10 ms.
    fn processor_time(&self) -> u64 {
        let text = fs::read_to_string(self.cgroup.join("cpu.stat")).unwrap_or_default();
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        used.unwrap_or(0) / 10_000
    }

    /// The error output of the start.
    fn errors(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The script and systemd, as seen from here.
    pub(crate) fn pids(&self) -> (i32, i32) {
        (i32::try_from(self.script.id()).unwrap(), self.pid)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // The script bounds its own loops.
        let _ = self.script.wait();
    }
}

/// Why no machine can be started here. Only a definite no is an obstacle: any other failure fails the
/// test.
fn obstacle() -> Option<String> {
    if !is_root() {
        return Some("needs root".to_owned());
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("needs systemd".to_owned());
    }
    for program in ["unshare", "nsenter", "setpriv", "systemctl"] {
        if find_program(program).is_none() {
            return Some(format!("needs {program}"));
        }
    }
    let Some(mount) = cgroup2_mount() else {
        return Some("cgroup v2 is not mounted".to_owned());
    };
    let probe = mount.join(format!("sameport-test-systemd-probe-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&probe) {
        let known = [libc::EROFS, libc::EACCES, libc::EPERM];
        if error.raw_os_error().is_some_and(|errno| known.contains(&errno)) {
            return Some(format!("{}: {error}", mount.display()));
        }
    }
    let _ = fs::remove_dir(&probe);
    let flags = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "true"];
    let tried = spawn_process(command_for(User::Current, "unshare", &flags)).wait();
    let refused = tried.stderr.contains("not permitted");
    refused.then(|| format!("namespaces are refused: {}", tried.stderr.trim_end()))
}

fn write_files(dir: &Path, setup: &Setup<'_>) {
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(dir.join("units")).unwrap();
    for (name, text) in setup.units {
        write(dir.join("units").join(name), text);
    }
    let home = dir.join("files/home/ann");
    fs::create_dir_all(&home).unwrap();
    for (path, text) in setup.files {
        write(dir.join("files").join(path.trim_start_matches('/')), text);
    }
    let enabled: String = setup.enabled.iter().map(|unit| format!("{unit}\n")).collect();
    write(dir.join("enabled"), &enabled);
    let test_dir = in_test_dir("");
    let mut binds = String::new();
    let ours = [(sameport(), "/usr/bin/sameport"), (&*test_dir, test_dir.to_str().unwrap())];
    for (source, target) in ours.iter().chain(setup.binds) {
        writeln!(binds, "{} {}", source.display(), target.trim_end_matches('/')).unwrap();
    }
    write(dir.join("binds"), &binds);
    write(dir.join("passwd"), &format!("ann:x:{ANN}:{ANN}::/home/ann:/bin/sh\n"));
}
