//! What a program may and may not do: fences of its own, namespaces, privileges of its file, and
//! ways into the kernel that a filter could miss.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use super::harness::{
    User, copy_of, find_program, is_root, sameport, skip, start_command, start_run,
};
use super::{command, lines, spring, spring_under};

#[test]
fn a_process_that_cannot_be_traced_binds_unshared_and_is_told_of_once() {
    for user in User::all() {
        let is_reached = *user == User::Current && is_root();
        let line = if is_reached { "not-dumpable 0 yes" } else { "not-dumpable 0 no" };
        let expected = ["dumpable 0 yes", line, line, line, "after 0 yes"];
        let said = spring(*user, "trap_fences", &["dumpable", "PORT"], &expected);
        let warnings = said.lines().filter(|line| line.contains("cannot be reached")).count();
        assert_eq!(warnings, usize::from(!is_reached), "{user:?}: {said}");
    }
}

#[test]
fn a_filter_of_the_program_wins() {
    for user in User::all() {
        let expected = ["before-filter 0 yes", "own-filter EACCES no"];
        spring(*user, "trap_fences", &["filter", "PORT"], &expected);
    }
}

#[test]
fn sockets_of_another_network_are_untouched_and_earlier_ones_are_not() {
    for user in User::all() {
        let bare = start_command(*user, super::program("trap_fences"), &["network", "0"]).wait();
        if !bare.stdout.starts_with("unshare 0 -\n") {
            skip("network namespaces", &format!("{user:?} may not make one: {}", bare.stdout));
            continue;
        }
        let expected = ["unshare 0 -", "other-network 0 no", "socket-from-before 0 yes"];
        spring(*user, "trap_fences", &["network", "PORT"], &expected);
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

/// Kernels are built with and without i386 and x32, and with io_uring switched off: what there is
/// without us, there has to be under `run`.
#[test]
fn no_dialect_of_system_calls_and_no_ring_binds_unseen() {
    for user in User::all() {
        let arguments = super::with_port(&["PORT"]);
        let bare = start_command(*user, super::program("trap_dialects"), &arguments).wait();
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
        spring_under(*user, &["--allow-io-uring"], "trap_dialects", &["PORT"], &allowed);

        // Refused, the ring is not there; nothing else differs.
        let refused: Vec<&str> = allowed
            .iter()
            .filter(|line| !line.starts_with("io_uring-bind"))
            .map(|line| match *line {
                "io_uring_setup 0 -" => "io_uring_setup ENOSYS -",
                other => other,
            })
            .collect();
        let exited = start_run(*user, &[], &command("trap_dialects", &["PORT"])).wait();
        assert_eq!(lines(&exited), refused, "{user:?}: {}", exited.stderr);
    }
}

#[test]
fn a_run_inside_a_run_takes_another_way_or_says_why_it_cannot() {
    let inner = sameport().to_str().unwrap();
    let nested = "this process already runs under another supervisor's seccomp listener, and the \
                  kernel allows only one";
    for user in User::all() {
        let command = [inner, "run", "--", "echo", "started"];
        let exited = start_run(*user, &[], &command).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (0, "started\n"), "{user:?}: {exited:?}");
        let said = format!("sameport: using preload, because seccomp cannot: {nested}\n");
        assert_eq!(exited.stderr, said);

        let command = [inner, "run", "--via", "seccomp", "--", "echo", "started"];
        let exited = start_run(*user, &[], &command).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (3, ""), "{user:?}: {exited:?}");
        let mut said = exited.stderr.lines();
        assert_eq!(said.next(), Some(&*format!("error: {nested}")), "{exited:?}");
        assert!(said.next().unwrap().starts_with("hint: "), "{exited:?}");
        assert_eq!(said.next(), None, "{exited:?}");
    }
}

/// Three ways a file grants something; each program says on stdout what it was given.
fn granting_programs() -> Vec<(&'static str, Vec<String>, &'static str)> {
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
fn a_file_that_grants_privileges_is_refused_where_it_would_lose_them() {
    if !is_root() {
        return skip("files that grant privileges", "making them takes root");
    }
    for (what, command, granted) in granting_programs() {
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
fn root_runs_a_file_that_changes_the_user() {
    if !is_root() {
        return skip("set-user-ID under root", "it takes root");
    }
    let program = copy_of("id", "id-of-nobody");
    chown(&program, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let exited = start_run(User::Current, &[], &[program.to_str().unwrap(), "-u"]).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (0, "65534\n"), "{exited:?}");
}
