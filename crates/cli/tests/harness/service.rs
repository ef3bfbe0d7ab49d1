//! A named run as a service of a fake systemd that speaks sd_notify(3).

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Exited, Process, User, chown_to, command_for, eventually, in_test_dir, own_uid, sameport,
    script, spawn_process,
};

pub(crate) struct Service {
    pub(crate) name: String,
    user: User,
    notify: PathBuf,
    pub(crate) manager: Process,
}

impl Service {
    /// Starts `sameport run --name … OPTIONS -- COMMAND` with the sockets of `unit`.
    pub(crate) fn start(
        user: User,
        unit: &[&dyn AsFd],
        options: &[&str],
        command: &[&str],
    ) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("service-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let runtime = in_test_dir(format!("{name}-runtime"));
        std::fs::create_dir(&runtime).unwrap();
        chown_to(&runtime, user);
        let notify = in_test_dir(format!("{name}-notify"));
        let numbers: Vec<String> =
            unit.iter().map(|socket| socket.as_fd().as_raw_fd().to_string()).collect();
        let numbers = if numbers.is_empty() { "-".to_owned() } else { numbers.join(",") };
        let uid = if user == User::Nobody { 65534 } else { own_uid() };
        let words = [
            script("service_manager.py").into_os_string(),
            notify.clone().into_os_string(),
            uid.to_string().into(),
            numbers.into(),
            sameport().into(),
            "run".into(),
            "--name".into(),
            name.clone().into(),
        ];
        let options = options.iter().copied().chain(["--"]).chain(command.iter().copied());
        let words: Vec<OsString> = words.into_iter().chain(options.map(OsString::from)).collect();
        let mut manager = command_for(User::Current, "/usr/bin/env", &["python3"]);
        manager.args(words).env("XDG_RUNTIME_DIR", &runtime);
        pass(&mut manager, unit);
        Self { name, user, notify, manager: spawn_process(manager) }
    }

    pub(crate) fn tell_manager(&self, what: &str) {
        let tell_manager = format!("DO={what}");
        UnixDatagram::unbound().unwrap().send_to(tell_manager.as_bytes(), &self.notify).unwrap();
    }

    /// How many lines of the manager start with `line`.
    pub(crate) fn count_lines(&self, line: &str) -> usize {
        self.manager.stdout().lines().filter(|there| there.starts_with(line)).count()
    }

    #[track_caller]
    pub(crate) fn wait_for_lines(&self, line: &str, times: usize) {
        let count_lines = eventually(|| (self.count_lines(line) >= times).then_some(()));
        let (out, err) = (self.manager.stdout(), self.manager.stderr());
        assert!(count_lines.is_some(), "{times} times {line}\n{out}\n{err}");
    }

    pub(crate) fn sameport(&self, words: &[&str]) -> Exited {
        let mut command = command_for(self.user, sameport(), words);
        command.env("XDG_RUNTIME_DIR", in_test_dir(format!("{}-runtime", self.name)));
        spawn_process(command).wait()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let exited = self.sameport(&["status", &self.name, "--json"]);
        assert_eq!(exited.code, 0, "{exited:?}\n{}", self.manager.stderr());
        super::named_run::only_run(&exited.stdout)
    }

    pub(crate) fn stop(self) {
        self.tell_manager("stop");
        self.wait_for_lines("ended 0", 1);
    }
}

/// Keeps the sockets open across execve(2).
pub(crate) fn pass(command: &mut std::process::Command, sockets: &[&dyn AsFd]) {
    use std::os::unix::process::CommandExt as _;
    let numbers: Vec<i32> = sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).collect();
    let keep = move || {
        for number in &numbers {
            // SAFETY: F_SETFD takes two numbers: a descriptor that was open at the fork, and 0.
            #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
            if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes one system call a descriptor, and neither allocates nor locks.
    #[allow(unsafe_code, reason = "between fork and exec")]
    unsafe {
        command.pre_exec(keep)
    };
}
