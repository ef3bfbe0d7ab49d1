//! The options that a program reads after its bind under `run`.

use crate::harness::{self, User, c_program, free_port, start_command, start_run};

/// The command line of `bound.c`, which prints the options.
fn bound(words: &[&str]) -> Vec<String> {
    let program = c_program("bound", &[]);
    let program = program.to_str().unwrap();
    [program].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// Per case: protocol, options that the program sets, SO_REUSEADDR and SO_REUSEPORT after the bind,
/// without and under `run`.
type Row = (&'static str, &'static [&'static str], (u8, u8), (u8, u8));

#[test]
fn reuseport_is_set_and_reuseaddr_is_cleared_on_udp_only() {
    let rows: [Row; 8] = [
        ("tcp", &[], (0, 0), (0, 1)),
        ("tcp", &["ra"], (1, 0), (1, 1)),
        ("udp", &[], (0, 0), (0, 1)),
        // Both options together would let every user's datagram sockets join.
        ("udp", &["ra"], (1, 0), (0, 1)),
        // A program that sets SO_REUSEPORT keeps its options.
        ("tcp", &["rp"], (0, 1), (0, 1)),
        ("tcp", &["ra", "rp"], (1, 1), (1, 1)),
        ("udp", &["rp"], (0, 1), (0, 1)),
        ("udp", &["ra", "rp"], (1, 1), (1, 1)),
    ];
    for user in User::all() {
        for (protocol, sets, alone, under_run) in rows {
            let port = free_port();
            let place = [protocol, "127.0.0.1", &port.to_string()];
            let command = bound(&[&place[..], sets].concat());
            let line = |(ra, rp): (u8, u8)| format!("{port} reuseaddr={ra} reuseport={rp}\n");

            let program = start_command(*user, &command[0], &command[1..]);
            program.wait_for_stdout(&line(alone));
            program.terminate();

            let program = start_run(*user, &[], &command);
            program.wait_for_stdout(&line(under_run));
            assert_eq!(program.terminate().stdout, line(under_run));
        }
    }
}

#[test]
fn ephemeral_ports_are_not_shared() {
    for user in User::all() {
        for protocol in ["tcp", "udp"] {
            for sets in [&[][..], &["ra"]] {
                let command = bound(&[&[protocol, "127.0.0.1", "0"], sets].concat());
                let program = start_run(*user, &[], &command);
                program.wait_for_stdout(&format!("0 reuseaddr={} reuseport=0\n", sets.len()));
                program.terminate();
            }
        }
    }
}

#[test]
fn only_requested_ports_are_shared() {
    for user in User::all() {
        for protocol in ["tcp", "udp"] {
            let [shared, other, also_shared] = [(); 3].map(|()| free_port());
            let [one, two] = [shared, also_shared].map(|port| port.to_string());
            let options = ["--group", "ports", "--port", one.as_str(), "--port", two.as_str()];
            let ports = format!("{shared},{other},{also_shared}");
            let first = start_run(*user, &options, &bound(&[protocol, "127.0.0.1", &ports]));
            first.wait_for_stdout(&format!(
                "{shared} reuseaddr=0 reuseport=1\n{other} reuseaddr=0 reuseport=0\n\
                 {also_shared} reuseaddr=0 reuseport=1\n"
            ));

            let second = start_run(*user, &options, &bound(&[protocol, "127.0.0.1", &one]));
            second.wait_for_stdout(&format!("{shared} reuseaddr=0 reuseport=1\n"));
            second.wait_for_stderr(&format!(
                "127.0.0.1:{shared}/{protocol} is now shared by 2: pid "
            ));

            // The port in between is not shared: the kernel refuses a second program.
            let between = bound(&[protocol, "127.0.0.1", &other.to_string()]);
            let exited = start_run(*user, &options, &between).wait();
            let refused = format!("bind: port {other}: Address already in use\n");
            assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
            assert!(exited.stderr.starts_with(&refused), "{exited:?}");
            second.terminate();
            first.terminate();
        }
    }
}

/// A port that is not shared must be free once the program closes it, so the supervisor must not
/// keep the socket longer. Readers of /proc/PID/fd, such as other tests, delay the close a little,
/// rarely; a supervisor would delay it nearly always.
#[test]
fn closed_socket_frees_its_port_at_once() {
    let python = match crate::programs::installed("python3") {
        Ok(python) => python,
        Err(reason) => return harness::skip("a-closed-socket-is-gone-at-once", &reason),
    };
    const PROBE: &str = "
import socket, sys
refused = 0
for _ in range(200):
    with socket.socket() as probe:
        try:
            probe.bind(('127.0.0.1', int(sys.argv[1])))
            probe.listen()
        except OSError:
            refused += 1
print('free' if refused <= 5 else f'{refused} of 200 refused')
";
    for user in User::all() {
        for ports in [&[][..], &["--port", "1"]] {
            let port = free_port().to_string();
            let command = [python.to_str().unwrap(), "-c", PROBE, &port];
            let exited = start_run(*user, ports, &command).wait();
            assert_eq!((exited.code, exited.stdout.as_str()), (0, "free\n"), "{exited:?}");
        }
    }
}
