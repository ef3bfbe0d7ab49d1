//! Privileges: filters of the program, namespaces, file capabilities, and system calls that a
//! filter could miss.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use super::harness::{
    User, copy_of, find_program, is_root, sameport, skip, start_command, start_run,
};
use super::{command, lines, run_trap, run_trap_with_options};

#[test]
fn untraceable_process_binds_unshared_with_one_warning() {
    for user in User::all() {
        let is_reached = *user == User::Current && is_root();
        let line = if is_reached { "not-dumpable 0 yes" } else { "not-dumpable 0 no" };
        let expected = ["dumpable 0 yes", line, line, line, "after 0 yes"];
        let message = run_trap(*user, "trap_restricted", &["dumpable", "PORT"], &expected);
        let warnings = message.lines().filter(|line| line.contains("cannot be reached")).count();
        assert_eq!(warnings, usize::from(!is_reached), "{user:?}: {message}");
    }
}

#[test]
fn filter_of_the_program_wins() {
    for user in User::all() {
        let expected = ["before-filter 0 yes", "own-filter EACCES no"];
        run_trap(*user, "trap_restricted", &["filter", "PORT"], &expected);
    }
}

#[test]
fn sockets_of_another_netns_are_unshared() {
    for user in User::all() {
        let bare =
            start_command(*user, super::program("trap_restricted"), &["network", "0"]).wait();
        if !bare.stdout.starts_with("unshare 0 -\n") {
            skip("network namespaces", &format!("{user:?} may not make one: {}", bare.stdout));
            continue;
        }
        let expected = ["unshare 0 -", "other-network 0 no", "socket-from-before 0 yes"];
        run_trap(*user, "trap_restricted", &["network", "PORT"], &expected);
    }
}

#[cfg(target_arch = "x86_64")]
const FOREIGN: [&str; 5] = [
    "i386-bind 0 yes",
    "i386-socketcall 0 yes",
    "i386-socketcall-listen 0 yes",
    "i386-socketcall-unreadable EFAULT no",
    "i386-getpid 0 -",
];
#[cfg(not(target_arch = "x86_64"))]
const FOREIGN: [&str; 0] = [];

/// Kernels differ in i386, x32 and io_uring: what exists without `run` must exist under it.
#[test]
fn other_system_call_tables_and_io_uring_are_covered() {
    for user in User::all() {
        let arguments = super::with_port(&["PORT"]);
        let bare = start_command(*user, super::program("trap_syscalls"), &arguments).wait();
        let native: Vec<String> = lines(&bare).into_iter().map(str::to_owned).collect();
        assert_eq!(bare.code, 0, "{bare:?}");
        let shared =
            |line: &String| match FOREIGN.iter().find(|it| it.replace(" yes", " no") == *line) {
                Some(foreign) => (*foreign).to_owned(),
                None if line.starts_with("x32-bind 0") => "x32-bind 0 yes".into(),
                None if line.starts_with("after") => "after 0 yes".into(),
                None => line.clone(),
            };
        let allowed: Vec<String> = native.iter().map(shared).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        run_trap_with_options(*user, &["--allow-io-uring"], "trap_syscalls", &["PORT"], &allowed);

        // A refused io_uring does not exist; nothing else differs.
        let refused: Vec<&str> = allowed
            .iter()
            .filter(|line| !line.starts_with("io_uring-bind"))
            .map(|line| match *line {
                "io_uring_setup 0 -" => "io_uring_setup ENOSYS -",
                other => other,
            })
            .collect();
        let exited = start_run(*user, &[], &command("trap_syscalls", &["PORT"])).wait();
        assert_eq!(lines(&exited), refused, "{user:?}: {}", exited.stderr);
    }
}

#[test]
fn run_inside_a_run_takes_another_interposer() {
    let inner = sameport().to_str().unwrap();
    let nested = "this process already runs under another supervisor's seccomp listener, and the \
                  kernel allows only one";
    for user in User::all() {
        let command = [inner, "run", "--", "echo", "started"];
        let exited = start_run(*user, &[], &command).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (0, "started\n"), "{user:?}: {exited:?}");
        let message = format!("sameport: using preload, because seccomp cannot: {nested}\n");
        assert_eq!(exited.stderr, message);

        let command = [inner, "run", "--via", "seccomp", "--", "echo", "started"];
        let exited = start_run(*user, &[], &command).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (3, ""), "{user:?}: {exited:?}");
        let mut message = exited.stderr.lines();
        assert_eq!(message.next(), Some(&*format!("error: {nested}")), "{exited:?}");
        assert!(message.next().unwrap().starts_with("hint: "), "{exited:?}");
        assert_eq!(message.next(), None, "{exited:?}");
    }
}

/// Three kinds of privileged files. Each program prints what it got.
fn privileged_programs() -> Vec<(&'static str, Vec<String>, &'static str)> {
    let user_id = copy_of("id", "id-of-root");
    std::fs::set_permissions(&user_id, PermissionsExt::from_mode(0o4755)).unwrap();
    let group_id = copy_of("id", "id-of-group-root");
    std::fs::set_permissions(&group_id, PermissionsExt::from_mode(0o2755)).unwrap();
    let capable = copy_of("grep", "grep-with-capabilities");
    let setcap = find_program("setcap").expect("setcap (libcap2-bin) is needed");
    let done = Command::new(setcap).arg("cap_net_bind_service=+ep").arg(&capable).status().unwrap();
    assert!(done.success());
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    vec![
        ("is set-user-ID", vec![path(&user_id), "-u".into()], "0\n"),
        ("is set-group-ID", vec![path(&group_id), "-g".into()], "0\n"),
        (
            "has file capabilities",
            vec![path(&capable), "CapEff".into(), "/proc/self/status".into()],
            "CapEff:\t0000000000000400\n",
        ),
    ]
}

#[test]
fn privileged_file_is_refused_if_it_would_lose_them() {
    if !is_root() {
        return skip("files that grant privileges", "needs root");
    }
    for (what, command, granted) in privileged_programs() {
        let bare = start_command(User::Nobody, &command[0], &command[1..]).wait();
        assert_eq!(bare.stdout, granted, "{what}: the file grants nothing here: {bare:?}");

        let refused = start_run(User::Nobody, &[], &command).wait();
        assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{what}: {refused:?}");
        assert!(refused.stderr.starts_with("error: "), "{refused:?}");
        assert!(refused.stderr.contains(&format!("{} {what}", command[0])), "{refused:?}");
        assert!(refused.stderr.contains("\nhint: "), "{refused:?}");

        let without = start_run(User::Nobody, &["--no-new-privs"], &command).wait();
        assert_eq!(without.code, 0, "{what}: {without:?}");
        assert_ne!(without.stdout, granted, "{what}");
    }
}

#[test]
fn root_runs_set_user_id_files() {
    if !is_root() {
        return skip("set-user-ID under root", "needs root");
    }
    let program = copy_of("id", "id-of-nobody");
    chown(&program, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let exited = start_run(User::Current, &[], &[program.to_str().unwrap(), "-u"]).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (0, "65534\n"), "{exited:?}");
}
