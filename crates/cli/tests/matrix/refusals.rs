//! A bind that the kernel refuses under `run`: the program gets the error, and the user the reason
//! and a hint.

use std::path::Path;

use crate::harness::{
    self, Process, User, c_program, descendants, free_port, is_root, sameport, start_command,
    start_run,
};
use crate::programs::installed;

/// The command line of `who.c` on 127.0.0.1.
fn who(protocol: &str, port: u16) -> [String; 4] {
    let program = c_program("who", &["-static"]).to_str().unwrap().to_owned();
    [program, protocol.to_owned(), "127.0.0.1".to_owned(), port.to_string()]
}

/// Starts `who.c` without `run`, and waits until it has bound the port.
fn start_alone(user: User, protocol: &str, port: u16) -> Process {
    let command = who(protocol, port);
    let program = start_command(user, &command[0], &command[1..]);
    until_listed(&program, port);
    program
}

fn start_shared(user: User, protocol: &str, port: u16) -> Process {
    let run = start_run(user, &[], &who(protocol, port));
    until_listed(&run, port);
    run
}

fn until_listed(program: &Process, port: u16) {
    let listed = harness::eventually(|| {
        let exited = harness::start(User::Current, &["ls", &port.to_string()]).wait();
        (exited.code == 0).then_some(())
    });
    assert!(listed.is_some(), "nobody is on {port}: {}", program.stderr());
}

/// The name of the user in the user database.
fn name(user: User) -> String {
    let id = match user {
        User::Current => std::fs::metadata("/proc/self").map(|me| {
            use std::os::unix::fs::MetadataExt as _;
            me.uid()
        }),
        User::Nobody => Ok(65534),
    };
    let id = id.unwrap().to_string();
    std::fs::read_to_string("/etc/passwd")
        .unwrap()
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|entry| entry.get(2) == Some(&id.as_str()))
        .map_or(id.clone(), |entry| entry[0].to_owned())
}

/// Asserts that under `run` the program exits with 1 and prints this on stderr.
#[track_caller]
fn assert_refused(user: User, options: &[&str], command: &[String], stderr: &[&str]) {
    assert_eq!(refused(user, options, command), stderr);
}

/// The lines of a refused program and of its supervisor, the program's first.
fn refused(user: User, options: &[&str], command: &[String]) -> Vec<String> {
    let exited = start_run(user, options, command).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
    let mut lines: Vec<String> = exited.stderr.lines().map(str::to_owned).collect();
    // The program and its supervisor write concurrently.
    lines.sort_by_key(|line| !line.starts_with("bind: "));
    lines
}

const IN_USE: &str = "bind: Address already in use";

#[test]
fn port_held_without_sharing() {
    for user in User::all() {
        for protocol in ["tcp", "udp"] {
            let port = free_port();
            let holder = start_alone(*user, protocol, port);
            let error = format!(
                "sameport: error: port {port} is held by who-static.bin (pid {}, user {}) \
                 without SO_REUSEPORT",
                holder.pid(),
                name(*user)
            );
            let words = who(protocol, port).join(" ");
            let hint = format!(
                "sameport: hint: share it: pid {} started again in {} under `sameport run -- {words}`, \
                 and this run with --join; `sameport why 127.0.0.1:{port}/{protocol} --reuse-port` \
                 lists what else would work",
                holder.pid(),
                harness::in_test_dir("").display().to_string().trim_end_matches('/')
            );
            // The shell or the harness that started the holder may be named, too.
            let stderr = refused(*user, &[], &who(protocol, port));
            assert_eq!(stderr[0], IN_USE);
            assert!(stderr[1].starts_with(&error[..error.len() - " without SO_REUSEPORT".len()]));
            assert!(stderr[1].ends_with(" without SO_REUSEPORT"), "{stderr:?}");
            assert_eq!(stderr[2..], [hint]);
            assert_refused(*user, &["-n", "1", "-q"], &who(protocol, port), &[IN_USE]);
            holder.terminate();
        }
    }
}

#[test]
fn port_held_by_another_user() {
    if !is_root() {
        return harness::skip("port-of-another-user", "it takes root to be two users");
    }
    for protocol in ["tcp", "udp"] {
        for start_holder in [start_alone, start_shared] {
            // Root sees the process, but cannot share either.
            let port = free_port();
            let holder = start_holder(User::Nobody, protocol, port);
            let pid = descendants(holder.pid()).first().copied().unwrap_or(holder.pid());
            let error = format!(
                "sameport: error: port {port} is held by who-static.bin (pid {pid}, user {})",
                name(User::Nobody)
            );
            assert_foreign(User::Current, protocol, port, &error, "sameport: hint: kill ");
            holder.terminate();

            // Other users see only the owner.
            let port = free_port();
            let holder = start_holder(User::Current, protocol, port);
            let error = format!(
                "sameport: error: port {port} is held by a program that cannot be seen from here \
                 (user root)"
            );
            let hint = "sameport: hint: ask again as root, who sees the program; ";
            assert_foreign(User::Nobody, protocol, port, &error, hint);
            holder.terminate();
        }
    }
}

/// Another user's socket is in the way.
fn assert_foreign(user: User, protocol: &str, port: u16, error: &str, hint: &str) {
    let stderr = refused(user, &[], &who(protocol, port));
    assert_eq!((stderr.len(), stderr[0].as_str()), (3, IN_USE), "{stderr:?}");
    assert!(stderr[1].starts_with(error), "{stderr:?}");
    assert!(stderr[1].ends_with(": only one user's sockets can share"), "{stderr:?}");
    assert!(stderr[2].starts_with(hint), "{stderr:?}");
    let why = format!("`sameport why 127.0.0.1:{port}/{protocol} --reuse-port`");
    assert!(stderr[2].contains(&why), "{stderr:?}");
}

/// A network namespace has the kernel's default settings.
#[test]
fn low_port_without_privilege() {
    let tools = [installed("unshare"), installed("setpriv")];
    let ([Ok(unshare), Ok(setpriv)], true) = (tools, is_root()) else {
        return harness::skip("low-port", "needs root, unshare and setpriv");
    };
    let program = c_program("who", &["-static"]);
    let command = [
        Path::new("--net"),
        Path::new(&setpriv),
        Path::new("--reuid=65534"),
        Path::new("--regid=65534"),
        Path::new("--clear-groups"),
        sameport(),
        Path::new("run"),
        Path::new("--"),
        &program,
        Path::new("tcp"),
        Path::new("0.0.0.0"),
        Path::new("81"),
    ];
    let exited = start_command(User::Current, unshare, &command).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
    for line in [
        "bind: Permission denied\n",
        "sameport: error: port 81 was refused: a port this low needs CAP_NET_BIND_SERVICE\n\
         sameport: hint: run as root, or as root: sysctl \
         net.ipv4.ip_unprivileged_port_start=81 for every user; `sameport why 0.0.0.0:81/tcp \
         --reuse-port` lists the other ways\n",
    ] {
        assert!(exited.stderr.contains(line), "{exited:?}");
    }
}

#[test]
fn address_of_no_interface() {
    for user in User::all() {
        for protocol in ["tcp", "udp"] {
            let port = free_port();
            let mut command = who(protocol, port);
            // An address reserved for documentation (RFC 5737).
            command[2] = "192.0.2.1".to_owned();
            let error = format!(
                "sameport: error: 192.0.2.1:{port} was refused: no interface of this machine has \
                 that address"
            );
            let hint = "sameport: hint: `ip address` lists the ones it has; --freebind binds one \
                        that none has yet";
            let not_here = "bind: Cannot assign requested address";
            // Several times: the program exits on the refusal, and the reason must not come too
            // late.
            for _ in 0..20 {
                assert_refused(*user, &[], &command, &[not_here, &error, hint]);
            }
            assert_refused(*user, &["--quiet"], &command, &[not_here]);
        }
    }
}

#[test]
fn quiet_prints_nothing_about_sharing() {
    for user in User::all() {
        let port = free_port();
        let first = start_run(*user, &["-q"], &who("tcp", port));
        until_listed(&first, port);
        let loud = start_run(*user, &[], &who("tcp", port));
        loud.wait_for_stderr(&format!("127.0.0.1:{port}/tcp is now shared by 2: pid "));
        let quiet = start_run(*user, &["-q", "-n", "2"], &who("tcp", port));
        let shared_by_four = harness::eventually(|| {
            (crate::two_copies::list(*user, port)["groups"][0]["members"].as_array()?.len() == 4)
                .then_some(())
        });
        assert!(shared_by_four.is_some());
        for run in [quiet, first] {
            let exited = run.terminate();
            assert_eq!((exited.stdout.as_str(), exited.stderr.as_str()), ("", ""));
        }
        loud.terminate();
    }
}
