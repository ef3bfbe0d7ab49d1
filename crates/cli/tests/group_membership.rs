//! Which runs share a port: members of one group do, and no others.
#![cfg(target_os = "linux")]

mod harness;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use harness::{
    Patience, Process, TIMEOUT, User, c_program, chown_to, command_for, descendants, find_program,
    free_port, in_test_dir, sameport, spawn_process, start, start_command, start_run,
};

const IN_USE: &str = "bind: Address already in use";

/// The command line of a program that answers with its pid. `more` are arguments that it ignores,
/// to make the command lines differ.
fn who(protocol: &str, port: u16, more: &[&str]) -> Vec<String> {
    let program = c_program("who", &["-static"]).to_str().unwrap().to_owned();
    let words = [protocol, "127.0.0.1", &port.to_string()].map(String::from);
    let more = more.iter().map(|word| (*word).to_owned());
    [program].into_iter().chain(words).chain(more).collect()
}

/// Starts `sameport run OPTIONS -- COMMAND` in a directory of this name.
fn start_in(dir: &str, user: User, options: &[&str], command: &[String]) -> Process {
    let words = ["run"].into_iter().chain(options.iter().copied()).chain(["--"]);
    let words: Vec<OsString> =
        words.chain(command.iter().map(String::as_str)).map(OsString::from).collect();
    let mut run = command_for(user, sameport(), &words);
    run.current_dir(dir_named(dir, user));
    spawn_process(run)
}

fn dir_named(name: &str, user: User) -> PathBuf {
    let dir = in_test_dir(name);
    std::fs::create_dir_all(&dir).unwrap();
    chown_to(&dir, user);
    dir
}

/// Sends requests until this many different processes have answered.
#[track_caller]
fn answered_by(protocol: &str, port: u16, count: usize) -> BTreeSet<i32> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut pids = BTreeSet::new();
    let patience = Patience::new(TIMEOUT);
    while pids.len() < count {
        assert!(!patience.is_over(), "only {pids:?} answer on {port}");
        let answer = match protocol {
            "tcp" => harness::ask(address, b""),
            _ => harness::ask_datagram(address, b"who"),
        };
        if let Ok(answer) = answer {
            pids.insert(String::from_utf8(answer).unwrap().trim().parse().unwrap());
        }
    }
    pids
}

/// Asserts that the bind was refused: exit code 1 and this on stderr.
#[track_caller]
fn assert_refused(run: Process, error: &str, hint: &str) {
    let exited = run.wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
    // The program and its supervisor write concurrently.
    let message =
        [IN_USE, &format!("sameport: error: {error}"), &format!("sameport: hint: {hint}")];
    for line in message {
        assert_eq!(exited.stderr.matches(line).count(), 1, "{line}: {exited:?}");
    }
    let length: usize = message.map(|line| line.len() + 1).iter().sum();
    assert_eq!(exited.stderr.len(), length, "{exited:?}");
}

const SAME_GROUP: &str = "give both runs the same --group, or --join to share it all the same";

/// The message that names the holder of the port.
fn held_by(port: u16, run: &Process, words: &str, dir: &str) -> String {
    let worker = descendants(run.pid())[0];
    let directory = in_test_dir(dir);
    format!(
        "127.0.0.1:{port} is held by another group: pid {worker} (who-static.bin), started by \
         `sameport run {words}` in {}",
        directory.display()
    )
}

#[test]
fn same_command_in_the_same_directory_shares() {
    for (user, protocol) in User::all().iter().flat_map(|user| [(*user, "tcp"), (*user, "udp")]) {
        let port = free_port();
        let command = who(protocol, port, &[]);
        let first = start_in("here", user, &[], &command);
        answered_by(protocol, port, 1);
        let second = start_in("here", user, &["-q"], &command);
        let both = answered_by(protocol, port, 2);

        // The message names the first or the second socket; both have one command.
        let elsewhere = start_in("there", user, &[], &command).wait();
        let another = start_in("here", user, &[], &who(protocol, port, &["setrp"])).wait();
        let grouped = start_in("here", user, &["--group", "web"], &command).wait();
        for refused in [elsewhere, another, grouped] {
            assert_eq!(refused.code, 1, "{refused:?}");
            let message = "is held by another group: pid ";
            assert_eq!(refused.stderr.matches(message).count(), 1, "{refused:?}");
            assert!(refused.stderr.contains(SAME_GROUP), "{refused:?}");
        }
        assert_eq!(answered_by(protocol, port, 2), both);
        for run in [first, second] {
            run.terminate();
        }
    }
}

#[test]
fn refusal_names_the_holder_and_the_remedy() {
    for user in User::all() {
        let port = free_port();
        let command = who("tcp", port, &[]);
        let holder = start_in("here", *user, &["-n", "1"], &command);
        let before = answered_by("tcp", port, 1);
        let words = format!("-- {}", command.join(" "));
        let error = held_by(port, &holder, &words, "here");
        assert_refused(start_in("there", *user, &[], &command), &error, SAME_GROUP);
        assert_eq!(answered_by("tcp", port, 1), before);

        let joined = start_in("there", *user, &["--join"], &command);
        joined.wait_for_stderr(&format!("127.0.0.1:{port}/tcp is now shared by 2: pid "));
        answered_by("tcp", port, 2);
        joined.terminate();
        holder.terminate();
    }
}

#[test]
fn runs_that_name_a_group_share() {
    for user in User::all() {
        let port = free_port();
        let command = who("tcp", port, &[]);
        let holder = start_in("here", *user, &["--group", "web"], &command);
        answered_by("tcp", port, 1);
        let words = format!("--group web -- {}", command.join(" "));
        let error = held_by(port, &holder, &words, "here");
        assert_refused(start_in("here", *user, &[], &command), &error, SAME_GROUP);
        let other = start_in("here", *user, &["--group", "Web"], &command);
        assert_refused(other, &error, SAME_GROUP);

        let setrp = who("tcp", port, &["setrp"]);
        let member = start_in("there", *user, &["--group", "web"], &setrp);
        answered_by("tcp", port, 2);
        // The workers of this run may be the named members by now.
        let third =
            start_in("there", *user, &["--group", "web", "-n", "2"], &who("tcp", port, &["x"]));
        answered_by("tcp", port, 4);
        for run in [holder, member, third] {
            run.terminate();
        }
    }
}

#[test]
fn program_without_run_is_not_joined() {
    for (user, protocol) in User::all().iter().flat_map(|user| [(*user, "tcp"), (*user, "udp")]) {
        let port = free_port();
        let plain = who(protocol, port, &["setrp"]);
        let holder = start_command(user, &plain[0], &plain[1..]);
        answered_by(protocol, port, 1);
        let error = format!(
            "127.0.0.1:{port} is held by pid {} (who-static.bin), which is under no `sameport run`",
            holder.pid()
        );
        let hint = "--join shares it all the same";
        // A program made shareable by `run`, and one that sets SO_REUSEPORT.
        for more in [&[][..], &["setrp"]] {
            assert_refused(start_run(user, &[], &who(protocol, port, more)), &error, hint);
        }
        let joined = start_run(user, &["--join"], &plain);
        answered_by(protocol, port, 2);
        joined.terminate();
        holder.terminate();
    }
}

/// The kernel reports a socket between bind and listen as free, so the first to listen has the
/// port.
#[test]
fn first_to_listen_has_the_port() {
    if find_program("python3").is_none() {
        return harness::skip("bind-before-listen", "no python3");
    }
    for user in User::all() {
        let port = free_port();
        let text = format!(
            "import signal, socket, sys
s = socket.socket()
s.bind(('127.0.0.1', {port}))
def listen(*_):
    try:
        s.listen()
        print('listens', flush=True)
        s.listen(9)
        print('listens again', flush=True)
    except OSError as error:
        sys.exit(str(error.errno))
signal.signal(signal.SIGUSR1, listen)
print('bound', flush=True)
while True: signal.pause()
"
        );
        let command = |name: &str| ["python3", "-c", &text, name].map(String::from);
        let [first, second] = ["first", "second"].map(|name| {
            let run = start_run(*user, &[], &command(name));
            run.wait_for_stdout("bound\n");
            run
        });
        first.signal(libc::SIGUSR1);
        first.wait_for_stdout("listens again\n");
        second.signal(libc::SIGUSR1);
        let exited = second.wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (1, "bound\n"), "{exited:?}");
        let in_use = format!("{}\n", libc::EADDRINUSE);
        assert!(exited.stderr.contains(&in_use), "{exited:?}");
        let pid = descendants(first.pid())[0];
        let message = format!("127.0.0.1:{port} is held by another group: pid {pid} (python3), ");
        assert!(exited.stderr.contains(&message), "{exited:?}");
        first.terminate();
    }
}

/// Runs that start at the same time can be refused, but one gets the port, and members of one group
/// always share it.
#[test]
fn concurrent_starts_refuse_at_most_one() {
    for _ in 0..10 {
        let port = free_port();
        let runs = ["x", "y"]
            .map(|more| start_run(User::Current, &[], &who("tcp", port, &["once", more])));
        answered_by("tcp", port, 1);
        let codes = runs
            .map(|mut run| if run.is_running() { run.terminate().code } else { run.wait().code });
        assert!(codes.contains(&(128 + libc::SIGTERM)), "{codes:?}");

        // A run is not refused because of one that has exited.
        let command = who("tcp", port, &["once", "y"]);
        let runs = [(), (), ()].map(|()| start_run(User::Current, &["-n", "2"], &command));
        answered_by("tcp", port, 6);
        for run in runs {
            let exited = run.terminate();
            assert_eq!(exited.code, 128 + libc::SIGTERM, "{exited:?}");
        }
    }
}

/// An upgraded program stays in its group.
#[test]
fn named_run_keeps_its_group() {
    for user in User::all() {
        let name = format!("belonging-{}-{user:?}", std::process::id());
        let port = free_port();
        let command = who("tcp", port, &[]);
        let run = start_run(*user, &["--name", &name], &command);
        let before = answered_by("tcp", port, 1);
        let changed = who("tcp", port, &["once", "changed"]);
        let words = ["upgrade", &name, "--"].map(String::from);
        let words: Vec<_> = words.iter().chain(&changed).collect();
        let upgraded = start(*user, &words).wait();
        assert_eq!(upgraded.code, 0, "{upgraded:?}");
        let after = answered_by("tcp", port, 1);
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");

        let exited = start_run(*user, &[], &changed).wait();
        assert!(exited.stderr.contains(" is held by another group: pid "), "{exited:?}");
        let same = start_run(*user, &[], &command);
        answered_by("tcp", port, 2);
        same.terminate();
        run.terminate();
    }
}

/// `who` on this IP address.
fn who_on(ip: &str, port: u16, more: &[&str]) -> Vec<String> {
    let mut command = who("tcp", port, more);
    command[2] = ip.to_owned();
    command
}

/// A more specific address takes the traffic of a wider one, so it is a join too. `status` of the other
/// run shows it.
#[test]
fn a_more_specific_address_is_a_join() {
    for user in User::all() {
        let port = free_port();
        let name = format!("wide-{port}");
        let run = |options: &[&str], command: &[String]| {
            let words = ["run"].into_iter().chain(options.iter().copied()).chain(["--"]);
            let words: Vec<&str> = words.chain(command.iter().map(String::as_str)).collect();
            start(*user, &words)
        };
        let status = || start(*user, &["status", &name, "--json"]).wait().stdout;
        let wide = run(&["--name", &name], &who_on("0.0.0.0", port, &[]));
        let before = answered_by("tcp", port, 1);
        let refused = run(&[], &who_on("127.0.0.1", port, &["other"])).wait();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("is held by another group: pid "), "{refused:?}");
        assert!(refused.stderr.contains(SAME_GROUP), "{refused:?}");
        assert_eq!(answered_by("tcp", port, 1), before);
        assert!(!status().contains("takes its traffic"), "{}", status());

        let joined = run(&["--join"], &who_on("127.0.0.1", port, &["other"]));
        let remark = format!("127.0.0.1:{port} is bound by who-static.bin (pid ");
        let shown = harness::eventually(|| status().contains(&remark).then_some(()));
        assert!(shown.is_some(), "{}", status());
        assert!(status().contains("which takes its traffic"));
        joined.terminate();
        // The wider address takes no traffic of a narrower one.
        wide.terminate();
        let narrow = run(&[], &who_on("127.0.0.1", port, &[]));
        answered_by("tcp", port, 1);
        let wide = run(&[], &who_on("0.0.0.0", port, &["other"]));
        let both = harness::eventually(|| {
            let address = SocketAddr::from(([127, 0, 0, 2], port));
            harness::ask(address, b"").ok()
        });
        assert!(both.is_some(), "{}", wide.stderr());
        for run in [narrow, wide] {
            run.terminate();
        }
    }
}

/// Datagram sockets of several users that all have SO_REUSEADDR share an address without sameport
/// (multicast DNS). They still do.
#[test]
fn a_datagram_bind_that_the_kernel_permits_is_not_refused() {
    const PROGRAM: &str = "
import os, socket, sys
if sys.argv[2] != '0': os.setresuid(101, 101, 101)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in sys.argv[3:]: s.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
s.bind(('0.0.0.0', int(sys.argv[1])))
print('bound', flush=True)
sys.stdin.read()
import time
time.sleep(float(sys.argv[2]) * 6)
";
    let Some(python) = find_program("python3") else {
        return harness::skip("group-datagrams", "no python3");
    };
    if !harness::is_root() {
        return harness::skip("group-datagrams", "needs root, for two users");
    }
    let (python, port) = (python.to_str().unwrap(), free_port().to_string());
    let other = ["-c", PROGRAM, &port, "101", "SO_REUSEPORT", "SO_REUSEADDR"];
    let other = start_command(User::Current, python, &other);
    other.wait_for_stdout("bound");
    for options in [&[][..], &["--join"]] {
        let command = [python, "-c", PROGRAM, &port, "0", "SO_REUSEADDR"];
        let run = start_run(User::Current, options, &command).wait();
        assert_eq!((run.code, run.stdout.as_str()), (0, "bound\n"), "{options:?}: {run:?}");
    }
    other.terminate();
}
