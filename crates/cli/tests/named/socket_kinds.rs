//! Kinds of sockets and runs: UDP, IPv6, both families, mapped addresses, a shared queue, no held
//! sockets, scaling.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};

use crate::harness::named_run::{
    NamedRun, RunSetup, has_exited, queue_reaches_next_worker, responder, rogue_command,
    while_clients_served,
};
use crate::harness::{User, ask_datagram, c_program, eventually, kill};

fn drains(setup: RunSetup, options: &[&str]) -> NamedRun {
    let program = c_program("drains", &[]);
    setup.run(options, &[program.to_str().unwrap(), "{port}"])
}

/// The command line of `who PROTOCOL ADDRESS PORT`.
fn who_at(protocol: &str, address: &str) -> Vec<String> {
    let program = c_program("who", &[]).into_os_string().into_string().unwrap();
    vec![program, protocol.to_owned(), address.to_owned(), "{port}".to_owned()]
}

/// Datagrams that arrive while no worker is alive wait in the held socket.
#[test]
fn udp_restarts() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let command = who_at("udp", "127.0.0.1");
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let command = setup.gated_command(&command);
        let run = setup.run(&[], &command);
        let before = run.wait_for_ready(1);
        let address = run.setup.address();
        let first = ask_datagram(address, b"?").unwrap();
        run.setup.close_gate();
        kill(*before.first().unwrap(), libc::SIGKILL);
        let gone = eventually(|| (!before.contains(&run.wait_for_worker(1))).then_some(()));
        assert!(gone.is_some(), "{}", run.supervisor.stderr());
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(crate::harness::SOCKET_TIMEOUT)).unwrap();
        client.connect(address).unwrap();
        client.send(b"?").unwrap();
        run.setup.open_gate();
        let mut request_over = [0; 64];
        let length = client.recv(&mut request_over).unwrap();
        assert_ne!(request_over[..length], first[..], "{user:?}");
        let restarted = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&restarted));
        ask_datagram(address, b"?").unwrap();
        let status = run.status();
        assert_eq!(status["addresses"][0]["proto"], "udp", "{status}");
        assert_eq!(status["addresses"][0]["held"], true, "{status}");
        assert_eq!(status["addresses"][0]["members"], 1, "{status}");
        run.stop();
    }
}

/// A v6-only wildcard and the IPv4 wildcard are two separate held sockets.
#[test]
fn families_are_held_separately() {
    const BOTH: &str = "
import http.server, os, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'%d %s' % (os.getpid(), self.server.which)
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
class V6(http.server.HTTPServer):
    address_family = socket.AF_INET6
    which = b'six'
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
class V4(http.server.HTTPServer):
    which = b'four'
port = int(sys.argv[1])
kinds = [(V6, '::'), (V4, '0.0.0.0')]
# Another order each time, as good as.
for kind, host in kinds[::1 if os.getpid() % 2 else -1]:
    threading.Thread(target=kind((host, port), Handler).serve_forever).start()
";
    let Some(python) = crate::harness::find_program("python3") else {
        return crate::harness::skip("named-families", "no python3");
    };
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let command = setup.gated_command(&[python.to_str().unwrap(), "-c", BOTH, "{port}"]);
        let run = setup.run(&["--ready", "tcp"], &command);
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, run.setup.port));
        for _ in 0..2 {
            queue_reaches_next_worker(&run, run.setup.address(), "four");
            queue_reaches_next_worker(&run, v6, "six");
            assert!(responder(run.setup.address()).unwrap().ends_with(" four"));
            assert!(responder(v6).unwrap().ends_with(" six"));
        }
        run.verb("restart", &[]);
        assert!(responder(run.setup.address()).unwrap().ends_with(" four"));
        assert!(responder(v6).unwrap().ends_with(" six"));
        run.stop();
    }
}

/// With `--map` the mapped address is held.
#[test]
fn mapped_address_is_held() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let command = rogue_command("good");
        let send_request = crate::harness::free_port().to_string();
        let command = [command[0].as_str(), "good", &send_request];
        let command = setup.gated_command(&command);
        let map = format!("{send_request}={{port}}");
        let run = setup.run(&["--map", &map], &command);
        let to = run.setup.address();
        queue_reaches_next_worker(&run, to, "moved");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        responder(to).unwrap();
        run.stop();
    }
}

/// All workers accept from one socket, which outlives each of them.
#[test]
fn one_queue_for_all() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["--queue", "shared", "-n", "3", "--ready", "tcp"]);
        let before = run.wait_for_ready(3);
        let address = run.setup.address();
        let status = run.status();
        assert_eq!(status["addresses"][0]["members"], 1, "{status}");
        while_clients_served(&run, address, || run.verb("restart", &[]));
        let restarted = run.wait_for_ready(3);
        assert!(restarted.is_disjoint(&before));
        assert_eq!(run.status()["addresses"][0]["members"], 1);
        for pid in &restarted {
            kill(*pid, libc::SIGKILL);
        }
        // A connection that a dying worker accepts is lost with it.
        for pid in &restarted {
            assert!(eventually(|| has_exited(*pid).then_some(())).is_some(), "{pid}");
        }
        // No connection is refused in between.
        responder(address).unwrap();
        assert!(run.wait_for_ready(3).is_disjoint(&restarted));
        run.stop();
    }
}

/// With `--no-hold` workers still restart, and `status` names what is not held.
#[test]
fn no_hold() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["--no-hold", "-n", "2"]);
        let before = run.wait_for_ready(2);
        let status = run.status();
        let remarks = status["remarks"].to_string();
        assert!(remarks.contains("sockets are not held (--no-hold)"), "{status}");
        kill(*before.first().unwrap(), libc::SIGKILL);
        let next = eventually(|| {
            let next = run.wait_for_ready(2);
            (next.intersection(&before).count() == 1).then_some(next)
        });
        assert!(next.is_some(), "{}", run.supervisor.stderr());
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(2).is_disjoint(&next.unwrap()));
        run.stop();
    }
}

/// Scaling up and down under load.
#[test]
fn scales_under_connections() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "1", "--ready", "tcp"]);
        let before = run.wait_for_ready(1);
        let address = run.setup.address();
        while_clients_served(&run, address, || run.verb("scale", &["4"]));
        let four = run.wait_for_ready(4);
        assert!(four.is_superset(&before));
        let answering =
            || -> BTreeSet<String> { (0..200).map(|_| responder(address).unwrap()).collect() };
        assert_eq!(answering().len(), 4, "each has its share");
        while_clients_served(&run, address, || run.verb("scale", &["2"]));
        let two = run.wait_for_ready(2);
        assert!(four.is_superset(&two));
        let serving: BTreeSet<String> = two.iter().map(ToString::to_string).collect();
        assert_eq!(answering(), serving);
        let zero = run.try_verb("scale", &["0"]);
        assert_ne!(zero.code, 0, "{zero:?}");
        run.stop();
    }
}
