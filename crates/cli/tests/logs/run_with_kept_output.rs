//! A run in the background, its workers' output, and the process that writes it.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::named_run::{RunSetup, only_run};
use crate::harness::{Exited, Process, User, eventually, is_root, kill, spawn_process};

/// A run in the background. Ends it when dropped.
pub(crate) struct KeptRun {
    pub(crate) setup: RunSetup,
}

/// A user whose state directory the test may choose: root's output goes to /var/log.
pub(crate) fn user() -> User {
    if is_root() { User::Nobody } else { User::Current }
}

impl KeptRun {
    /// `sameport run --name NAME --detach OPTIONS -- sh -c SCRIPT`. The script opens no socket.
    #[track_caller]
    pub(crate) fn start(options: &[&str], script: &str) -> Self {
        let run = Self { setup: RunSetup::new(user()) };
        let exited = spawn_process(run.start_command(options, script)).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        run
    }

    pub(crate) fn start_command(&self, options: &[&str], script: &str) -> Command {
        let fixed = ["--detach", "--ready-timeout", "20m"];
        let options: Vec<&str> = fixed.into_iter().chain(options.iter().copied()).collect();
        let mut command = self.setup.run_command(&options, &["sh", "-c", script]);
        command.env("XDG_STATE_HOME", &self.setup.dir).env_remove("LOGS_DIRECTORY");
        command
    }

    /// `sameport VERB NAME REST`.
    pub(crate) fn command(&self, verb: &str, rest: &[&str]) -> Command {
        let words: Vec<&str> =
            [verb, &self.setup.name].into_iter().chain(rest.iter().copied()).collect();
        let mut command = self.setup.command(&words);
        command.env("XDG_STATE_HOME", &self.setup.dir).env_remove("LOGS_DIRECTORY");
        command
    }

    pub(crate) fn verb(&self, verb: &str, rest: &[&str]) -> Exited {
        spawn_process(self.command(verb, rest)).wait()
    }

    /// The output of `logs`, which must succeed.
    #[track_caller]
    pub(crate) fn logs(&self, rest: &[&str]) -> String {
        let exited = self.verb("logs", rest);
        assert_eq!(exited.code, 0, "{exited:?}");
        exited.stdout
    }

    pub(crate) fn follow(&self, rest: &[&str]) -> Process {
        let rest: Vec<&str> = ["-f"].into_iter().chain(rest.iter().copied()).collect();
        spawn_process(self.command("logs", &rest))
    }

    /// The output of `logs` once it contains a text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut last = String::new();
        let found = eventually(|| {
            last = self.verb("logs", &[]).stdout;
            last.contains(text).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("no {text:?}: {last}"))
    }

    /// The texts of a worker, without what is in front.
    #[track_caller]
    pub(crate) fn texts(&self, worker: u16) -> Vec<String> {
        let mark = format!(" {}.{worker} | ", self.setup.name);
        let all = self.logs(&["--worker", &worker.to_string()]);
        all.lines().filter_map(|line| Some(line.split_once(&mark)?.1.to_owned())).collect()
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.setup.dir.join("sameport").join(&self.setup.name)
    }

    #[track_caller]
    pub(crate) fn supervisor(&self) -> i32 {
        let status = self.verb("status", &["--json"]);
        let pid = only_run(&status.stdout)["pid"].as_i64().expect("a pid");
        i32::try_from(pid).unwrap()
    }

    /// The pids of the workers.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let status = only_run(&self.verb("status", &["--json"]).stdout);
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().filter_map(|it| i32::try_from(it["pid"].as_i64()?).ok()).collect()
    }

    /// The log writers of the run.
    pub(crate) fn log_writers(&self) -> Vec<i32> {
        let wanted = format!("sameport\0log-writer\0{}\0", self.setup.name);
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(wanted.as_bytes())
            })
            .collect()
    }
}

impl Drop for KeptRun {
    fn drop(&mut self) {
        self.verb("stop", &["--now"]);
        let left = eventually(|| self.log_writers().is_empty().then_some(()));
        if left.is_none() {
            self.log_writers().into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
            assert!(std::thread::panicking(), "the log writer is left");
        }
    }
}
