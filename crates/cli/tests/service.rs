//! A named run as a service: notifications, stored and passed sockets, and clients during a restart
//! of the service. The manager is a fake systemd.
#![cfg(target_os = "linux")]

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::service::{Service, pass};
use harness::{
    Exited, SOCKET_TIMEOUT, User, ask, c_program, command_for, eventually, free_port, in_test_dir,
    sameport, script, spawn_process,
};

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A client that has sent a request and has no response yet.
fn begin(to: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect_timeout(&to, SOCKET_TIMEOUT).unwrap();
    client.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    client.write_all(REQUEST).unwrap();
    client
}

fn is_answered(mut client: TcpStream) -> bool {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).is_ok_and(|_| answer.starts_with(b"HTTP/1.1 200"))
}

fn drains() -> String {
    c_program("drains", &[]).into_os_string().into_string().unwrap()
}

#[test]
fn manager_is_notified_when_every_worker_is_ready() {
    let port = free_port().to_string();
    let go = in_test_dir(format!("go-{port}"));
    // Each worker is ready when its file exists.
    let check = format!(
        "exec:test -e {}-$(cat /proc/$SAMEPORT_PID/environ | tr '\\0' '\\n' | \
                         sed -n s/SAMEPORT_WORKER=//p)",
        go.display()
    );
    let service =
        Service::start(User::Current, &[], &["-n", "3", "--ready", &check], &[&drains(), &port]);
    service.wait_for_lines("told STATUS=0 of 3 workers ready", 1);
    for (worker, ready) in [(2, 1), (3, 2)] {
        std::fs::write(format!("{}-{worker}", go.display()), "").unwrap();
        service.wait_for_lines(&format!("told STATUS={ready} of 3 workers ready"), 1);
        assert_eq!(service.count_lines("told READY=1"), 0, "{}", service.manager.stdout());
    }
    std::fs::write(format!("{}-1", go.display()), "").unwrap();
    service.wait_for_lines("told STATUS=3 of 3 workers ready", 1);
    assert_eq!(service.count_lines("told READY=1"), 1, "{}", service.manager.stdout());
    assert_eq!(service.count_lines("told STOPPING=1"), 0);
    service.tell_manager("stop");
    service.wait_for_lines("ended 0", 1);
    assert_eq!(service.count_lines("told STOPPING=1"), 1, "{}", service.manager.stdout());
    assert_eq!(service.count_lines("told READY=1"), 1);
    // Workers do not get NOTIFY_SOCKET.
    assert_eq!(service.count_lines("ignored"), 0, "{}", service.manager.stdout());
}

#[test]
fn clients_of_a_stopped_service_are_served_by_the_next() {
    const CLIENTS: usize = 40;
    for user in User::all() {
        let port = free_port();
        let (number, address) = (port.to_string(), loopback(port));
        let command = [&*drains(), &number];
        let service = Service::start(*user, &[], &["-n", "2", "--ready", "tcp"], &command);
        service.wait_for_lines("told READY=1", 1);
        service.wait_for_lines("stored sameport-", 2);
        // The spare socket of a restart is closed a moment later.
        let settle = || {
            let settled = eventually(|| {
                let status = service.status();
                let on = &status["addresses"][0];
                assert_eq!((&on["held"], &on["steered"]), (&true.into(), &true.into()), "{status}");
                (on["members"] == 2).then_some(())
            });
            assert!(settled.is_some(), "{user:?}: {}", service.status());
        };
        for round in 1..=2 {
            service.tell_manager("kill");
            service.wait_for_lines("ended -9", round);
            let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| begin(address)).collect();
            service.tell_manager("start");
            let answered =
                clients.into_iter().filter_map(|it| is_answered(it).then_some(())).count();
            assert_eq!(answered, CLIENTS, "{user:?} {round}: {}", service.manager.stderr());
            service.wait_for_lines("told READY=1", round + 1);
            settle();
            let restarted = service.sameport(&["restart", &service.name]);
            assert_eq!(restarted.code, 0, "{restarted:?}");
            settle();
        }
        let stopped = service.sameport(&["stop", &service.name]);
        assert_eq!(stopped.code, 0, "{stopped:?}");
        let kept = eventually(|| {
            (service.count_lines("removed") == service.count_lines("stored")).then_some(())
        });
        assert!(kept.is_some(), "on purpose, nothing is kept:\n{}", service.manager.stdout());
        assert!(TcpStream::connect(address).is_err(), "{user:?}: nobody is left");
    }
}

/// SIGKILL while the manager closes the spare sockets of a restart: the names of the others tell the
/// order of the group.
#[test]
fn next_run_knows_the_order_of_a_group_that_loses_members() {
    const CLIENTS: usize = 40;
    let port = free_port();
    let (number, address) = (port.to_string(), loopback(port));
    let command = [&*drains(), &number];
    let service = Service::start(User::Current, &[], &["-n", "2", "--ready", "tcp"], &command);
    service.wait_for_lines("told READY=1", 1);
    service.wait_for_lines("stored sameport-", 2);
    for round in 1..=3 {
        let removed = service.count_lines("removed");
        let restarted = service.sameport(&["restart", &service.name]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        service.wait_for_lines("removed", removed + 1);
        service.tell_manager("kill");
        service.wait_for_lines("ended -9", round);
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| begin(address)).collect();
        service.tell_manager("start");
        let answered = clients.into_iter().filter_map(|it| is_answered(it).then_some(())).count();
        assert_eq!(answered, CLIENTS, "{round}: {}", service.manager.stderr());
        service.wait_for_lines("told READY=1", round + 1);
        let settled = eventually(|| {
            let status = service.status();
            let on = &status["addresses"][0];
            let out = service.manager.stdout();
            assert_eq!(on["steered"], true, "{round}: {status}\n{out}");
            (on["members"] == 2).then_some(())
        });
        assert!(settled.is_some(), "{round}: {}", service.status());
    }
    service.stop();
}

#[test]
fn service_restart_loses_no_client() {
    for user in User::all() {
        let port = free_port();
        let (number, address) = (port.to_string(), loopback(port));
        let command = [&*drains(), &number];
        let service = Service::start(*user, &[], &["-n", "2", "--ready", "tcp"], &command);
        service.wait_for_lines("told READY=1", 1);
        let (over, lost, served) =
            (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        match ask(address, REQUEST) {
                            Ok(answer) if !answer.is_empty() => {
                                served.fetch_add(1, Ordering::Relaxed)
                            }
                            _ => lost.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                });
            }
            let restarts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 1..=3 {
                    let enough = served.load(Ordering::Relaxed) + 200;
                    let load = || (served.load(Ordering::Relaxed) >= enough).then_some(());
                    assert!(eventually(load).is_some(), "{user:?}: nobody is served");
                    service.tell_manager("stop");
                    service.wait_for_lines("ended 0", round);
                    service.tell_manager("start");
                    service.wait_for_lines("told READY=1", round + 1);
                }
            }));
            over.store(true, Ordering::Relaxed);
            restarts.unwrap();
        });
        assert_eq!(lost.into_inner(), 0, "{user:?}: {}", service.manager.stderr());
        service.stop();
    }
}

/// Under systemd, PID 1 opens the socket, which belongs to root and lacks SO_REUSEPORT.
#[test]
fn socket_unit_serves_a_program_that_binds() {
    for user in User::all() {
        let unit = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unit.local_addr().unwrap();
        let port = address.port().to_string();
        let program =
            ["/usr/bin/env", "python3", "-m", "http.server", "--bind", "127.0.0.1", &port];
        // Before any worker serves.
        let early = begin(address);
        let service = Service::start(*user, &[&unit], &["-n", "2"], &program);
        service.wait_for_lines("told READY=1", 1);
        let answers = |mut client: TcpStream| {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.0 200")
        };
        assert!(answers(early), "{user:?}: {}", service.manager.stderr());
        let status = service.status();
        let on = &status["addresses"][0];
        assert_eq!((&on["members"], &on["held"]), (&1.into(), &true.into()), "{status}");
        let reason = on["not_steered"].as_str().unwrap();
        assert!(reason.contains("all workers accept from the one socket"), "{status}");
        assert_eq!(status["workers"][1]["addresses"][0], address.to_string(), "{status}");
        let restarted = service.sameport(&["restart", &service.name]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        assert!(answers(begin(address)), "{user:?}");
        // The socket stays with its unit.
        assert_eq!(service.count_lines("stored"), 0, "{}", service.manager.stdout());
        service.tell_manager("kill");
        service.wait_for_lines("ended -9", 1);
        let early = begin(address);
        service.tell_manager("start");
        assert!(answers(early), "{user:?}: {}", service.manager.stderr());
        service.wait_for_lines("told READY=1", 2);
        service.stop();
    }
}

#[test]
fn workers_inherit_the_sockets_of_listen() {
    let mut ways = vec![(User::Current, "seccomp"), (User::Current, "preload")];
    ways.extend(User::all().contains(&User::Nobody).then_some((User::Nobody, "seccomp")));
    for (user, via) in ways {
        let port = free_port();
        let listen = loopback(port).to_string();
        let program = script("serve_passed.py").into_os_string().into_string().unwrap();
        let service = Service::start(
            user,
            &[],
            &["-n", "2", "--listen", &listen, "--via", via],
            &["/usr/bin/env", "python3", &program],
        );
        service.wait_for_lines("told READY=1", 1);
        service.wait_for_lines("stored sameport-", 1);
        let serves =
            || ask(loopback(port), REQUEST).is_ok_and(|answer| answer.starts_with(b"HTTP/1.0 200"));
        assert!(serves(), "{via}: {}", service.manager.stderr());
        let status = service.status();
        assert_eq!(status["addresses"][0]["members"], 1, "{via}: {status}");
        assert_eq!(status["addresses"][0]["address"], *listen, "{via}: {status}");
        // The next supervisor gets the same socket, and passes it on.
        service.tell_manager("kill");
        service.wait_for_lines("ended -9", 1);
        let mut early = begin(loopback(port));
        service.tell_manager("start");
        service.wait_for_lines("told READY=1", 2);
        let mut answer = Vec::new();
        early.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{via}: {}", service.manager.stderr());
        assert_eq!(service.count_lines("stored"), 1, "{via}: {}", service.manager.stdout());
        service.stop();
    }
}

/// A program that ignores a passed socket gets it by its bind.
#[test]
fn bind_of_a_listen_address_gets_that_socket() {
    let port = free_port();
    let (number, listen) = (port.to_string(), loopback(port).to_string());
    let program = ["/usr/bin/env", "python3", "-m", "http.server", "--bind", "127.0.0.1", &number];
    let options = ["-n", "3", "--listen", &listen, "--ready", "http:/"];
    let service = Service::start(User::Current, &[], &options, &program);
    service.wait_for_lines("told READY=1", 1);
    let status = service.status();
    assert_eq!(status["addresses"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["addresses"][0]["members"], 1, "{status}");
    assert!(ask(loopback(port), REQUEST).unwrap().starts_with(b"HTTP/1.0 200"));
    let reexeced = service.sameport(&["reexec", &service.name]);
    assert_eq!(reexeced.code, 0, "{reexeced:?}\n{}", service.manager.stderr());
    let restarted = service.sameport(&["restart", &service.name]);
    assert_eq!(restarted.code, 0, "{restarted:?}\n{}", service.manager.stderr());
    assert_eq!(service.status()["addresses"][0]["members"], 1);
    service.stop();
}

/// The output of `sameport ARGUMENTS` with these sockets as descriptors 3, 4, … and LISTEN_FDS.
fn passed(sockets: &[&dyn AsFd], variables: &str, arguments: &[&str]) -> Exited {
    // Moved up first, because one can have the number of another's target.
    let number = |socket: &&dyn AsFd| socket.as_fd().as_raw_fd();
    let of = |text: &dyn Fn(i32, usize) -> String| -> String {
        sockets.iter().map(number).zip(0..).map(|(number, at)| text(number, at)).collect()
    };
    let away = of(&|number, at| format!("{}<&{number} {number}<&- ", at + 200));
    let there = of(&|_, at| format!("{}<&{} {}<&- ", at + 3, at + 200, at + 200));
    let text = format!("LISTEN_PID=$$ {variables} exec \"$@\" {away}{there}");
    let words = ["-c", &text, "sh", sameport().to_str().unwrap()];
    let mut command = command_for(User::Current, "/bin/bash", &words);
    command.args(arguments);
    pass(&mut command, sockets);
    spawn_process(command).wait()
}

#[test]
fn unusable_sockets_are_refused_before_the_start() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(in_test_dir("no-port.sock")).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let marker = in_test_dir("was-started");
    let touch = ["--", "touch", marker.to_str().unwrap()];
    let one = "LISTEN_FDS=1";
    let named = &["run", "--name", "refused"][..];
    type Sockets<'a> = &'a [&'a dyn AsFd];
    let cases: &[(Sockets<'_>, &str, &[&str], i32, &str)] = &[
        (&[&tcp], one, &["run"], 2, "only a named run"),
        (&[&udp, &tcp], "LISTEN_FDS=2", &["run"], 2, "LISTEN_FDS=2"),
        (&[&tcp], one, &["run", "--name", "refused", "--no-hold"], 2, "--no-hold"),
        (&[&tcp], "LISTEN_FDS=x", named, 1, "LISTEN_FDS=x"),
        (&[&tcp], "LISTEN_FDS=1 LISTEN_FDNAMES=a:b", named, 1, "LISTEN_FDNAMES=a:b"),
        (&[&tcp], "LISTEN_FDS=2", named, 1, "descriptor 4"),
        (&[&unix], one, named, 1, "descriptor 3 (unknown)"),
        (&[&tcp, &file], "LISTEN_FDS=2 LISTEN_FDNAMES=a:b", named, 1, "descriptor 4 (b)"),
        (&[&unbound], one, named, 1, "descriptor 3"),
    ];
    for (sockets, variables, arguments, code, told) in cases {
        let all: Vec<&str> = arguments.iter().copied().chain(touch).collect();
        let exited = passed(sockets, variables, &all);
        assert_eq!((exited.code, &*exited.stdout), (*code, ""), "{variables} {exited:?}");
        let first = exited.stderr.lines().next().unwrap();
        assert!(first.starts_with("error: ") && first.contains(told), "{told}: {exited:?}");
        assert!(exited.stderr.lines().nth(1).unwrap().starts_with("hint: "), "{exited:?}");
        assert!(!marker.exists(), "{variables} {arguments:?}");
    }
    // Sockets for another pid are ignored.
    let exited = passed(&[&tcp], "LISTEN_PID=1 LISTEN_FDS=1", &["run", "--", "true"]);
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
}
