//! Calls whose answer can block: the sibling of the worker that makes them is answered all the same, and
//! SIGTERM ends the run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use super::harness::{
    Process, User, command_for, free_port, in_test_dir, is_root, kill, sameport, script, skip,
    spawn_process,
};
use super::program;

/// A run, its folder, and the process of a file system that does not answer.
struct Blocked {
    run: Process,
    folder: PathBuf,
    daemon: Option<i32>,
}

impl Blocked {
    /// Two workers, the first of which makes the calls of this role.
    fn start(options: &[&str], role: &str, hung: Option<&str>) -> Self {
        let port = free_port();
        let folder = in_test_dir(format!("blocking-{port}"));
        let mount = folder.join("mount");
        fs::create_dir_all(&mount).unwrap();
        let program_of = |path: &dyn AsRef<OsStr>| path.as_ref().to_owned();
        let mut words: Vec<OsString> = Vec::new();
        if let Some(reads) = hung {
            words.extend(["python3".into(), program_of(&script("hung_files.py"))]);
            words.extend([program_of(&mount), reads.into()]);
        }
        words.push(program_of(&sameport()));
        let mut command = command_for(User::Current, &words[0], &words[1..]);
        command.args(["run", "-n", "2"]).args(options).arg("--").arg(program("blocker"));
        command.arg(&folder).arg(role).arg(port.to_string());
        if hung.is_some() {
            command.arg(mount.join("file"));
        }
        command.env("XDG_RUNTIME_DIR", &folder);
        let run = spawn_process(command);
        let daemon = hung.map(|_| {
            run.wait_for_stdout("hung ");
            let line = run.stdout();
            let pid = line.lines().find_map(|line| line.strip_prefix("hung "));
            pid.unwrap().parse().unwrap()
        });
        Self { run, folder, daemon }
    }

    fn sibling_binds_and_sigterm_ends(mut self) {
        self.run.wait_for_stdout("bound 50\n");
        let daemon = self.daemon.take();
        let exited = self.run.terminate();
        if let Some(daemon) = daemon {
            kill(daemon, libc::SIGKILL);
        }
        assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Plain and named runs.
const RUNS: [&[&str]; 2] = [&[], &["--name", "blocked", "--grace", "1s", "--drain", "none"]];

#[test]
fn a_hung_file_blocks_one_worker() {
    if !is_root() || fs::metadata("/dev/fuse").is_err() {
        return skip("a_hung_file_blocks_one_worker", "needs root and /dev/fuse");
    }
    for options in RUNS {
        for (role, reads) in [("descriptor", "sync"), ("memory", "async")] {
            Blocked::start(options, role, Some(reads)).sibling_binds_and_sigterm_ends();
        }
    }
}

#[test]
fn a_lingering_socket_blocks_no_answer() {
    for options in RUNS {
        Blocked::start(options, "linger", None).sibling_binds_and_sigterm_ends();
    }
}

/// A process of another user sends descriptors whose close blocks, and exits.
#[test]
fn descriptors_sent_to_the_notify_socket_block_nobody() {
    let port = free_port();
    let folder = in_test_dir(format!("notify-{port}"));
    fs::create_dir_all(&folder).unwrap();
    let with_folder = |user, words: &[OsString]| {
        let mut command = command_for(user, &words[0], &words[1..]);
        command.env("XDG_RUNTIME_DIR", &folder);
        spawn_process(command)
    };
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let program = sameport().to_str().unwrap();
    let server = script("notify_ready.py");
    let run = words(&[program, "run", "--name", "flooded", "--ready", "notify", "--drain", "none"]);
    let command = words(&["--", "python3", server.to_str().unwrap(), &port.to_string()]);
    let run = with_folder(User::Current, &[run, command].concat());
    run.wait_for_stdout("notify ");
    let line = run.stdout();
    let socket = line.lines().find_map(|line| line.strip_prefix("notify ")).unwrap().to_owned();
    let sender = script("send_lingering.py");
    let sender = words(&["python3", sender.to_str().unwrap(), &socket]);
    // Workers start while the descriptors arrive, and afterwards.
    let scale = |copies: &str| {
        let scaled =
            with_folder(User::Current, &words(&[program, "scale", "flooded", copies])).wait();
        assert_eq!(scaled.code, 0, "{scaled:?}");
    };
    let senders = User::all().iter().map(|user| {
        let sending = with_folder(*user, &sender);
        ["4", "2"].into_iter().for_each(scale);
        let sent = sending.wait();
        assert_eq!(sent.code, 0, "{sent:?}");
        sent.stdout.trim().parse::<i32>().unwrap()
    });
    let senders: Vec<i32> = senders.collect();
    scale("3");
    let status = with_folder(User::Current, &words(&[program, "status", "flooded"])).wait();
    assert_eq!(status.code, 0, "{status:?}");
    assert_eq!(run.terminate().code, 0);
    senders.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    let _ = fs::remove_dir_all(&folder);
}

#[test]
fn a_run_above_the_descriptor_limit_starts_no_worker() {
    for name in ["", "--name crowd"] {
        let folder = in_test_dir("crowd");
        let script =
            format!("ulimit -n 100; exec \"$0\" run {name} -n 50 -- sh -c 'touch \"$1\"' - \"$1\"");
        let started = folder.with_extension("started");
        let words = ["-c", &script, sameport().to_str().unwrap(), started.to_str().unwrap()];
        let exited = spawn_process(command_for(User::Current, "sh", &words)).wait();
        assert_eq!(exited.code, 3, "{exited:?}");
        assert!(exited.stderr.contains("50 workers take"), "{exited:?}");
        assert!(!started.exists());
    }
}
