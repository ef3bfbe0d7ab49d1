//! End-to-end tests of `top`: one frame of real servers, and the screen in a real terminal.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod terminal;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::named_run::{NamedRun, RunSetup, rogue_command};
use harness::{SOCKET_TIMEOUT, User, eventually, kill, spawn_process};
use serde_json::Value;

/// One frame of a port, as JSON.
#[track_caller]
fn frame(setup: &RunSetup, interval: &str) -> Value {
    let port = setup.port.to_string();
    let words = ["top", &port, "--once", "--json", "--interval", interval];
    let exited = spawn_process(setup.command(&words)).wait();
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    serde_json::from_str(&exited.stdout).unwrap()
}

/// The members of the only group.
fn members(frame: &Value) -> &Vec<Value> {
    assert_eq!(frame["groups"].as_array().map(Vec::len), Some(1), "{frame}");
    frame["groups"][0]["members"].as_array().unwrap()
}

/// Connects and stays connected.
fn connect(setup: &RunSetup) -> TcpStream {
    TcpStream::connect_timeout(&setup.address(), SOCKET_TIMEOUT).unwrap()
}

#[test]
fn a_frame_has_the_workers_of_a_run_and_their_connections() {
    for user in User::all() {
        let keeps = harness::c_program("keeps", &[]).into_os_string().into_string().unwrap();
        let run = RunSetup::new(*user).run(&["-n", "3"], &[&*keeps, "{port}"]);
        let pids = run.wait_for_ready(3);
        let clients: Vec<_> = (0..12).map(|_| connect(&run.setup)).collect();
        let is_accepted = |frame: &Value| {
            members(frame).iter().filter_map(|it| it["open"].as_u64()).sum::<u64>() == 12
        };
        let found = eventually(|| Some(frame(&run.setup, "100ms")).filter(is_accepted)).unwrap();

        let group = &found["groups"][0];
        assert_eq!((&group["open"], &group["proto"]), (&12.into(), &"tcp".into()), "{found}");
        let name = |it: &Value| (it["run"].clone(), it["worker"].as_u64(), it["state"].clone());
        let names: Vec<_> = members(&found).iter().map(name).collect();
        let own = |number| (run.setup.name.clone().into(), Some(number), "serving".into());
        assert_eq!(names, [1, 2, 3].map(own));
        let found_pids = members(&found).iter().filter_map(|it| it["pid"].as_i64());
        assert!(found_pids.eq(pids.iter().map(|pid| i64::from(*pid))), "{pids:?}: {found}");
        assert!(members(&found).iter().all(|it| it["restarts"] == 0), "{found}");
        drop(clients);
    }
}

#[test]
fn new_connections_are_counted_a_second() {
    let keeps = harness::c_program("keeps", &[]).into_os_string().into_string().unwrap();
    let run = RunSetup::new(User::Current).run(&["-n", "2"], &[&*keeps, "{port}"]);
    run.wait_for_ready(2);
    let is_over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut clients = Vec::new();
            while !is_over.load(Ordering::Relaxed) && clients.len() < 500 {
                clients.push(connect(&run.setup));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let found = frame(&run.setup, "500ms");
        is_over.store(true, Ordering::Relaxed);
        found
    });
    let rate = |it: &Value| it["new_per_second"].as_f64().unwrap_or(0.0);
    let of_members: f64 = members(&found).iter().map(rate).sum();
    let of_group = rate(&found["groups"][0]);
    assert!(of_group > 0.0 && (of_group - of_members).abs() < 0.01, "{found}");
    assert!(rate(&found) > 0.0, "{found}");
}

/// Connections wait in the queue of the stopped worker; the other one serves.
#[test]
fn a_stopped_worker_is_hung() {
    let keeps = harness::c_program("keeps", &[]).into_os_string().into_string().unwrap();
    let run = RunSetup::new(User::Current).run(&["-n", "2"], &[&*keeps, "{port}"]);
    let pids = run.wait_for_ready(2);
    let stopped = *pids.first().unwrap();
    let of_stopped =
        |frame: &Value| members(frame).iter().find(|it| it["pid"] == stopped).cloned().unwrap();
    assert_eq!(of_stopped(&frame(&run.setup, "100ms"))["state"], "serving");
    kill(stopped, libc::SIGSTOP);
    let mut clients = Vec::new();
    let queued = eventually(|| {
        clients.push(connect(&run.setup));
        (of_stopped(&frame(&run.setup, "100ms"))["queue"].as_u64()? > 0).then_some(())
    });
    assert!(queued.is_some());
    let found = frame(&run.setup, "1100ms");
    let states: Vec<_> = members(&found)
        .iter()
        .map(|it| (it["pid"] == stopped, it["state"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [(true, "hung".to_owned()), (false, "serving".to_owned())];
    assert!(expected.iter().all(|it| states.contains(it)), "{found}");

    kill(stopped, libc::SIGCONT);
    let recovered = eventually(|| {
        let found = of_stopped(&frame(&run.setup, "1100ms"));
        (found["state"] == "serving" && found["queue"] == 0).then_some(())
    });
    assert!(recovered.is_some());
}

/// The sockets are shown without the supervisor, with its worker's names from before if there were any.
#[test]
fn a_supervisor_that_does_not_answer_delays_nothing() {
    let run = NamedRun::start_rogue(User::Current, &[], "good");
    run.wait_for_ready(2);
    let supervisor = run.supervisor.pid();
    kill(supervisor, libc::SIGSTOP);
    let port = run.setup.port.to_string();
    let words = ["top", &port, "--once", "--interval", "100ms"];
    let exited = spawn_process(run.setup.command(&words)).wait();
    kill(supervisor, libc::SIGCONT);
    let pid = run.supervisor.pid();
    let note = format!("hint: the supervisor of {} (pid {pid}) does not answer", run.setup.name);
    assert_eq!((exited.code, exited.stderr.trim_end()), (0, &*note));
    assert!(exited.stdout.contains(&format!("{port}/tcp")), "{exited:?}");
    assert!(exited.stdout.contains("2 members"), "{exited:?}");
}

#[test]
fn programs_of_another_user_are_hidden() {
    if !harness::is_root() {
        harness::skip("top-hidden", "another user needs root");
        return;
    }
    let listeners = [(); 2].map(|()| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        socket.unwrap()
    });
    let mut address = std::net::SocketAddr::from(([127, 0, 0, 1], harness::free_port()));
    for listener in &listeners {
        listener.set_reuse_port(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(16).unwrap();
    }
    let setup = RunSetup { port: address.port(), ..RunSetup::new(User::Nobody) };
    let found = frame(&setup, "100ms");
    assert_eq!((members(&found).len(), &found["complete"]), (2, &false.into()), "{found}");
    assert!(members(&found).iter().all(|it| it["pid"].is_null() && it["open"].is_null()));
    address.set_port(setup.port);
    drop(listeners);
}

#[test]
fn udp_has_no_connections() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let _other = TcpListener::bind(("127.0.0.1", port));
    let setup = RunSetup::new(User::Current);
    let words = ["top", &format!("{port}/udp"), "--once", "--json", "--interval", "100ms"];
    let exited = spawn_process(setup.command(&words)).wait();
    let found: Value = serde_json::from_str(&exited.stdout).unwrap();
    assert_eq!((&found["groups"][0]["proto"], members(&found).len()), (&"udp".into(), 1));
    assert!(found["groups"][0]["open"].is_null() && members(&found)[0]["open"].is_null());
}

#[test]
fn wrong_uses_are_refused() {
    let setup = RunSetup::new(User::Current);
    let free = harness::free_port().to_string();
    let at_once = "hint: `sameport top --once` prints one frame\n";
    let no_terminal = format!("error: stdout is not a terminal\n{at_once}");
    let none = format!("no socket is on port {free}\n");
    let short = ["top", &*free, "--once", "--interval", "100ms"];
    for (words, code, expected) in [
        (&["top"][..], 2, &*no_terminal),
        (&["top", &*free], 2, &*no_terminal),
        (&short[..], 1, &*none),
        (&["top", "--json"], 2, "--once"),
        (&["top", "--once", "--interval", "10ms"], 2, "write a time from 100ms to 1h"),
        (&["top", "--once", "127.0.0.1:80"], 2, "a port is for every address: write 80"),
        (&["top", "--once", "70000"], 2, "error: "),
    ] {
        let exited = spawn_process(setup.command(words)).wait();
        assert_eq!((exited.code, &*exited.stdout), (code, ""), "{words:?}: {exited:?}");
        assert!(exited.stderr.contains(expected), "{words:?}: {}", exited.stderr);
    }
    let exited = spawn_process(setup.command(&[&short[..], &["--json"]].concat())).wait();
    assert_eq!((exited.code, exited.stdout.contains("\"groups\":[]")), (1, true), "{exited:?}");
}

/// A worker that has to be restarted is one of a run whose command fails.
#[test]
fn restarts_are_counted() {
    let setup = RunSetup::new(User::Current);
    let run = setup.run(&["-n", "2"], &rogue_command("good"));
    let pids = run.wait_for_ready(2);
    kill(*pids.first().unwrap(), libc::SIGKILL);
    let counted = eventually(|| {
        let found = frame(&run.setup, "100ms");
        members(&found).iter().any(|it| it["restarts"] == 1).then_some(())
    });
    assert!(counted.is_some());
}
