//! The verbs of a named run against a fake supervisor: output, JSON and exit codes.
#![cfg(target_os = "linux")]

mod harness;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use harness::{
    Exited, Process, User, command_for, eventually, free_port, sameport, spawn_process,
    wait_until_answering,
};

/// An XDG_RUNTIME_DIR with the directory of sameport in it.
struct RuntimeDir(tempfile::TempDir);

impl RuntimeDir {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(dir.path().join("sameport")).unwrap();
        Self(dir)
    }

    /// The names of the files of runs.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.file("")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("sameport").join(name)
    }

    fn sameport<S: Into<OsString> + Clone>(&self, arguments: &[S]) -> Exited {
        let arguments: Vec<OsString> = arguments.iter().cloned().map(Into::into).collect();
        let mut command = command_for(User::Current, sameport(), &arguments);
        command.env("XDG_RUNTIME_DIR", self.0.path());
        spawn_process(command).wait()
    }

    /// Answers one request with these frames. Returns the request.
    fn answer(&self, name: &str, frames: &'static [&'static str]) -> JoinHandle<String> {
        let listener = UnixListener::bind(self.file(&format!("{name}.sock"))).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut header = [0; 4];
            client.read_exact(&mut header).unwrap();
            let mut request = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
            client.read_exact(&mut request).unwrap();
            for frame in frames {
                let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
                client.write_all(&[&length[..], frame.as_bytes()].concat()).unwrap();
            }
            String::from_utf8(request).unwrap()
        })
    }
}

const STATUS: &str = concat!(
    r#"{"status":{"name":"web","pid":33,"version":"9","since":0,"command":["node","a b",[255]],"#,
    r#""directory":{"Unix":[47]},"via":"seccomp","copies":2,"workers":[{"ordinal":1,"pid":41,"#,
    r#""state":"ready","since":0,"restarts":3,"why":null,"connections":5,"#,
    r#""addresses":["127.0.0.1:8080"]}],"addresses":[],"remarks":["so it is"]}}"#
);

const CHANGES: &[&str] = &[
    r#""heard""#,
    r#"{"change":{"at":1,"worker":1,"pid":41,"state":"starting","why":null,"connections":null}}"#,
    r#"{"change":{"at":2,"worker":1,"pid":41,"state":"ready","why":null,"connections":null}}"#,
    r#"{"change":{"at":3,"worker":1,"pid":33,"state":"draining","why":null,"connections":12}}"#,
    r#"{"change":{"at":4,"worker":1,"pid":33,"state":"draining","why":null,"connections":3}}"#,
    r#"{"change":{"at":5,"worker":1,"pid":33,"state":"gone","why":null,"connections":null}}"#,
    r#""done""#,
];

#[test]
fn status_prints_text_and_json() {
    let dir = RuntimeDir::new();
    let sent_request = dir.answer("web", &[r#""heard""#, STATUS]);
    let exited = dir.sameport(&["status", "web"]);
    assert_eq!(sent_request.join().unwrap(), r#"{"version":1,"request":"status"}"#);
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    assert!(exited.stdout.starts_with("web: pid 33, 1 of 2 workers ready, since "), "{exited:?}");
    assert!(exited.stdout.contains("\ncommand: node 'a b' "), "{exited:?}");
    assert!(exited.stdout.ends_with("\nnote: so it is\n"), "{exited:?}");
    std::fs::remove_file(dir.file("web.sock")).unwrap();

    let sent_request = dir.answer("web", &[r#""heard""#, STATUS]);
    let exited = dir.sameport(&["status", "--json"]);
    sent_request.join().unwrap();
    assert_eq!(exited.code, 0, "{exited:?}");
    let reported: serde_json::Value = serde_json::from_str(&exited.stdout).unwrap();
    let runs = reported["runs"].as_array().unwrap();
    let web = runs.iter().find(|run| run["name"] == "web").unwrap();
    assert_eq!((&web["workers"][0]["pid"], &web["directory"]), (&41.into(), &"/".into()));
}

#[test]
fn changes_are_printed_one_by_one() {
    let dir = RuntimeDir::new();
    let sent_request = dir.answer("web", CHANGES);
    let exited = dir.sameport(&["restart", "web", "--surge", "0"]);
    assert_eq!(
        sent_request.join().unwrap(),
        r#"{"version":1,"request":{"restart":{"surge":0,"now":false}}}"#
    );
    // A pipe gets no colours, and no line for every count of connections.
    let expected = "worker 1 (pid 41) starts\nworker 1 (pid 41) is ready\n\
                    worker 1 (pid 33) drains, 12 connections open\nworker 1 (pid 33) has ended\n\
                    web is restarted\n";
    assert_eq!((exited.code, &*exited.stdout, &*exited.stderr), (0, "", expected));
    std::fs::remove_file(dir.file("web.sock")).unwrap();

    let sent_request = dir.answer("web", CHANGES);
    let exited = dir.sameport(&["scale", "web", "8", "--json"]);
    assert_eq!(sent_request.join().unwrap(), r#"{"version":1,"request":{"scale":{"copies":8}}}"#);
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    let events: Vec<serde_json::Value> =
        exited.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 6, "{exited:?}");
    assert_eq!((&events[1]["state"], &events[5]["event"]), (&"ready".into(), &"done".into()));
}

/// Per case: arguments, part of the request, response, exit code, part of the output.
type Case<'a> = (&'a [&'a str], &'a str, &'static [&'static str], i32, &'a str);

#[test]
fn requests_and_exit_codes() {
    let program = sameport().to_str().unwrap();
    let reexec = r#"{"version":1,"request":{"reexec":{"program":{"Unix":"#;
    let cases: [Case<'_>; 8] = [
        (&["stop", "web"], r#""stop"}"#, &[r#""heard""#, r#""done""#], 0, "web has stopped\n"),
        (&["stop", "web"], r#""stop"}"#, &[r#""heard""#], 1, "ended before it was done\nhint: "),
        (&["stop", "web"], r#""stop"}"#, &[], 1, "ended before it was done\nhint: "),
        (&["stop", "web"], r#""stop"}"#, &[r#""done""#], 1, "out of turn\n"),
        (
            &["upgrade", "web", "--", "node", "-x"],
            r#"{"upgrade":{"command":["node","-x"]}}}"#,
            &[r#"{"failed":{"fault":"not-found","error":"node: not found","hint":"try"}}"#],
            127,
            "error: node: not found\nhint: try\n",
        ),
        (
            &["upgrade", "web", "--", "node"],
            r#"{"upgrade":{"command":["node"]}}}"#,
            &[r#""heard""#, r#"{"failed":{"fault":"other","error":"it crashed","hint":null}}"#],
            1,
            "error: it crashed\n",
        ),
        (
            &["reexec", "web"],
            r#"{"reexec":{"program":null}}}"#,
            &[r#""heard""#, r#""done""#],
            0,
            "",
        ),
        (&["reexec", "web", program], reexec, &[r#""heard""#, r#""done""#], 0, "supervisor\n"),
    ];
    let dir = RuntimeDir::new();
    for (arguments, request, frames, code, reported) in cases {
        let sent_request = dir.answer("web", frames);
        let exited = dir.sameport(arguments);
        let sent_request = sent_request.join().unwrap();
        assert!(sent_request.contains(request), "{sent_request}");
        assert_eq!((exited.code, &*exited.stdout), (code, ""), "{arguments:?}: {exited:?}");
        assert!(exited.stderr.contains(reported), "{arguments:?}: {exited:?}");
        std::fs::remove_file(dir.file("web.sock")).unwrap();
    }
}

/// No request is sent for a wrong command line.
#[test]
fn wrong_command_line_sends_no_request() {
    let dir = RuntimeDir::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["status", ""], 2, "1 to 64"),
        (&["status", "../web"], 2, "no '/'"),
        (&["status", "a", "b"], 2, "'b'"),
        (&["restart"], 2, "<NAME>"),
        (&["restart", "web", "--surge", "-1"], 2, "-1"),
        (&["restart", "web", "--surge", "1025"], 2, "1025"),
        (&["scale", "web"], 2, "<N>"),
        (&["scale", "web", "0"], 2, "0"),
        (&["scale", "web", "1025"], 2, "1025"),
        (&["scale", "web", "x"], 2, "x"),
        (&["stop", ".web"], 2, "begins with"),
        (&["upgrade", "web"], 2, "<COMMAND>"),
        (&["upgrade", "web", "--"], 2, "<COMMAND>"),
        (&["upgrade", "web", "node"], 2, "node"),
        (&["reexec", "web", "/no/such"], 127, "/no/such: command not found"),
        (&["reexec", "web", "/"], 126, "/: cannot be executed"),
        (&["reexec", "web", "no-such-program"], 127, "no-such-program: command not found"),
    ];
    for (arguments, code, reported) in cases {
        let exited = dir.sameport(arguments);
        assert_eq!((exited.code, &*exited.stdout), (*code, ""), "{arguments:?}: {exited:?}");
        let lines: Vec<_> = exited.stderr.lines().collect();
        let [error, hint] = lines[..] else { panic!("{arguments:?}: {exited:?}") };
        assert!(
            error.starts_with("error: ") && error.contains(reported),
            "{arguments:?}: {exited:?}"
        );
        assert!(hint.starts_with("hint: "), "{arguments:?}: {exited:?}");
    }
}

#[test]
fn unknown_name_lists_known_names() {
    let dir = RuntimeDir::new();
    let _web = UnixListener::bind(dir.file("web.sock")).unwrap();
    for verb in [&["status", "wbe"][..], &["stop", "wbe"], &["upgrade", "wbe", "--", "true"]] {
        let exited = dir.sameport(verb);
        assert_eq!(exited.code, 1, "{exited:?}");
        assert!(exited.stderr.starts_with("error: there is no run named wbe\nhint: there is "));
        assert!(exited.stderr.contains("web"), "{exited:?}");
    }
}

/// The state after SIGKILL: files without a listener.
#[test]
fn dead_supervisor_is_reported() {
    let dir = RuntimeDir::new();
    drop(UnixListener::bind(dir.file("web.sock")).unwrap());
    let record =
        r#"{"pid":33,"command":["node"],"directory":{"Unix":[47]},"since":0,"workers":[]}"#;
    std::fs::write(dir.file("web.json"), record).unwrap();
    for verb in ["status", "restart"] {
        let exited = dir.sameport(&[verb, "web"]);
        let expected = "error: the supervisor of web (pid 33) is gone, and so are its workers\n\
                        hint: start it again: sameport run --name web … -- node\n";
        assert_eq!((exited.code, &*exited.stderr), (1, expected));
        let known = if verb == "status" { "web: the supervisor was killed; started " } else { "" };
        assert!(exited.stdout.starts_with(known), "{exited:?}");
        assert_eq!(exited.stdout.is_empty(), known.is_empty(), "{exited:?}");
    }
    let exited = dir.sameport(&["status"]);
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stdout.lines().any(|line| line.starts_with("web ") && line.contains(" gone ")));
    let exited = dir.sameport(&["stop", "web"]);
    assert_eq!((exited.code, &*exited.stderr), (0, "web has stopped\n"), "{exited:?}");
}

/// A user with write access to the directory could answer in place of the supervisor.
#[test]
fn directories_writable_by_others_are_ignored() {
    let dir = RuntimeDir::new();
    // A name that no other directory of this machine has.
    let name = format!("folders-{}", std::process::id());
    let _web = UnixListener::bind(dir.file(&format!("{name}.sock"))).unwrap();
    let not_there = || {
        let exited = dir.sameport(&["status", &name]);
        let reported = exited.stderr.contains(&format!("no run named {name}"));
        assert!(exited.code == 1 && reported, "{exited:?}");
    };
    let run_dir = dir.file("");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&run_dir, 0o777);
    not_there();
    mode(&run_dir, 0o700);
    mode(dir.0.path(), 0o777);
    not_there();
    mode(dir.0.path(), 0o700);
    let moved = dir.0.path().join("moved");
    std::fs::rename(dir.0.path().join("sameport"), &moved).unwrap();
    symlink(&moved, dir.0.path().join("sameport")).unwrap();
    not_there();
    std::fs::remove_file(dir.0.path().join("sameport")).unwrap();
    std::fs::rename(&moved, dir.0.path().join("sameport")).unwrap();
    if harness::is_root() {
        std::os::unix::fs::chown(&run_dir, Some(65534), None).unwrap();
        not_there();
    }
}

/// Starts a named run on a free port and waits until it is ready.
fn named_run(dir: &RuntimeDir) -> (Process, u16) {
    let port = free_port();
    let mut run = command_for(
        User::Current,
        sameport(),
        &[
            "run",
            "--name",
            "web",
            "-n",
            "2",
            "--",
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &port.to_string(),
        ],
    );
    run.env("XDG_RUNTIME_DIR", dir.0.path());
    let run = spawn_process(run);
    wait_until_answering(([127, 0, 0, 1], port).into());
    run.wait_for_stderr("worker 1");
    (run, port)
}

/// The pids of the workers in `status`, once all are ready.
fn workers(dir: &RuntimeDir) -> Vec<i32> {
    let ready = || {
        let exited = dir.sameport(&["status", "web", "--json"]);
        let reported: serde_json::Value = serde_json::from_str(&exited.stdout).ok()?;
        let workers = reported["runs"][0]["workers"].as_array()?;
        let all = workers.iter().all(|worker| worker["state"] == "ready");
        let pids = workers.iter().map(|it| i32::try_from(it["pid"].as_i64()?).ok());
        pids.collect::<Option<Vec<_>>>().filter(|_| all)
    };
    eventually(ready).expect("every worker is ready")
}

#[test]
fn name_is_in_use_until_its_run_ends() {
    let dir = RuntimeDir::new();
    let (run, port) = named_run(&dir);
    assert_eq!(workers(&dir).len(), 2);
    let marker = dir.0.path().join("marker");
    let again = ["run", "--name", "web", "--", "touch", marker.to_str().unwrap()];
    let exited = dir.sameport(&again);
    let reported = format!("in use by pid {}\nhint: ", run.pid());
    assert!(exited.code == 1 && exited.stderr.contains(&reported), "{exited:?}");
    assert!(!marker.exists(), "it was started");
    let (scaled, stopped) = (dir.sameport(&["scale", "web", "1"]), dir.sameport(&["stop", "web"]));
    assert_eq!((scaled.code, stopped.code), (0, 0), "{scaled:?} {stopped:?}");
    assert!(scaled.stderr.ends_with("web has 1 worker\n"), "{scaled:?}");
    assert!(stopped.stderr.ends_with("web has stopped\n"), "{stopped:?}");
    assert_eq!(run.wait().code, 0);
    assert_eq!(dir.files(), ["web.ended"]);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Workers that outlive their supervisor; killed on drop.
struct Orphans(Vec<i32>);

impl Drop for Orphans {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| harness::kill(*pid, libc::SIGKILL));
    }
}

#[test]
fn name_of_a_killed_supervisor_is_free() {
    let dir = RuntimeDir::new();
    let (mut run, port) = named_run(&dir);
    let Orphans(pids) = &Orphans(workers(&dir));
    run.signal(libc::SIGKILL);
    assert!(eventually(|| (!run.is_running()).then_some(())).is_some());
    let exited = dir.sameport(&["status", "web"]);
    let supervisor = run.pid();
    let expected = format!(
        "error: the supervisor of web (pid {supervisor}) is gone; its workers (pids {}, {}) keep \
         serving, and can bind nothing new\nhint: `sameport restart web` replaces them, \
         `sameport stop web` ends them\n",
        pids[0], pids[1]
    );
    assert_eq!((exited.code, &*exited.stderr), (1, &*expected));
    wait_until_answering(([127, 0, 0, 1], port).into());
    pids.iter().for_each(|pid| harness::kill(*pid, libc::SIGKILL));
    let so =
        || dir.sameport(&["status", "web"]).stderr.contains("so are its workers").then_some(());
    assert!(eventually(so).is_some());

    let (run, _) = named_run(&dir);
    assert_eq!(workers(&dir).len(), 2);
    assert_eq!(dir.sameport(&["stop", "web"]).code, 0);
    run.wait();
    assert_eq!(dir.files(), ["web.ended"]);
}
