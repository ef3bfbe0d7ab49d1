//! `sameport run --via preload`, end to end.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use crate::stage::{
    Ended, PATIENCE, Started, User, ask, c_program, command_for, eventually, find_program,
    free_port, give, in_folder, is_root, kill, sameport, skip, start_built, start_command,
    start_run,
};

fn at(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

fn calls() -> String {
    c_program("preload_calls", &[]).into_os_string().into_string().unwrap()
}

/// `sameport run --via preload OPTIONS -- COMMAND`.
fn run(user: User, options: &[&str], command: &[&str]) -> Started {
    start_run(user, &[&["--via", "preload"], options].concat(), command)
}

/// The same with variables of the caller's.
fn run_with(
    user: User,
    variables: &[(&str, &OsStr)],
    options: &[&str],
    command: &[&str],
) -> Started {
    let arguments = [&["run", "--via", "preload"], options, &["--"], command].concat();
    let mut built = command_for(user, sameport(), &arguments);
    built.envs(variables.iter().copied());
    start_built(built)
}

/// Its stdout, where it ends well and says nothing itself.
#[track_caller]
fn quiet(ended: Ended) -> String {
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    ended.stdout
}

#[test]
fn two_runs_share_and_are_told_of_each_other() {
    let who = c_program("who", &[]);
    for user in User::all() {
        for ip in ["127.0.0.1", "::1"] {
            let port = free_port();
            let command = [who.to_str().unwrap(), "tcp", ip, &port.to_string()];
            let first = run(*user, &[], &command);
            crate::stage::wait_until_answering(at(ip, port));
            let second = run(*user, &["--port", &port.to_string()], &command);
            second.wait_for_stderr(" is now shared by 2: pid ");
            let mut pids = std::collections::BTreeSet::new();
            let both = eventually(|| {
                pids.insert(ask(at(ip, port), b"").ok()?);
                (pids.len() == 2).then_some(())
            });
            assert!(both.is_some(), "{pids:?}");
            for run in [first, second] {
                let ended = run.terminate();
                assert_eq!((ended.code, &*ended.stdout), (128 + libc::SIGTERM, ""), "{ended:?}");
            }
        }
    }
}

#[test]
fn binds_are_moved() {
    // What is asked for, the rule, and what it then is.
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
                let said = quiet(run(*user, &["--map", &fill(rule)], &command).ended());
                let expected = format!("0 {} port=1 address=0 transparent=0\n", fill(expected));
                assert_eq!(said, expected, "{rule}");
            }
        }
    }
}

#[test]
fn what_cannot_be_or_is_not_used_is_said() {
    let (old, new) = (free_port().to_string(), free_port());
    let command = [&*calls(), "bind", "tcp", "0.0.0.0", &old];
    let other_family = run(User::Ourselves, &["--map", &format!("{old}=[::1]:{new}")], &command);
    let ended = other_family.ended();
    assert!(ended.stdout.starts_with("EAFNOSUPPORT "), "{ended:?}");
    let said = format!("error: --map {old}=[::1]:{new}: the program's socket for 0.0.0.0:{old} ");
    assert!(ended.stderr.contains(&said), "{ended:?}");

    let options = ["--map", "5=6", "--source", "127.0.0.9"];
    let ended = run(User::Ourselves, &options, &["true"]).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("warning: --map 5=6 was never used"), "{ended:?}");
    assert!(ended.stderr.contains("warning: --source 127.0.0.9 was never used"), "{ended:?}");
}

#[test]
fn connections_come_from_the_source() {
    for user in User::all() {
        for (to, source) in [("127.0.0.1", "127.0.0.9"), ("::1", "[::1]")] {
            let port = free_port();
            let fixed = format!("{source}:{port}");
            let peer = UdpSocket::bind(at(to, 0)).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let udp = peer.local_addr().unwrap().port().to_string();
            for how in ["udp", "sendto"] {
                quiet(
                    run(*user, &["--source", &fixed], &[&calls(), "send", how, to, &udp]).ended(),
                );
                let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(from.to_string(), fixed);
            }
            let peer = TcpListener::bind(at(to, 0)).unwrap();
            let tcp = peer.local_addr().unwrap().port().to_string();
            let client = run(*user, &["--source", source], &[&calls(), "send", "tcp", to, &tcp]);
            let (mut connection, from) = peer.accept().unwrap();
            assert_eq!(from.ip().to_string(), source.trim_matches(['[', ']']));
            std::io::Read::read_exact(&mut connection, &mut [0; 5]).unwrap();
            drop(connection);
            quiet(client.ended());
        }
    }
}

#[test]
fn transparent_takes_an_address_that_is_not_ours() {
    if !is_root() {
        return skip("preload-transparent", "needs root");
    }
    let port = free_port().to_string();
    for (asked, strange) in [("0.0.0.0", "192.0.2.77"), ("::", "[2001:db8::77]")] {
        let options = ["--transparent", "--map", &format!("{port}={strange}")];
        let command = [&*calls(), "bind", "tcp", asked, &port];
        let said = quiet(run(User::Ourselves, &options, &command).ended());
        let plain = strange.trim_matches(['[', ']']);
        assert_eq!(said, format!("0 {plain} {port} port=1 address=0 transparent=1\n"));
    }
}

/// Refused before anything runs: the program would leave a file.
#[test]
fn static_programs_are_refused_before_they_start() {
    let program = c_program("preload_calls", &["-static"]);
    let port = free_port().to_string();
    let command = [program.to_str().unwrap(), "bind", "tcp", "127.0.0.1", &port];
    for user in User::all() {
        let ended = run(*user, &[], &command).ended();
        assert_eq!((ended.code, &*ended.stdout), (3, ""), "{ended:?}");
        let said = format!(
            "error: {} is statically linked, and loads no library\nhint: use --via seccomp\n",
            command[0]
        );
        assert_eq!(ended.stderr, said);
    }
}

/// A copy that another user can execute, and not look into beforehand.
fn unreadable(program: &Path) -> PathBuf {
    let hidden = in_folder(format!("unreadable-{}", program.file_name().unwrap().display()));
    let (from, to) = (program.to_str().unwrap(), hidden.to_str().unwrap());
    for command in [["cp", from, to], ["chmod", "0711", to]] {
        assert_eq!(start_command(User::Ourselves, command[0], &command[1..]).ended().code, 0);
    }
    hidden
}

#[test]
fn a_program_that_did_not_load_the_library_is_ended() {
    if !is_root() {
        return skip("preload-not-loaded", "an unreadable file is readable by its owner");
    }
    let program = c_program("preload_calls", &["-static"]);
    let hidden = unreadable(&program);
    let port = free_port().to_string();
    let ended = run(User::Another, &[], &[hidden.to_str().unwrap(), "signal", &port]).ended();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.starts_with("error: the program did not load /"), "{ended:?}");
}

/// A signal does not wait for a program that may never report; and who lives on unreached is told of.
#[test]
fn a_signal_acts_while_the_library_is_waited_for() {
    if !is_root() {
        return skip("preload-not-loaded", "an unreadable file is readable by its owner");
    }
    let hidden = unreadable(&c_program("who", &["-static"]));
    let port = free_port();
    let command = [hidden.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];
    let waited_for = run(User::Another, &[], &command);
    crate::stage::wait_until_answering(at("127.0.0.1", port));
    let ended = waited_for.terminate();
    assert_eq!((ended.code, &*ended.stderr), (128 + libc::SIGTERM, ""), "{ended:?}");

    let start = [sameport().to_str().unwrap(), "run", "--via", "preload", "--"];
    let deaf = start_command(User::Another, "nohup", &[&start[..], &command].concat());
    crate::stage::wait_until_answering(at("127.0.0.1", port));
    deaf.signal(libc::SIGHUP);
    deaf.wait_for_stderr("did not load the preload library, and has not ended as it was told to");
    assert_eq!(deaf.terminate().code, 128 + libc::SIGTERM);
}

/// Inside a run that has the one listener the kernel allows, the library is the way that is left.
#[test]
fn a_run_inside_a_run_falls_back() {
    let port = free_port().to_string();
    let (sameport, calls) = (sameport().to_str().unwrap(), calls());
    let inner = [sameport, "run", "--", &calls, "bind", "tcp", "127.0.0.1", &port];
    for user in User::all() {
        let ended = start_run(*user, &["--via", "seccomp"], &inner).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stdout, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
        assert!(ended.stderr.contains("preload"), "{ended:?}");
    }
    // The inner run's rules count, once: its library takes the place of the outer one's.
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
    let ended = run(User::Ourselves, &["--map", &second], &inner).ended();
    let bound = format!("0 127.0.0.1 {middle} port=1 address=0 transparent=0\n");
    assert_eq!(ended.stdout, bound, "{ended:?}");
}

#[test]
fn children_are_reached_or_not() {
    let (calls, port) = (calls(), free_port().to_string());
    let script = format!("{calls} bind tcp 127.0.0.1 {port}; exit 7");
    for (options, shared) in
        [(&[][..], 1), (&["--children", "inherit"][..], 1), (&["--children", "strip"][..], 0)]
    {
        let ended = run(User::Ourselves, options, &["sh", "-c", &script]).ended();
        let bound = format!("0 127.0.0.1 {port} port={shared} address=0 transparent=0\n");
        assert_eq!((ended.code, &*ended.stdout), (7, &*bound), "{options:?}: {ended:?}");
    }
}

/// A worker that becomes another user and then executes a program can still load the file.
#[test]
fn a_worker_may_become_another_user() {
    let (true, Some(_)) = (is_root(), find_program("setpriv")) else {
        return skip("preload-other-user", "needs root and setpriv");
    };
    let (calls, port) = (calls(), free_port().to_string());
    let mut command = vec!["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    command.extend([&*calls, "bind", "tcp", "127.0.0.1", &*port]);
    let said = quiet(run(User::Ourselves, &[], &command).ended());
    assert_eq!(said, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
}

#[test]
fn other_preloaded_libraries_stay() {
    let neighbour = c_program("preload_neighbour", &["-shared", "-fPIC"]);
    let (old, new) = (free_port().to_string(), free_port());
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &old];
    let variables = [("LD_PRELOAD", neighbour.as_os_str())];
    let started =
        run_with(User::Ourselves, &variables, &["--map", &format!("{old}={new}")], &command);
    let ended = started.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, &*format!("neighbour {new}\n")), "{ended:?}");
    assert!(ended.stdout.starts_with(&format!("0 127.0.0.1 {new} port=1 ")), "{ended:?}");
}

/// bindp's variables belong to the program where `run` gives the orders.
#[test]
fn variables_of_the_program_are_its_own() {
    let port = free_port().to_string();
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &port];
    let variables = [
        ("BIND_ADDR", OsStr::new("tcp://db:80")),
        ("BIND_PORT", OsStr::new("9")),
        ("SAMEPORT_MAP", OsStr::new("nonsense")),
    ];
    let said = quiet(run_with(User::Ourselves, &variables, &[], &command).ended());
    assert_eq!(said, format!("0 127.0.0.1 {port} port=1 address=0 transparent=0\n"));
}

fn placed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("sameport")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// One file while it runs and none afterwards; what a killed run leaves, the next one removes.
#[test]
fn nothing_is_left_of_a_run() {
    if !is_root() {
        return skip("preload-left-behind", "needs to be root and another user");
    }
    let folder = in_folder("preload-runtime");
    std::fs::create_dir_all(&folder).unwrap();
    give(&folder, User::Another);
    let variables = [("XDG_RUNTIME_DIR", folder.as_os_str())];
    let who = c_program("who", &[]);
    let serving = |port: u16| {
        let port_text = port.to_string();
        let command = [who.to_str().unwrap(), "tcp", "127.0.0.1", &port_text];
        let started = run_with(User::Another, &variables, &[], &command);
        crate::stage::wait_until_answering(at("127.0.0.1", port));
        started
    };
    let first = serving(free_port());
    assert_eq!(placed(&folder).len(), 1);
    let second = serving(free_port());
    assert_eq!(placed(&folder).len(), 2);
    first.terminate();
    assert_eq!(placed(&folder).len(), 1);

    let workers = crate::stage::descendants(second.pid());
    kill(second.pid(), libc::SIGKILL);
    assert_eq!(second.ended().code, 128 + libc::SIGKILL);
    let left = placed(&folder);
    assert_eq!(left.len(), 1, "a killed run cannot clean up");
    let third = serving(free_port());
    let now = placed(&folder);
    assert!(now.len() == 1 && now != left, "{left:?} {now:?}");
    third.terminate();
    assert_eq!(placed(&folder), [] as [PathBuf; 0]);
    assert!(!folder.join("sameport").exists());
    for worker in workers {
        kill(worker, libc::SIGKILL);
    }
}

/// Many systems mount /run so that nothing in it can be executed: the file then lies elsewhere.
#[test]
fn a_folder_that_is_mounted_noexec_is_passed_over() {
    let (true, Some(_)) = (is_root(), find_program("unshare")) else {
        return skip("preload-noexec", "needs root and unshare");
    };
    let (calls, port) = (calls(), free_port().to_string());
    let script = "mount -t tmpfs -o noexec,mode=755 tmpfs /run || exit 99; \
                  \"$@\" && ls /run && ls /tmp/sameport-0";
    let sameport = sameport().to_str().unwrap();
    let show = format!("{calls} bind tcp 127.0.0.1 {port}; echo $LD_PRELOAD");
    let command = ["-m", "sh", "-c", script, "sh", sameport, "run", "--via", "preload", "--", "sh"];
    let ended = start_command(User::Ourselves, "unshare", &[&command[..], &["-c", &show]].concat());
    let ended = ended.ended();
    if ended.code == 99 || ended.stderr.starts_with("unshare: ") {
        return skip("preload-noexec", &ended.stderr);
    }
    let mut lines = ended.stdout.lines();
    let bound = format!("0 127.0.0.1 {port} port=1 address=0 transparent=0");
    assert_eq!(lines.next(), Some(&*bound), "{ended:?}");
    let file = lines.next().unwrap_or_default();
    assert!(file.starts_with("/tmp/sameport-0/libsameport_preload-"), "{ended:?}");
    // Nothing was made in /run, and our file is gone from the other folder.
    assert!(lines.all(|line| !line.starts_with("sameport") && !file.ends_with(line)), "{ended:?}");
}

#[test]
fn streams_and_ends_are_the_programs() {
    let script = "printf 'a\\0b'; printf 'e' >&2; exit 42";
    let ended = run(User::Ourselves, &["--quiet"], &["sh", "-c", script]).ended();
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (42, "a\0b", "e"));
    let ended = run(User::Ourselves, &[], &["sh", "-c", "kill -9 $$"]).ended();
    assert_eq!(ended.code, 128 + libc::SIGKILL, "{ended:?}");
    let ended = run(User::Ourselves, &[], &["/no/such/program"]).ended();
    assert_eq!(ended.code, 127, "{ended:?}");
}
