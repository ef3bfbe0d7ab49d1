//! End-to-end tests of `sameport doctor`: as root and as another user, below another supervisor,
//! and compared with `/proc`.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "what a child does to itself between fork and exec, and used")]

#[path = "harness/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use sandbox::{below_a_supervisor, refused_by, with_pre_exec, without_new_privileges};

const NOBODY: u32 = 65534;

/// A directory with the binary, which every user can execute.
struct BinaryDir {
    _dir: tempfile::TempDir,
    binary: PathBuf,
}

impl BinaryDir {
    fn new() -> Self {
        // Not in TMPDIR, which other users may not enter.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let binary = dir.path().join("sameport");
        // Another process copies: a child that another test forks would hold the copy open for
        // writing, and execve(2) would fail with ETXTBSY.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_sameport")).arg(&binary).status();
        assert!(copied.unwrap().success());
        Self { _dir: dir, binary }
    }

    fn doctor(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("doctor").args(args).env_clear().stdin(Stdio::null());
        command
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Checks the shape of the JSON. Returns name → (answer, detail).
fn read(output: &Output, list: &str) -> BTreeMap<String, (String, String)> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert!(output.stderr.is_empty() && text.ends_with("}\n"), "{output:?}");
    assert_eq!(text.lines().count(), 1);
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(value["version"], 1);
    let entries = value[list].as_array().unwrap().iter().map(|entry| {
        let word = |key: &str| entry[key].as_str().expect(key).to_owned();
        assert!(["yes", "no", "unknown"].contains(&&*word("answer")), "{entry}");
        (word("name"), (word("answer"), word("detail")))
    });
    entries.collect()
}

/// The environments in which `doctor` must work, by name.
fn environments(binary_dir: &BinaryDir) -> Vec<(&'static str, Command)> {
    let mut all = vec![
        ("as it is", binary_dir.doctor(&["--json"])),
        (
            "without new privileges",
            with_pre_exec(binary_dir.doctor(&["--json"]), without_new_privileges),
        ),
    ];
    if is_root() {
        let mut nobody = binary_dir.doctor(&["--json"]);
        nobody.uid(NOBODY).gid(NOBODY);
        all.push(("as nobody", nobody));
        let mut confined = with_pre_exec(binary_dir.doctor(&["--json"]), without_new_privileges);
        confined.uid(NOBODY).gid(NOBODY);
        all.push(("as nobody without new privileges", confined));
    }
    all
}

fn proc_sys(path: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().to_owned())
}

#[test]
fn facts_agree_with_proc_in_every_environment() {
    let binary_dir = BinaryDir::new();
    for (who, mut command) in environments(&binary_dir) {
        let output = command.output().unwrap();
        let facts = read(&output, "facts");
        let answer = |name: &str| facts[name].0.as_str();
        let detail = |name: &str| facts[name].1.as_str();
        let yes_if = |yes: bool| if yes { "yes" } else { "no" };

        let release = proc_sys("kernel/osrelease").unwrap();
        assert!(detail("kernel").starts_with(&release), "{who}: {facts:?}");
        let actions = proc_sys("kernel/seccomp/actions_avail").unwrap();
        let known = actions.split(' ').any(|action| action == "user_notif");
        assert_eq!(answer("seccomp-notify"), yes_if(known), "{who}");
        assert_eq!(detail("somaxconn"), proc_sys("net/core/somaxconn").unwrap(), "{who}");
        let migrate = proc_sys("net/ipv4/tcp_migrate_req").is_some_and(|value| value != "0");
        assert_eq!(answer("tcp-migrate-req"), yes_if(migrate), "{who}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(answer("cgroup2"), yes_if(mounts.contains(" - cgroup2 ")), "{who}");
        let scope = proc_sys("kernel/yama/ptrace_scope");
        match scope.as_deref() {
            None | Some("0" | "1") => assert_eq!(answer("trace-descendants"), "yes", "{who}"),
            Some(scope) => assert!(detail("trace-descendants").contains(scope), "{who}"),
        }
        if proc_sys("kernel/io_uring_disabled").as_deref() == Some("2") {
            assert_eq!(answer("io-uring"), "no", "{who}");
        }
        let privs = if who.contains("without") { "already set" } else { "can be set" };
        assert_eq!(facts["no-new-privs"], ("yes".into(), privs.into()), "{who}");

        if who.contains("nobody") {
            assert_eq!(answer("see-other-users"), "no", "{who}: {facts:?}");
            let low = proc_sys("net/ipv4/ip_unprivileged_port_start").unwrap();
            assert_eq!(answer("low-ports"), yes_if(low == "0"), "{who}");
            if proc_sys("kernel/unprivileged_bpf_disabled").is_some_and(|value| value != "0") {
                let (answer, detail) = &facts["ebpf"];
                assert_eq!(answer, "no", "{who}");
                assert!(detail.starts_with("not permitted for this user"), "{who}: {detail}");
            }
        }
    }
}

#[test]
fn exit_code_says_whether_run_works() {
    let binary_dir = BinaryDir::new();
    for (who, mut command) in environments(&binary_dir) {
        let output = command.output().unwrap();
        let abilities = read(&output, "abilities");
        let expected = if abilities["run"].0 == "no" { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{who}: {abilities:?}");
    }
}

/// The answer for each interposer matches the result of `run --via`.
#[test]
fn interposers_work_as_reported() {
    let binary_dir = BinaryDir::new();
    for (who, mut command) in environments(&binary_dir) {
        let abilities = read(&command.output().unwrap(), "abilities");
        for via in ["seccomp", "preload", "cgroup"] {
            let (answer, detail) = &abilities[&format!("run-{via}")];
            let mut run = Command::new(&binary_dir.binary);
            run.args(["run", "--via", via, "--", "/bin/true"]).env_clear().stdin(Stdio::null());
            if who.contains("nobody") {
                run.uid(NOBODY).gid(NOBODY);
            }
            let run = if who.contains("without") {
                with_pre_exec(run, without_new_privileges)
            } else {
                run
            };
            let output = { run }.output().unwrap();
            let expected = if answer == "yes" { 0 } else { 3 };
            assert_ne!(answer, "unknown", "{who}, {via}: {detail}");
            assert_eq!(output.status.code(), Some(expected), "{who}, {via}: {detail}: {output:?}");
        }
        if who.contains("nobody") {
            assert_eq!(
                (abilities["run-cgroup"].0.as_str(), abilities["attach"].0.as_str()),
                ("no", "no")
            );
        }
    }
}

/// No cgroup and no file of the library is left.
#[test]
fn leaves_nothing_behind() {
    let binary_dir = BinaryDir::new();
    let runtime = tempfile::tempdir().unwrap();
    let mut command = binary_dir.doctor(&["--json"]);
    let command = command.env("XDG_RUNTIME_DIR", runtime.path()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let (answer, dir) = &read(&output, "facts")["preload-place"];
    assert_eq!(answer, "yes", "{dir}");
    let left = |dir: &str, sign: &str| {
        let found = Command::new("find").args([dir, "-name", sign]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    // The pids before and after the supervisor's can belong to any process.
    assert_eq!(left(dir, &format!("libsameport_preload-{pid}-*")), "");
    assert_eq!(left("/sys/fs/cgroup", &format!("sameport-run-*-{pid}-*-*")), "");
}

#[test]
fn below_another_supervisor_it_names_another_interposer() {
    let binary_dir = BinaryDir::new();
    let output =
        with_pre_exec(binary_dir.doctor(&["--json"]), below_a_supervisor).output().unwrap();
    let (answer, detail) = &read(&output, "facts")["seccomp-listener"];
    assert_eq!(answer, "no");
    assert!(detail.contains("EBUSY"), "{detail}");
    // Answers that need no listener stay.
    assert_eq!(read(&output, "facts")["seccomp-notify"].0, "yes");
    assert_ne!(read(&output, "facts")["seccomp-wait-killable"].0, "unknown");
    assert_eq!(read(&output, "facts")["seccomp-addfd"].0, "unknown");
    let abilities = read(&output, "abilities");
    assert_eq!(abilities["run-seccomp"].0, "no");
    assert_eq!(
        (abilities["listen"].0.as_str(), abilities["run-preload"].0.as_str()),
        ("yes", "yes")
    );
    // `run` chooses another interposer.
    let (answer, detail) = &abilities["run"];
    assert_eq!(answer, "yes");
    assert!(detail.starts_with("by preload; seccomp cannot: seccomp-listener: "), "{detail}");
    assert_eq!(output.status.code(), Some(0));

    let output = with_pre_exec(binary_dir.doctor(&[]), below_a_supervisor).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(table.contains("because seccomp-listener: another supervisor"), "{table}");
    assert!(table.contains("hint: only one seccomp listener is possible"), "{table}");
}

fn fails(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

#[test]
fn calls_that_a_sandbox_forbids_are_not_called_missing() {
    let binary_dir = BinaryDir::new();
    type Sandbox = fn() -> io::Result<()>;
    let cases: [(Sandbox, &str, &str); 3] = [
        (|| refused_by(fails(libc::EPERM)), "not permitted", "does not have it"),
        (|| refused_by(fails(libc::ENOSYS)), "this kernel does not have it", "not permitted"),
        // The filter of a systemd unit ends the process.
        (|| refused_by(libc::SECCOMP_RET_KILL_PROCESS), "not permitted", "does not have it"),
    ];
    for (sandbox, expected, wrong) in cases {
        let output = with_pre_exec(binary_dir.doctor(&["--json"]), sandbox).output().unwrap();
        let facts = read(&output, "facts");
        for name in ["pidfd-getfd", "io-uring", "ebpf"] {
            let (answer, detail) = &facts[name];
            assert_eq!(answer, "no", "{name}: {detail}");
            assert!(detail.contains(expected) && !detail.contains(wrong), "{name}: {detail}");
        }
        assert_eq!(facts["pidfd-open"].0, "yes");
        let abilities = read(&output, "abilities");
        assert_eq!(abilities["run-seccomp"].0, "no");
        // `run` tries before it starts anything, so it chooses another interposer.
        let (answer, detail) = &abilities["run"];
        assert_eq!(answer, "yes", "{detail}");
        assert!(detail.starts_with("by preload; seccomp cannot: call-filter: "), "{detail}");
        assert_eq!(output.status.code(), Some(0));

        let mut run = Command::new(&binary_dir.binary);
        run.args(["run", "--", "/bin/true"]).env_clear().stdin(Stdio::null());
        let output = with_pre_exec(run, sandbox).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let words = "sameport: using preload, because seccomp cannot: a system call filter refuses \
                     pidfd_getfd (";
        assert!(stderr.starts_with(words), "{stderr}");
        let permit = "sameport: hint: permit pidfd_getfd in the seccomp profile";
        assert!(stderr.contains(permit), "{stderr}");
    }
}

#[test]
fn table_and_json_agree() {
    let binary_dir = BinaryDir::new();
    let table = binary_dir.doctor(&[]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let json = binary_dir.doctor(&["--json"]).output().unwrap();
    let (line, rest) = table.split_once("\n\n").unwrap();
    assert!(line.starts_with("`sameport run` works here, by "), "{table}");
    assert!(rest.starts_with("FACT "), "{table}");
    for (name, (answer, _)) in read(&json, "facts").into_iter().chain(read(&json, "abilities")) {
        let answer = if answer == "unknown" { "could not tell".to_owned() } else { answer };
        let is_listed = table.lines().any(|line| {
            line.strip_prefix(&name).is_some_and(|rest| rest.trim_start().starts_with(&answer))
        });
        assert!(is_listed, "{name} {answer} is not in\n{table}");
    }
}

/// The processor time of a process and its children, independent of other processes.
fn processor_time(mut command: Command) -> Duration {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let (pid, mut status) = (i32::try_from(child.id()).unwrap(), 0);
    // SAFETY: an all-zero `rusage` is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one integer and one `rusage`, which are live local variables.
    let exited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert!(exited == pid && libc::WIFEXITED(status), "{status:x}");
    assert!(child.wait().is_err(), "wait4 has reaped the child");
    let duration = |time: libc::timeval| {
        let microseconds = time.tv_sec * 1_000_000 + time.tv_usec;
        Duration::from_micros(microseconds.unsigned_abs())
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// The reference is the start of the same binary, which is slower on a slower machine too.
#[test]
fn is_fast() {
    const FACTOR: u32 = 200;
    let binary_dir = BinaryDir::new();
    let least = |command: fn(&BinaryDir) -> Command| {
        (0..5).map(|_| processor_time(command(&binary_dir))).min().unwrap()
    };
    let doctor = least(|binary_dir| binary_dir.doctor(&[]));
    let version = least(|binary_dir| {
        let mut command = Command::new(&binary_dir.binary);
        command.arg("--version").env_clear().stdin(Stdio::null());
        command
    });
    assert!(doctor < version * FACTOR, "doctor {doctor:?}, --version {version:?}");
}

#[test]
fn closed_pipe_succeeds_and_full_disk_fails() {
    let binary_dir = BinaryDir::new();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = binary_dir.doctor(&[]).stdout(writer).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = binary_dir.doctor(&[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.starts_with(b"error: write to stdout: "), "{output:?}");
}
