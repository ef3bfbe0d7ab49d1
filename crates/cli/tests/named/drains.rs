//! Drains: stop signals, urgent changes, changes during a drain, and programs that drain themselves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{Exited, SOCKET_TIMEOUT, SetAtEnd, User, eventually, script};

fn start(options: &[&str], how: &str) -> NamedRun {
    let server = script("drain_lines.py").into_os_string().into_string().unwrap();
    let run = RunSetup::new(User::Current).run(options, &["python3", &server, how, "{port}"]);
    run.wait_for_ready(1);
    run
}

/// Sends a line, and returns a function that reads the answer.
fn send(run: &NamedRun, line: &str) -> impl FnOnce() -> String + Send + use<> {
    let mut stream = TcpStream::connect(run.setup.address()).unwrap();
    stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    move || {
        let mut answer = String::new();
        // A connection that is cut ends without a line.
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    }
}

/// A request in hand for two seconds. Returns when the worker has read it.
fn slow(run: &NamedRun) -> impl FnOnce() -> String + Send + use<> {
    let answer = send(run, "slow");
    thread::sleep(Duration::from_millis(200));
    answer
}

/// The same for eight seconds: longer than a drain timeout, on a busy machine too.
fn slower(run: &NamedRun) -> impl FnOnce() -> String + Send + use<> {
    let answer = send(run, "slower");
    thread::sleep(Duration::from_millis(200));
    answer
}

#[test]
fn a_request_in_hand_is_answered_before_the_stop_signal() {
    let run = start(&[], "exits");
    let answer = slow(&run);
    let restarted = run.verb("restart", &[]);
    assert!(answer().ends_with("slow\n"), "{restarted:?}");
    assert!(!restarted.stderr.contains("cut"), "{restarted:?}");
    let answer = slow(&run);
    run.stop();
    assert!(answer().ends_with("slow\n"));
}

/// Clients reach a first worker as soon as it listens. Its readiness check can take longer.
#[test]
fn a_worker_that_is_not_ready_answers_what_it_has_in_hand() {
    let server = script("drain_lines.py").into_os_string().into_string().unwrap();
    let options = ["--ready", "exec:/bin/false"];
    let run = RunSetup::new(User::Current).run(&options, &["python3", &server, "exits", "{port}"]);
    let connected = eventually(|| TcpStream::connect(run.setup.address()).ok());
    assert!(connected.is_some(), "{}", run.supervisor.stderr());
    drop(connected);
    let answer = slow(&run);
    run.verb("stop", &[]);
    assert!(answer().ends_with("slow\n"), "{}", run.supervisor.stderr());
}

/// A client that runs again only a while after its connect, as on a busy machine.
#[test]
fn a_request_that_follows_its_connection_is_answered() {
    let run = start(&[], "exits");
    // The drain waits for 1 s for the first data of a connection.
    let limit = Duration::from_millis(900);
    let ask = || -> Result<(), Duration> {
        let since = Instant::now();
        let mut stream = TcpStream::connect(run.setup.address()).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        thread::sleep(Duration::from_millis(500));
        let sent = stream.write_all(b"line\n");
        let pause = since.elapsed();
        let mut answer = String::new();
        let read = sent.and_then(|()| BufReader::new(stream).read_line(&mut answer));
        if read.is_ok() && answer.ends_with(" line\n") { Ok(()) } else { Err(pause) }
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = || {
            let mut lost = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                lost.extend(ask().err().filter(|pause| *pause < limit));
            }
            lost
        };
        let clients = [(); 4].map(|()| scope.spawn(client));
        let ended = SetAtEnd(&is_over);
        for _ in 0..3 {
            run.verb("restart", &[]);
        }
        drop(ended);
        let lost: Vec<_> = clients.into_iter().flat_map(|it| it.join().unwrap()).collect();
        assert!(lost.is_empty(), "cut before the request, which followed after {lost:?}");
    });
    run.stop();
}

/// Data that was sent last is not the end of an answer.
#[test]
fn an_answer_that_goes_on_is_finished() {
    let run = start(&[], "exits");
    let answer = send(&run, "parts");
    thread::sleep(Duration::from_millis(200));
    let restarted = run.verb("restart", &[]);
    let answer = answer();
    assert!(answer.starts_with(&"part ".repeat(5)), "{answer} {restarted:?}");
    assert!(answer.ends_with(" parts\n"), "{answer} {restarted:?}");

    // As with `100 Continue`: the server has sent the last data, and waits for the request.
    let mut stream = TcpStream::connect(run.setup.address()).unwrap();
    stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    stream.write_all(b"upload\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "continue");
    thread::scope(|scope| {
        let restart = scope.spawn(|| run.verb("restart", &[]));
        let drains = || (run.supervisor.stderr().matches(" drains").count() > 1).then_some(());
        assert!(eventually(drains).is_some(), "{}", run.supervisor.stderr());
        thread::sleep(Duration::from_millis(300));
        stream.write_all(b"body\n").unwrap();
        assert!(lines.next().unwrap().unwrap().ends_with(" upload"));
        assert_eq!(lines.next().unwrap().unwrap(), "body");
        drop(lines);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        restart.join().unwrap();
    });
    run.stop();
}

/// Sessions that leave their process group and clear their environment, as those of sshd.
#[test]
fn sessions_that_left_their_group_finish() {
    let program = "import os,socket,sys
s=socket.socket(); s.setsockopt(1,2,1); s.bind(('127.0.0.1',int(sys.argv[1]))); s.listen(50)
while True:
    c,_=s.accept()
    if not os.fork():
        s.close(); os.setsid(); os.dup2(c.fileno(),0)
        os.execve('/bin/sh',['sh','-c','read a; sleep 2; echo $a >&0; read b; echo $b >&0'],{})
    c.close()
";
    let run = RunSetup::new(User::Current)
        .run(&["--grace", "30s"], &["/usr/bin/env", "python3", "-c", program, "{port}"]);
    run.wait_for_ready(1);
    for verb in ["restart", "stop"] {
        let mut stream = TcpStream::connect(run.setup.address()).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        stream.write_all(b"one\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        thread::scope(|scope| {
            let change = scope.spawn(|| run.verb(verb, &[]));
            thread::sleep(Duration::from_secs(1));
            stream.write_all(b"two\n").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), "two", "{verb}");
            change.join().unwrap();
        });
    }
    run.wait_for_exit(0);
}

#[test]
fn stop_signals_have_names_and_numbers() {
    for (option, number) in [("QUIT", 3), ("SIGUSR1", 10), ("15", 15), ("RTMIN+3", 37)] {
        let run = start(&["--stop-signal", option], "exits");
        run.verb("restart", &[]);
        let stopped = run.stop();
        let text = format!("got {number}\n");
        assert_eq!(stopped.stdout.matches(&text).count(), 2, "{option}: {stopped:?}");
    }
}

#[test]
fn an_urgent_change_does_not_wait() {
    let run = start(&[], "exits");
    let answer = slower(&run);
    run.verb("restart", &["--now"]);
    assert_eq!(answer(), "");

    let answer = slower(&run);
    thread::scope(|scope| {
        let slow_stop = scope.spawn(|| run.try_verb("stop", &[]));
        let drains = || run.supervisor.stderr().matches(" drains").count() >= 2;
        assert!(eventually(|| drains().then_some(())).is_some(), "{}", run.supervisor.stderr());
        // Also while it stops already; both clients hear of the end.
        let stopped = run.verb("stop", &["--now"]);
        assert!(stopped.stderr.ends_with("has stopped\n"), "{stopped:?}");
        assert_eq!(slow_stop.join().unwrap().code, 0);
    });
    assert_eq!(answer(), "");
    run.wait_for_exit(0);
}

#[test]
fn the_end_of_the_drain_timeout_cuts_and_says_so() {
    let run = start(&["--drain-timeout", "2s"], "exits");
    let answer = slower(&run);
    let Exited { stderr, .. } = run.verb("restart", &[]);
    assert!(stderr.contains("; 1 connection was cut after "), "{stderr}");
    assert_eq!(answer(), "");
    let status = run.status();
    assert_eq!(status["drains_itself"], false, "{status}");
    run.stop();
}

#[test]
fn another_change_begins_while_only_drains_remain() {
    let run = start(&["--surge", "1"], "exits");
    let answer = slow(&run);
    thread::scope(|scope| {
        let first = scope.spawn(|| run.verb("restart", &[]));
        let drains = || run.supervisor.stderr().contains(" drains");
        assert!(eventually(|| drains().then_some(())).is_some(), "{}", run.supervisor.stderr());
        run.verb("scale", &["2"]);
        assert!(answer().ends_with("slow\n"));
        first.join().unwrap();
    });
    run.wait_for_ready(2);
    run.stop();
}

#[test]
fn a_refusal_names_the_change_and_its_worker() {
    // Without surge, the old worker ends before the new one starts.
    let run = start(&["--surge", "0"], "exits");
    let pid = run.wait_for_worker(1);
    let answer = slow(&run);
    thread::scope(|scope| {
        let first = scope.spawn(|| run.verb("restart", &[]));
        let drains = || run.supervisor.stderr().contains(" drains");
        assert!(eventually(|| drains().then_some(())).is_some(), "{}", run.supervisor.stderr());
        let refused = run.try_verb("scale", &["2"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        let expected = format!("worker 1 (pid {pid}) is ending, for at most ");
        assert!(refused.stderr.contains("a restart is under way since "), "{refused:?}");
        assert!(refused.stderr.contains(&expected), "{refused:?}");
        assert!(answer().ends_with("slow\n"));
        first.join().unwrap();
    });
    run.stop();
}

/// The supervisor learns that a program finishes its connections after the stop signal, and then sends
/// the signal at once.
#[test]
fn a_program_that_drains_itself_is_recognised() {
    let run = start(&["--drain-timeout", "2s"], "finishes");
    assert_eq!(run.status()["drains_itself"], false);
    let answer = slower(&run);
    let restarted = run.verb("restart", &[]);
    assert!(answer().ends_with("slower\n"), "{restarted:?}");
    assert!(!restarted.stderr.contains("cut"), "{restarted:?}");
    assert_eq!(run.status()["drains_itself"], true);
    let shown = run.verb("status", &[]).stdout;
    assert!(shown.contains("drain: busy: this command finishes its connections itself"), "{shown}");
    // The knowledge survives the replacement of the supervisor's program.
    run.verb("reexec", &[]);
    assert_eq!(run.status()["drains_itself"], true);
    run.stop();
}
