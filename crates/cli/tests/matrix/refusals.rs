//! A bind that the kernel refuses under `run`: the program gets its own error, and the user the
//! reason and the next step.

use std::path::Path;

use crate::harness::{
    self, Process, User, c_program, descendants, free_port, is_root, sameport, start_command,
    start_run,
};
use crate::programs::installed;

/// `who.c` on 127.0.0.1, by this protocol.
fn who(protocol: &str, port: u16) -> [String; 4] {
    let program = c_program("who", &["-static"]).to_str().unwrap().to_owned();
    [program, protocol.to_owned(), "127.0.0.1".to_owned(), port.to_string()]
}

/// Starts it without `run`, and waits until it has the port.
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

/// The user's name, as the system knows it.
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

/// Under `run`, as this user, `who.c` ends with 1 and this on stderr.
#[track_caller]
fn is_refused(user: User, options: &[&str], command: &[String], stderr: &[&str]) {
    let exited = start_run(user, options, command).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
    let mut lines: Vec<_> = exited.stderr.lines().collect();
    // The program and its supervisor write at the same time.
    lines.sort_unstable_by_key(|line| !line.starts_with("bind: "));
    assert_eq!(lines, stderr, "{exited:?}");
}

const IN_USE: &str = "bind: Address already in use";

#[test]
fn held_without_sharing() {
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
            let hint = "sameport: hint: restart it under `sameport run -- who-static.bin …`, or \
                        pick another port";
            is_refused(*user, &[], &who(protocol, port), &[IN_USE, &error, hint]);
            is_refused(*user, &["-n", "1", "-q"], &who(protocol, port), &[IN_USE]);
            holder.terminate();
        }
    }
}

#[test]
fn held_by_another_user() {
    if !is_root() {
        return harness::skip("port-of-another-user", "it takes root to be two users");
    }
    let hint = "sameport: hint: run as that user, or pick another port";
    for protocol in ["tcp", "udp"] {
        for start_holder in [start_alone, start_shared] {
            // Root sees who it is; being root does not help.
            let port = free_port();
            let holder = start_holder(User::Nobody, protocol, port);
            let pid = descendants(holder.pid()).first().copied().unwrap_or(holder.pid());
            let error = format!(
                "sameport: error: port {port} is held by who-static.bin (pid {pid}, user {}): only \
                 one user's sockets can share",
                name(User::Nobody)
            );
            is_refused(User::Current, &[], &who(protocol, port), &[IN_USE, &error, hint]);
            holder.terminate();

            // Others see the owner only.
            let port = free_port();
            let holder = start_holder(User::Current, protocol, port);
            let error = format!(
                "sameport: error: port {port} is held by a program of user root (root can see \
                 which): only one user's sockets can share"
            );
            is_refused(User::Nobody, &[], &who(protocol, port), &[IN_USE, &error, hint]);
            holder.terminate();
        }
    }
}

/// In a network namespace of its own, where the system's settings are the kernel's defaults.
#[test]
fn low_port_without_privilege() {
    let tools = [installed("unshare"), installed("setpriv")];
    let ([Ok(unshare), Ok(setpriv)], true) = (tools, is_root()) else {
        return harness::skip("low-port", "it takes root, unshare and setpriv");
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
         sameport: hint: run as root, or open it to everybody: sysctl \
         net.ipv4.ip_unprivileged_port_start=81\n",
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
            // Set aside for documentation: nobody has it.
            command[2] = "192.0.2.1".to_owned();
            let error = format!(
                "sameport: error: 192.0.2.1:{port} was refused: no interface of this machine has \
                 that address"
            );
            let hint = "sameport: hint: `ip address` lists the ones it has";
            let not_here = "bind: Cannot assign requested address";
            // Often, because the program ends the moment that it is refused, and the reason must not
            // come too late.
            for _ in 0..20 {
                is_refused(*user, &[], &command, &[not_here, &error, hint]);
            }
            is_refused(*user, &["--quiet"], &command, &[not_here]);
        }
    }
}

#[test]
fn quiet_says_nothing_of_sharing_either() {
    for user in User::all() {
        let port = free_port();
        let first = start_run(*user, &["-q"], &who("tcp", port));
        until_listed(&first, port);
        let loud = start_run(*user, &[], &who("tcp", port));
        loud.wait_for_stderr(&format!("127.0.0.1:{port} is now shared by 2: pid "));
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
