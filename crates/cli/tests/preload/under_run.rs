//! End-to-end tests of `sameport run --via preload`.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use crate::harness::{
    Exited, Process, SOCKET_TIMEOUT, User, ask, c_program, chown_to, command_for, eventually,
    find_program, free_port, in_test_dir, is_root, kill, sameport, skip, spawn_process,
    start_command, start_run,
};

fn address(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

fn calls() -> String {
    c_program("preload_calls", &[]).into_os_string().into_string().unwrap()
}

/// `sameport run --via preload OPTIONS -- COMMAND`.
fn run(user: User, options: &[&str], command: &[&str]) -> Process {
    start_run(user, &[&["--via", "preload"], options].concat(), command)
}

/// `run` with additional variables.
fn run_with(
    user: User,
    variables: &[(&str, &OsStr)],
    options: &[&str],
    command: &[&str],
) -> Process {
    let arguments = [&["run", "--via", "preload"], options, &["--"], command].concat();
    let mut built = command_for(user, sameport(), &arguments);
    built.envs(variables.iter().copied());
    spawn_process(built)
}

/// The stdout of a run that must exit with 0 and an empty stderr.
#[track_caller]
fn quiet_stdout(exited: Exited) -> String {
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    exited.stdout
}

#[test]
fn two_runs_share_and_report_each_other() {
    let who = c_program("who", &[]);
    for user in User::all() {
        for ip in ["127.0.0.1", "::1"] {
            let port = free_port();
            let command = [who.to_str().unwrap(), "tcp", ip, &port.to_string()];
            let first = run(*user, &[], &command);
            crate::harness::wait_until_answering(address(ip, port));
            let second = run(*user, &["--port", &port.to_string()], &command);
            second.wait_for_stderr(" is now shared by 2: pid ");
            let mut pids = std::collections::BTreeSet::new();
            let both = eventually(|| {
                pids.insert(ask(address(ip, port), b"").ok()?);
                (pids.len() == 2).then_some(())
            });
            assert!(both.is_some(), "{pids:?}");
            for run in [first, second] {
                let exited = run.terminate();
                assert_eq!((exited.code, &*exited.stdout), (128 + libc::SIGTERM, ""), "{exited:?}");
            }
        }
    }
}

#[test]
fn binds_are_mapped() {
    // Per case: the requested address, the rule, the resulting address.
    let cases = [
        ("0.0.0.0", "ASKED=GIVEN", "0.0.0.0 GIVEN"),
        ("0.0.0.0", "ASKED=127.0.0.2:GIVEN", "127.0.0.2 GIVEN"),
        ("127.0.0.1", "127.0.0.1=127.0.0.3", "127.0.0.3 ASKED"),
        ("::", "ASKED=GIVEN", ":: GIVEN"),
        ("::", "[::]:ASKED=[::1]:GIVEN", "::1 GIVEN"),
        ("::1", "[::1]:ASKED=GIVEN", "::1 GIVEN"),
    ];
    for user in User::all() {
        for protocol in ["tcp", "udp"] {
            for (asked, rule, expected) in cases {
                let (old, new) = (free_port().to_string(), free_port().to_string());
                let fill = |text: &str| text.replace("ASKED", &old).replace("GIVEN", &new);
                let command = [&*calls(), "bind", protocol, asked, &old];
                let printed = quiet_stdout(run(*user, &["--map", &fill(rule)], &command).wait());
                let expected = format!("0 {} port=1 address=0 transparent=0\n", fill(expected));
                assert_eq!(printed, expected, "{rule}");
            }
        }
    }
}

#[test]
fn failed_and_unused_rules_are_reported() {
    let (old, new) = (free_port().to_string(), free_port());
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &old];
    // An address that stands for none of the other family, as `[::1]` does for 127.0.0.1.
    let map = format!("{old}=[2001:db8::1]:{new}");
    let exited = run(User::Current, &["--freebind", "--map", &map], &command).wait();
    assert!(exited.stdout.starts_with("EAFNOSUPPORT "), "{exited:?}");
    let printed = format!("error: --map {map}: the program's socket for 127.0.0.1:{old} ");
    assert!(exited.stderr.contains(&printed), "{exited:?}");

    let options = ["--map", "5=6", "--source", "127.0.0.9"];
    let exited = run(User::Current, &options, &["true"]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stderr.contains("warning: --map 5=6 was never used"), "{exited:?}");
    assert!(exited.stderr.contains("warning: --source 127.0.0.9 was never used"), "{exited:?}");
}

#[test]
fn connections_come_from_the_source() {
    for user in User::all() {
        for (to, source) in [("127.0.0.1", "127.0.0.9"), ("::1", "[::1]")] {
            let port = free_port();
            let fixed = format!("{source}:{port}");
            let peer = UdpSocket::bind(address(to, 0)).unwrap();
            peer.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
            let udp = peer.local_addr().unwrap().port().to_string();
            for how in ["udp", "sendto"] {
                quiet_stdout(
                    run(*user, &["--source", &fixed], &[&calls(), "send", how, to, &udp]).wait(),
                );
                let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(from.to_string(), fixed);
            }
            let peer = TcpListener::bind(address(to, 0)).unwrap();
            let tcp = peer.local_addr().unwrap().port().to_string();
            let client = run(*user, &["--source", source], &[&calls(), "send", "tcp", to, &tcp]);
            let (mut connection, from) = peer.accept().unwrap();
            assert_eq!(from.ip().to_string(), source.trim_matches(['[', ']']));
            std::io::Read::read_exact(&mut connection, &mut [0; 5]).unwrap();
            drop(connection);
            quiet_stdout(client.wait());
        }
    }
}

#[test]
fn transparent_binds_a_foreign_address() {
    if !is_root() {
        return skip("preload-transparent", "needs root");
    }
    let port = free_port().to_string();
    for (asked, strange) in [("0.0.0.0", "192.0.2.77"), ("::", "[2001:db8::77]")] {
        let options = ["--transparent", "--map", &format!("{port}={strange}")];
        let command = [&*calls(), "bind", "tcp", asked, &port];
        let printed = quiet_stdout(run(User::Current, &options, &command).wait());
        let plain = strange.trim_matches(['[', ']']);
        assert_eq!(printed, format!("0 {plain} {port} port=1 address=0 transparent=1\n"));
    }
}

/// Refused before the program runs, which would create a file.
#[test]
fn static_programs_are_refused() {
    let program = c_program("preload_calls", &["-static"]);
    let port = free_port().to_string();
    let command = [program.to_str().unwrap(), "bind", "tcp", "127.0.0.1", &port];
    for user in User::all() {
        let exited = run(*user, &[], &command).wait();
        assert_eq!((exited.code, &*exited.stdout), (3, ""), "{exited:?}");
        let printed = format!(
            "error: {} is statically linked and loads no library\nhint: use --via seccomp\n",
            command[0]
        );
        assert_eq!(exited.stderr, printed);
    }
}

/// A copy that another user can execute and cannot read.
fn unreadable(program: &Path) -> PathBuf {
    let hidden = in_test_dir(format!("unreadable-{}", program.file_name().unwrap().display()));
    let (from, to) = (program.to_str().unwrap(), hidden.to_str().unwrap());
    for command in [["cp", from, to], ["chmod", "0711", to]] {
        assert_eq!(start_command(User::Current, command[0], &command[1..]).wait().code, 0);
    }
    hidden
}

#[test]
fn program_without_the_library_is_stopped() {
    if !is_root() {
        return skip("preload-not-loaded", "an unreadable file is readable by its owner");
    }
    let program = c_program("preload_calls", &["-static"]);
    let hidden = unreadable(&program);
    let port = free_port().to_string();
    let exited = run(User::Nobody, &[], &[hidden.to_str().unwrap(), "signal", &port]).wait();
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.starts_with("error: the program did not load /"), "{exited:?}");
}

/// A signal does not wait for a report of the program. A program that lives on without the library
/// is reported.
#[test]
fn signal_acts_while_the_report_is_awaited() {
    if !is_root() {
        return skip("preload-not-loaded", "an unreadable file is readable by its owner");
    }
    let hidden = unreadable(&c_program("who", &["-static"]));
    let port = free_port();
    let command = [hidden.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];
    let waited_for = run(User::Nobody, &[], &command);
    crate::harness::wait_until_answering(address("127.0.0.1", port));
    let exited = waited_for.terminate();
    assert_eq!((exited.code, &*exited.stderr), (128 + libc::SIGTERM, ""), "{exited:?}");

    let start = [sameport().to_str().unwrap(), "run", "--via", "preload", "--"];
    let deaf = start_command(User::Nobody, "nohup", &[&start[..], &command].concat());
    crate::harness::wait_until_answering(address("127.0.0.1", port));
    deaf.signal(libc::SIGHUP);
    deaf.wait_for_stderr("did not load the preload library and did not end when asked");
    assert_eq!(deaf.terminate().code, 128 + libc::SIGTERM);
}

/// Inside a run that has the only seccomp listener, the library is the fallback.
#[test]
fn run_inside_a_run_falls_back() {
    let port = free_port().to_string();
    let (sameport, calls) = (sameport().to_str().unwrap(), calls());
    let inner = [sameport, "run", "--", &calls, "bind", "tcp", "127.0.0.1", &port];
    for user in User::all() {
        let exited = start_run(*user, &["--via", "seccomp"], &inner).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        assert_eq!(exited.stdout, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
        assert!(exited.stderr.contains("preload"), "{exited:?}");
    }
    // The rules of the inner run apply, once: its library replaces the outer one's.
    let (old, middle, new) = (free_port().to_string(), free_port(), free_port());
    let first = format!("{old}={middle}");
    let second = format!("{middle}={new}");
    let inner = [
        sameport,
        "run",
        "--via",
        "preload",
        "--map",
        &first,
        "--",
        &calls,
        "bind",
        "tcp",
        "127.0.0.1",
        &old,
    ];
    let exited = run(User::Current, &["--map", &second], &inner).wait();
    let bound = format!("0 127.0.0.1 {middle} port=1 address=0 transparent=0\n");
    assert_eq!(exited.stdout, bound, "{exited:?}");
}

#[test]
fn children_share_unless_told_otherwise() {
    let (calls, port) = (calls(), free_port().to_string());
    let script = format!("{calls} bind tcp 127.0.0.1 {port}; exit 7");
    for (options, shared) in
        [(&[][..], 1), (&["--children", "inherit"][..], 1), (&["--children", "strip"][..], 0)]
    {
        let exited = run(User::Current, options, &["sh", "-c", &script]).wait();
        let bound = format!("0 127.0.0.1 {port} port={shared} address=0 transparent=0\n");
        assert_eq!((exited.code, &*exited.stdout), (7, &*bound), "{options:?}: {exited:?}");
    }
}

/// A worker that changes its user and then executes a program can still load the library.
#[test]
fn worker_can_change_its_user() {
    let (true, Some(_)) = (is_root(), find_program("setpriv")) else {
        return skip("preload-other-user", "needs root and setpriv");
    };
    let (calls, port) = (calls(), free_port().to_string());
    let mut command = vec!["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    command.extend([&*calls, "bind", "tcp", "127.0.0.1", &*port]);
    let printed = quiet_stdout(run(User::Current, &[], &command).wait());
    assert_eq!(printed, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
}

#[test]
fn other_preloaded_libraries_stay() {
    let neighbour = c_program("preload_neighbour", &["-shared", "-fPIC"]);
    let (old, new) = (free_port().to_string(), free_port());
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &old];
    let variables = [("LD_PRELOAD", neighbour.as_os_str())];
    let started =
        run_with(User::Current, &variables, &["--map", &format!("{old}={new}")], &command);
    let exited = started.wait();
    assert_eq!((exited.code, &*exited.stderr), (0, &*format!("neighbour {new}\n")), "{exited:?}");
    assert!(exited.stdout.starts_with(&format!("0 127.0.0.1 {new} port=1 ")), "{exited:?}");
}

/// Under `run`, bindp's variables have no effect and stay in the environment.
#[test]
fn bindp_variables_have_no_effect() {
    let port = free_port().to_string();
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &port];
    let variables = [
        ("BIND_ADDR", OsStr::new("tcp://db:80")),
        ("BIND_PORT", OsStr::new("9")),
        ("SAMEPORT_MAP", OsStr::new("nonsense")),
    ];
    let printed = quiet_stdout(run_with(User::Current, &variables, &[], &command).wait());
    assert_eq!(printed, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
}

fn library_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("sameport")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// One file exists while a run exists, and none afterwards. The next run removes the file of a
/// killed run.
#[test]
fn run_leaves_no_file() {
    if !is_root() {
        return skip("preload-left-behind", "needs to be root and another user");
    }
    let dir = in_test_dir("preload-runtime");
    std::fs::create_dir_all(&dir).unwrap();
    chown_to(&dir, User::Nobody);
    let variables = [("XDG_RUNTIME_DIR", dir.as_os_str())];
    let who = c_program("who", &[]);
    let serving = |port: u16| {
        let port_text = port.to_string();
        let command = [who.to_str().unwrap(), "tcp", "127.0.0.1", &port_text];
        let started = run_with(User::Nobody, &variables, &[], &command);
        crate::harness::wait_until_answering(address("127.0.0.1", port));
        started
    };
    let first = serving(free_port());
    assert_eq!(library_files(&dir).len(), 1);
    let second = serving(free_port());
    assert_eq!(library_files(&dir).len(), 2);
    first.terminate();
    assert_eq!(library_files(&dir).len(), 1);

    let workers = crate::harness::descendants(second.pid());
    kill(second.pid(), libc::SIGKILL);
    assert_eq!(second.wait().code, 128 + libc::SIGKILL);
    let left = library_files(&dir);
    assert_eq!(left.len(), 1, "a killed run cannot clean up");
    let third = serving(free_port());
    let now = library_files(&dir);
    assert!(now.len() == 1 && now != left, "{left:?} {now:?}");
    third.terminate();
    assert_eq!(library_files(&dir), [] as [PathBuf; 0]);
    assert!(!dir.join("sameport").exists());
    for worker in workers {
        kill(worker, libc::SIGKILL);
    }
}

/// Many systems mount /run with noexec, so the file is elsewhere.
#[test]
fn noexec_directory_is_skipped() {
    let (true, Some(_)) = (is_root(), find_program("unshare")) else {
        return skip("preload-noexec", "needs root and unshare");
    };
    let (calls, port) = (calls(), free_port().to_string());
    let script = "mount -t tmpfs -o noexec,mode=755 tmpfs /run || exit 99; \
                  \"$@\" && ls /run && ls /tmp/sameport-0";
    let sameport = sameport().to_str().unwrap();
    let show = format!("{calls} bind tcp 127.0.0.1 {port}; echo $LD_PRELOAD");
    let command = ["-m", "sh", "-c", script, "sh", sameport, "run", "--via", "preload", "--", "sh"];
    let exited = start_command(User::Current, "unshare", &[&command[..], &["-c", &show]].concat());
    let exited = exited.wait();
    if exited.code == 99 || exited.stderr.starts_with("unshare: ") {
        return skip("preload-noexec", &exited.stderr);
    }
    let mut lines = exited.stdout.lines();
    let bound = format!("0 127.0.0.1 {port} port=1 address=0 transparent=0");
    assert_eq!(lines.next(), Some(&*bound), "{exited:?}");
    let file = lines.next().unwrap_or_default();
    assert!(file.starts_with("/tmp/sameport-0/libsameport_preload-"), "{exited:?}");
    // No file remains in /run or in the other directory.
    assert!(lines.all(|line| !line.starts_with("sameport") && !file.ends_with(line)), "{exited:?}");
}

#[test]
fn streams_and_exit_codes_are_unchanged() {
    let script = "printf 'a\\0b'; printf 'e' >&2; exit 42";
    let exited = run(User::Current, &["--quiet"], &["sh", "-c", script]).wait();
    assert_eq!((exited.code, &*exited.stdout, &*exited.stderr), (42, "a\0b", "e"));
    let exited = run(User::Current, &[], &["sh", "-c", "kill -9 $$"]).wait();
    assert_eq!(exited.code, 128 + libc::SIGKILL, "{exited:?}");
    let exited = run(User::Current, &[], &["/no/such/program"]).wait();
    assert_eq!(exited.code, 127, "{exited:?}");
}
