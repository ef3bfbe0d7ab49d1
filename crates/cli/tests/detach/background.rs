//! A run in the background, for the tests: no process of the test is its parent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::named_run::{RunSetup, has_exited, only_run};
use crate::harness::{Exited, c_program, eventually, kill, spawn_process};

/// A run in the background. Ends it when dropped.
pub(crate) struct Background {
    pub(crate) setup: RunSetup,
    pub(crate) pid: i32,
}

/// A server that answers with its pid, and drains.
pub(crate) fn drains() -> String {
    c_program("drains", &[]).into_os_string().into_string().unwrap()
}

/// `sameport run --name NAME --detach OPTIONS -- COMMAND`.
pub(crate) fn detach_command<S: AsRef<str>>(
    setup: &RunSetup,
    options: &[&str],
    command: &[S],
) -> Command {
    let options: Vec<&str> = ["--detach"].into_iter().chain(options.iter().copied()).collect();
    setup.run_command(&options, command)
}

/// `VERB NAME REST`.
pub(crate) fn verb(setup: &RunSetup, words: &[&str]) -> Exited {
    let words: Vec<&str> =
        [words[0], &setup.name].into_iter().chain(words[1..].iter().copied()).collect();
    spawn_process(setup.command(&words)).wait()
}

/// The status of the run; `None` if there is none, or its supervisor was killed.
pub(crate) fn status(setup: &RunSetup) -> Option<Value> {
    let exited = verb(setup, &["status", "--json"]);
    (exited.code == 0).then(|| only_run(&exited.stdout))
}

impl Background {
    /// Starts a run, which must succeed. Returns what the front process printed, too.
    #[track_caller]
    pub(crate) fn start<S: AsRef<str>>(
        setup: RunSetup,
        options: &[&str],
        command: &[S],
    ) -> (Self, Exited) {
        let exited = spawn_process(detach_command(&setup, options, command)).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        (Self::of(setup), exited)
    }

    /// The run that has the name now.
    #[track_caller]
    pub(crate) fn of(setup: RunSetup) -> Self {
        let pid = status(&setup).and_then(|status| i32::try_from(status["pid"].as_i64()?).ok());
        Self { pid: pid.expect("a supervisor"), setup }
    }

    /// The pids of the workers that are ready, once there are this many, and no others.
    #[track_caller]
    pub(crate) fn ready(&self, count: usize) -> BTreeSet<i32> {
        let mut last = None;
        let ready = eventually(|| {
            last = status(&self.setup);
            let workers = last.as_ref()?["workers"].as_array()?;
            let ready = workers.iter().filter(|worker| worker["state"] == "ready");
            let pids: BTreeSet<i32> =
                ready.filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok()).collect();
            (pids.len() == count && workers.len() == count).then_some(pids)
        });
        ready.unwrap_or_else(|| panic!("{count} ready: {last:?}"))
    }

    /// Kills the supervisor. Its workers serve on.
    #[track_caller]
    pub(crate) fn kill_supervisor(&self) {
        kill(self.pid, libc::SIGKILL);
        assert!(eventually(|| has_exited(self.pid).then_some(())).is_some());
    }

    /// Stops the run, which must leave nothing.
    #[track_caller]
    pub(crate) fn stop(self) {
        let stopped = verb(&self.setup, &["stop"]);
        assert_eq!(stopped.code, 0, "{stopped:?}");
        assert!(eventually(|| has_exited(self.pid).then_some(())).is_some());
        assert_nothing_left(&self.setup);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !has_exited(self.pid) {
            kill(self.pid, libc::SIGTERM);
            let _ = eventually(|| has_exited(self.pid).then_some(()));
        }
    }
}

/// No process of the run is left, and no file but the report about its end.
#[track_caller]
pub(crate) fn assert_nothing_left(setup: &RunSetup) {
    let mut left = (Vec::new(), Vec::new());
    let nothing = eventually(|| {
        left = (processes(&setup.name), files(setup));
        (left.0.is_empty() && left.1.is_empty()).then_some(())
    });
    assert!(nothing.is_some(), "left: {left:?}");
}

/// The processes of a run: those that name it in their environment or their command line.
pub(crate) fn processes(name: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let (environment, line) = (read("environ"), read("cmdline"));
            let variable = format!("SAMEPORT_NAME={name}");
            let named = |bytes: &[u8], word: &str| {
                bytes.split(|byte| *byte == 0).any(|it| it == word.as_bytes())
            };
            !has_exited(*pid) && (named(&environment, &variable) || named(&line, name))
        })
        .collect()
}

fn files(setup: &RunSetup) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(setup.dir.join("sameport")).into_iter().flatten().flatten();
    let own = ["lock", "sock", "json"].map(|end| format!("{}.{end}", setup.name));
    dir.map(|entry| entry.path())
        .filter(|path| own.iter().any(|name| path.ends_with(name)))
        .collect()
}

/// A number in `/proc/PID/status`, as hexadecimal or octal digits.
pub(crate) fn status_field(pid: i32, field: &str, radix: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    u64::from_str_radix(value.unwrap().trim(), radix).unwrap()
}

/// The fields of `/proc/PID/stat` from the state on.
pub(crate) fn stat_fields(pid: i32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    rest.split(' ').map(str::to_owned).collect()
}
