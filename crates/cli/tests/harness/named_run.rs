//! A named run with its own directory and port, and its clients.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{
    Exited, Process, SOCKET_TIMEOUT, User, c_program, chown_to, command_for, descendants,
    eventually, executable, free_port, in_test_dir, kill, sameport, spawn_process,
};

/// The name, port and runtime directory of a run.
#[derive(Clone)]
pub(crate) struct RunSetup {
    pub(crate) user: User,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
}

/// A named run and its supervisor.
pub(crate) struct NamedRun {
    pub(crate) setup: RunSetup,
    pub(crate) supervisor: Process,
}

impl RunSetup {
    pub(crate) fn new(user: User) -> Self {
        let port = free_port();
        let dir = in_test_dir(format!("named-{port}"));
        std::fs::create_dir(&dir).unwrap();
        chown_to(&dir, user);
        Self { user, name: format!("run-{port}"), port, dir }
    }

    /// The command of a server that answers with its pid, and that files in the directory of the run control.
    pub(crate) fn controlled_command(&self) -> Vec<String> {
        let program = c_program("named_ready", &[]);
        let words = [program.to_str(), Some("{port}"), self.dir.to_str()];
        words.into_iter().flatten().map(str::to_owned).collect()
    }

    /// A run of this server.
    pub(crate) fn controlled_run(self, options: &[&str]) -> NamedRun {
        let command = self.controlled_command();
        self.run(options, &command)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// `sameport` with these arguments, as the user of the run.
    pub(crate) fn command<S: Into<OsString> + Clone>(&self, arguments: &[S]) -> Command {
        let arguments: Vec<OsString> = arguments.iter().cloned().map(Into::into).collect();
        let mut command = command_for(self.user, sameport(), &arguments);
        command.env("XDG_RUNTIME_DIR", &self.dir);
        command
    }

    /// `sameport run --name NAME OPTIONS -- COMMAND`, with `{port}` replaced in each.
    pub(crate) fn run_command<S: AsRef<str>>(&self, options: &[&str], command: &[S]) -> Command {
        let port = self.port.to_string();
        let mut words = vec!["run".to_owned(), "--name".to_owned(), self.name.clone()];
        words.extend(options.iter().map(|word| word.replace("{port}", &port)));
        words.push("--".to_owned());
        words.extend(command.iter().map(|word| word.as_ref().replace("{port}", &port)));
        self.command(&words)
    }

    pub(crate) fn run<S: AsRef<str>>(self, options: &[&str], command: &[S]) -> NamedRun {
        let command = self.run_command(options, command);
        self.start(command)
    }

    /// Starts [`Self::run_command`], which the test may have changed.
    pub(crate) fn start(self, command: Command) -> NamedRun {
        let supervisor = spawn_process(command);
        let run = NamedRun { setup: self, supervisor };
        run.wait_until_reachable();
        run
    }

    /// Waits before `command` while the gate is closed.
    pub(crate) fn gated_command(&self, command: &[&str]) -> Vec<String> {
        const GATE: &str = "#!/bin/sh\nflag=$1; shift\n\
                            while [ -e \"$flag\" ]; do sleep 0.02; done\nexec \"$@\"\n";
        let gate = executable("gate", GATE);
        let words = [gate.to_str().unwrap(), self.gate().to_str().unwrap()].map(str::to_owned);
        words.into_iter().chain(command.iter().map(|&word| word.to_owned())).collect()
    }

    fn gate(&self) -> PathBuf {
        self.dir.join("shut")
    }

    pub(crate) fn close_gate(&self) {
        std::fs::write(self.gate(), "").unwrap();
    }

    pub(crate) fn open_gate(&self) {
        std::fs::remove_file(self.gate()).unwrap();
    }
}

/// The command line of `rogue HOW PORT`.
pub(crate) fn rogue_command(how: &str) -> Vec<String> {
    let program = c_program("rogue", &[]).into_os_string().into_string().unwrap();
    vec![program, how.to_owned(), "{port}".to_owned()]
}

impl NamedRun {
    /// Starts two workers of `rogue HOW PORT`. The second worker behaves well.
    pub(crate) fn start_rogue(user: User, options: &[&str], how: &str) -> Self {
        let options: Vec<&str> = ["-n", "2"].into_iter().chain(options.iter().copied()).collect();
        RunSetup::new(user).run(&options, &rogue_command(how))
    }

    /// `VERB NAME REST`.
    pub(crate) fn try_verb(&self, verb: &str, rest: &[&str]) -> Exited {
        let words: Vec<&str> =
            [verb, &self.setup.name].into_iter().chain(rest.iter().copied()).collect();
        spawn_process(self.setup.command(&words)).wait()
    }

    /// Runs a verb, which must succeed.
    #[track_caller]
    pub(crate) fn verb(&self, verb: &str, rest: &[&str]) -> Exited {
        let exited = self.try_verb(verb, rest);
        assert_eq!(exited.code, 0, "{verb}: {exited:?}\n{}", self.supervisor.stderr());
        exited
    }

    /// Waits until the supervisor answers `status`, or has exited.
    pub(crate) fn wait_until_reachable(&self) {
        let stat = format!("/proc/{}/stat", self.supervisor.pid());
        let is_over = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        let _ = eventually(|| (self.try_verb("status", &[]).code == 0 || is_over()).then_some(()));
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let exited = self.verb("status", &["--json"]);
        only_run(&exited.stdout)
    }

    /// Waits until exactly `count` workers exist and all are ready. Returns their pids.
    #[track_caller]
    pub(crate) fn wait_for_ready(&self, count: usize) -> BTreeSet<i32> {
        let mut last = Value::Null;
        let ready = eventually(|| {
            last = self.status();
            let workers = last["workers"].as_array()?;
            let ready = workers.iter().filter(|worker| worker["state"] == "ready");
            let pids: BTreeSet<i32> =
                ready.filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok()).collect();
            (pids.len() == count && workers.len() == count).then_some(pids)
        });
        ready.unwrap_or_else(|| panic!("{count} ready: {last}\n{}", self.supervisor.stderr()))
    }

    /// The pid of a worker in any state.
    #[track_caller]
    pub(crate) fn wait_for_worker(&self, ordinal: u16) -> i32 {
        let pid = eventually(|| {
            let status = self.status();
            let mut workers = status["workers"].as_array()?.iter();
            let worker = workers.find(|worker| worker["worker"] == ordinal)?;
            i32::try_from(worker["pid"].as_i64()?).ok()
        });
        pid.unwrap_or_else(|| panic!("no worker {ordinal}\n{}", self.supervisor.stderr()))
    }

    /// Stops the run, which must exit with 0 and leave nothing behind.
    #[track_caller]
    pub(crate) fn stop(self) -> Exited {
        self.verb("stop", &[]);
        self.wait_for_exit(0)
    }

    /// Waits for the exit of the supervisor, which must leave no process and no file behind.
    #[track_caller]
    pub(crate) fn wait_for_exit(self, code: i32) -> Exited {
        let Self { setup, supervisor } = self;
        let pid = supervisor.pid();
        let below = descendants(pid);
        let exited = supervisor.wait();
        assert_eq!(exited.code, code, "{}", exited.stderr);
        assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
        let left = of_run(&setup.name, &below);
        assert_eq!(left, [0; 0], "processes are left behind: {}", exited.stderr);
        let files = files(&setup);
        assert_eq!(files, [] as [String; 0], "files are left behind: {}", exited.stderr);
        exited
    }
}

/// The run in the output of `status NAME --json`.
#[track_caller]
pub(crate) fn only_run(json: &str) -> Value {
    let status: Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    match status["runs"].as_array().map(Vec::as_slice) {
        Some([run]) => run.clone(),
        _ => panic!("not one run: {json}"),
    }
}

/// The processes of the run `name`, and those of `others` that still exist.
fn of_run(name: &str, others: &[i32]) -> Vec<i32> {
    let wanted = format!("SAMEPORT_NAME={name}");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
                || others.contains(pid)
        })
        .collect()
}

/// The files of a run in the runtime directory of its user, except the report about its end.
fn files(setup: &RunSetup) -> Vec<String> {
    let dir = std::fs::read_dir(setup.dir.join("sameport"));
    let files = dir.into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|file| *file != format!("{}.ended", setup.name)).collect()
}

/// Whether every thread of a process has exited. The process can still be a zombie.
pub(crate) fn has_exited(pid: i32) -> bool {
    // The main thread can exit before other threads.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut lives = threads.map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
    });
    !lives.any(|lives| lives)
}

/// Sends one request, and returns the body of the response.
pub(crate) fn request_over(stream: TcpStream) -> std::io::Result<String> {
    read(send_request(stream))
}

/// Sends a request. A failure shows in [`read`].
pub(crate) fn send_request(mut stream: TcpStream) -> TcpStream {
    let _ = stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream
}

pub(crate) fn read(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let text = String::from_utf8_lossy(&all);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    match (text.split_whitespace().nth(1), body) {
        (Some("200"), Some(body)) => Ok(body),
        _ => Err(std::io::Error::other(format!("not an answer: {text:?}"))),
    }
}

pub(crate) fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, SOCKET_TIMEOUT)
}

/// The body of the response from `at`, which names the worker.
pub(crate) fn responder(at: SocketAddr) -> std::io::Result<String> {
    connect(at).and_then(request_over)
}

/// Opens connections while no worker is alive. The next worker must answer all of them.
///
/// The run has one worker, started by [`RunSetup::gated_command`].
#[track_caller]
pub(crate) fn queue_reaches_next_worker(run: &NamedRun, to: SocketAddr, context: &str) {
    const CLIENTS: usize = 50;
    let before = run.wait_for_ready(1);
    run.setup.close_gate();
    for pid in &before {
        // Descendants too: other tests cover workers that leave some.
        for pid in [&[*pid][..], &descendants(*pid)].concat() {
            kill(pid, libc::SIGKILL);
        }
    }
    let gone = eventually(|| before.iter().all(|pid| run.wait_for_worker(1) != *pid).then_some(()));
    assert!(gone.is_some(), "{context}: {}", run.supervisor.stderr());
    let waiting: Vec<_> = (0..CLIENTS).map(|_| connect(to)).collect();
    run.setup.open_gate();
    let answers: Vec<_> = waiting.into_iter().map(|stream| stream.and_then(request_over)).collect();
    let served = answers.iter().filter(|request_over| request_over.is_ok()).count();
    assert_eq!(served, CLIENTS, "{context}: {answers:?}\n{}", run.supervisor.stderr());
    assert!(run.wait_for_ready(1).is_disjoint(&before), "{context}");
}

/// Opens connections while `action` runs. Every one must be accepted and answered.
#[track_caller]
pub(crate) fn while_clients_served<T>(
    run: &NamedRun,
    to: SocketAddr,
    action: impl FnOnce() -> T,
) -> T {
    let stop = AtomicBool::new(false);
    let client = || {
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            failed.extend(responder(to).err());
            thread::sleep(Duration::from_millis(1));
        }
        failed
    };
    let (done, failed) = thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(client));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
        stop.store(true, Ordering::Relaxed);
        let failed = clients.into_iter().flat_map(|client| client.join().unwrap());
        (done, failed.collect::<Vec<_>>())
    });
    let done = done.unwrap_or_else(|why| std::panic::resume_unwind(why));
    assert!(failed.is_empty(), "{failed:?}\n{}", run.supervisor.stderr());
    done
}
