//! A program takes the sockets of two socket units with the library, and compares them. The program is
//! this test, started again as a service.

use std::io::Write as _;

use sameport::{Options, PassedSockets};

use crate::harness::ask;
use crate::machine::{Setup, Systemd};
use crate::traffic::address;

const SERVICE: &str = "[Service]\n\
    ExecStart=/srv/program --exact passed_sockets::child_serves --ignored --nocapture\n\
    Sockets=web.socket plain.socket\n";
const WEB: &str =
    "[Socket]\nListenStream=8080\nReusePort=yes\nFileDescriptorName=web\nService=it.service\n";
const PLAIN: &str = "[Socket]\nListenStream=127.0.0.1:8081\nBindToDevice=lo\nService=it.service\n";

#[test]
fn a_program_takes_and_compares_the_sockets_of_two_units() {
    let program = std::env::current_exe().unwrap();
    let setup = Setup {
        units: &[("it.service", SERVICE), ("web.socket", WEB), ("plain.socket", PLAIN)],
        binds: &[(&program, "/srv/program")],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-passed", &setup) else { return };
    machine.systemctl("start web.socket plain.socket");
    let answer = machine.inside(|| ask(address(), b"")).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.lines().collect::<Vec<_>>(), EXPECTED, "{}", machine.journal("*"));
}

const EXPECTED: [&str; 4] = [
    "plain.socket: TCP 127.0.0.1:8081, exclusive",
    "web: TCP [::]:8080, shared",
    "LISTEN_FDS 127.0.0.1:8081: plain.socket differs: \
     it is not shared (a socket unit shares it by ReusePort=yes); it is on the device lo",
    "LISTEN_FDS 127.0.0.1:80: web differs: it is bound to [::]:8080",
];

/// Answers connections to 8080 with what it has taken. The order of the descriptors is systemd's.
#[test]
#[ignore = "started by the other test, as a service"]
fn child_serves() {
    let mut passed = PassedSockets::take().unwrap();
    let number = |text: &str, number: i32, name: &str| {
        text.replace(&format!("descriptor {number} ({name}), "), "")
    };
    let mut lines: Vec<String> = passed
        .iter()
        .map(|it| {
            let shared = if it.is_shared() { "shared" } else { "exclusive" };
            format!("{}: {}, {shared}", it.name(), number(&it.to_string(), it.number(), it.name()))
        })
        .collect();
    lines.sort();
    for (name, asked) in [("plain.socket", "127.0.0.1:8081"), ("web", "127.0.0.1:80")] {
        let socket = passed.iter().find(|socket| socket.name() == name).unwrap();
        let error = socket.check(&Options::shared(), asked).unwrap_err().to_string();
        let of = format!("{socket} differs");
        lines.push(error.replace(&of, &format!("{name} differs")));
    }
    let on_lo = Options::exclusive().device("lo");
    passed.listen(&on_lo, "127.0.0.1:8081").unwrap();
    let listener = passed.listen(&Options::shared(), 8080).unwrap();
    assert!(passed.is_empty());
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        // A client can be gone.
        let _ = stream.write_all(lines.join("\n").as_bytes());
    }
}
