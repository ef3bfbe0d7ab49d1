//! An upgrade to a program on another address, which fails.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::harness::load::{Client, while_served};
use crate::harness::named_run::{NamedRun, RunSetup, responder};
use crate::harness::{User, eventually, find_program, skip};

/// Listens on `host` and answers each request after 10 ms; with `"deaf"`, it ends only by SIGKILL, with
/// `"exits"` it accepts nothing and exits.
const SERVER: &str = "
import signal, socket, sys, threading, time
port, host, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if how == 'deaf': signal.signal(signal.SIGTERM, signal.SIG_IGN)
s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
if ':' in host: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, port))
s.listen(128)
if how == 'exits': time.sleep(0.5); sys.exit(3)
def answer(client):
    client.recv(4096)
    time.sleep(0.01)
    client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok')
    client.close()
while True:
    try: client = s.accept()[0]
    except OSError:
        if how != 'deaf': raise
        time.sleep(0.1)
        continue
    threading.Thread(target=answer, args=[client]).start()
";

/// The addresses of the run, with the number of sockets.
fn addresses(run: &NamedRun) -> BTreeMap<String, u64> {
    let status = run.status();
    let all = status["addresses"].as_array().into_iter().flatten();
    all.map(|it| (it["address"].as_str().unwrap().into(), it["members"].as_u64().unwrap()))
        .collect()
}

/// The kernel prefers `0.0.0.0` to `::`, and `127.0.0.1` to `0.0.0.0`, so the program that is given up
/// has clients. Those that it has are answered, and those that come later are the old workers'.
#[test]
fn an_upgrade_that_takes_the_clients_and_fails_loses_nothing() {
    let Some(python) = find_program("python3") else {
        return skip("failed_upgrades", "no python3");
    };
    let python = python.to_str().unwrap();
    let cases = [("::", "0.0.0.0", ""), ("0.0.0.0", "127.0.0.1", ""), ("::", "0.0.0.0", "deaf")];
    for (old, new, how) in cases {
        let user = User::all().last().copied().unwrap_or(User::Current);
        let setup = RunSetup::new(user);
        let (port, to) = (setup.port.to_string(), setup.address());
        let options = ["-n", "2", "--ready-timeout", "1s", "--grace", "2s"];
        let run = setup.run(&options, &[python, "-c", SERVER, &port, old, ""]);
        run.wait_for_ready(2);
        let before = addresses(&run);
        let ((), tally) = while_served(&[Client::OneShot; 6], to, || {
            for _ in 0..2 {
                let words = ["--", python, "-c", SERVER, &port, new, how];
                let failed = run.try_verb("upgrade", &words);
                assert_eq!(failed.code, 1, "{failed:?}");
                assert!(failed.stderr.contains("not ready in time"), "{failed:?}");
                // The socket of the program does not outlive the program.
                let closed = eventually(|| (addresses(&run) == before).then_some(()));
                assert!(closed.is_some(), "{}\n{}", run.status(), run.supervisor.stderr());
            }
            thread::sleep(Duration::from_secs(2));
        });
        assert!(
            tally.lost.is_empty(),
            "{old} to {new} {how}: {:?}\n{:?}\n{}",
            tally.kinds(),
            tally.lost,
            run.supervisor.stderr()
        );
        assert!(tally.answered > 0);
        run.stop();
    }
}

/// A program that ends only by SIGKILL does not get the clients again while the grace period is over: they would be
/// cut with its end.
#[test]
fn a_deaf_program_that_is_given_up_gets_no_clients_again() {
    let Some(python) = find_program("python3") else {
        return skip("failed_upgrades", "no python3");
    };
    let python = python.to_str().unwrap();
    let setup = RunSetup::new(User::Current);
    let (port, to) = (setup.port.to_string(), setup.address());
    let options = ["-n", "2", "--ready-timeout", "3s", "--grace", "14s"];
    let run = setup.run(&options, &[python, "-c", SERVER, &port, "::", ""]);
    run.wait_for_ready(2);
    let ((), tally) = while_served(&[Client::OneShot; 6], to, || {
        // On a busy machine the program may not listen in time.
        for _ in 0..10 {
            let words = ["--", python, "-c", SERVER, &port, "0.0.0.0", "deaf"];
            let failed = run.try_verb("upgrade", &words);
            assert_eq!(failed.code, 1, "{failed:?}");
            if failed.stderr.contains("the worker listens on 0.0.0.0") {
                break;
            }
        }
    });
    let stderr = run.supervisor.stderr();
    assert!(stderr.contains("killed by SIGKILL"), "{stderr}");
    assert!(tally.answered > 0 && tally.lost.is_empty(), "{:?}\n{stderr}", tally.lost);
    run.stop();
}

/// The queue of a program that exits by itself takes no client after its end.
#[test]
fn a_program_that_exits_after_its_listen_leaves_no_socket() {
    let Some(python) = find_program("python3") else {
        return skip("failed_upgrades", "no python3");
    };
    let python = python.to_str().unwrap();
    const CLIENTS: usize = 6;
    for (old, new) in [("::", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")] {
        let setup = RunSetup::new(User::Current);
        let (port, to) = (setup.port.to_string(), setup.address());
        let run = setup.run(&["-n", "2"], &[python, "-c", SERVER, &port, old, ""]);
        run.wait_for_ready(2);
        let before = addresses(&run);
        let words = ["--", python, "-c", SERVER, &port, new, "exits"];
        let ((), tally) = while_served(&[Client::OneShot; CLIENTS], to, || {
            let failed = run.try_verb("upgrade", &words);
            assert_eq!(failed.code, 1, "{failed:?}");
            assert_eq!(addresses(&run), before);
            responder(to).unwrap();
        });
        // Each client has one connection in the queue of the program when it exits.
        assert!(tally.lost.len() <= CLIENTS, "{:?}\n{}", tally.lost, run.supervisor.stderr());
        assert!(tally.answered > 0);
        run.stop();
    }
}
