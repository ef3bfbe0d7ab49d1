//! Advice of `why` that changes units: each printed line is followed.

use crate::machine::{ANN, Setup, Systemd};
use crate::user_manager::as_ann;

const SERVER: &str = "\
import os, socket
it = socket.socket(fileno=3) if 'LISTEN_FDS' in os.environ else socket.create_server(('0.0.0.0', 8080))
while True:
    it.accept()[0].close()
";

const WEB: &str = "[Service]\nExecStart=/usr/bin/python3 /etc/server.py\n";

const SOCKET: &str = "[Socket]\nListenStream=0.0.0.0:8080\nService=web.service\n";

/// An editor for `systemctl edit`.
const EDITOR: &str =
    "#!/bin/sh\nfor file; do :; done\nprintf '[Socket]\\nReusePort=yes\\n' >\"$1\"\n";

/// The change in `share it: CHANGE, and yours under …`.
fn change(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("  share it: "));
    let line = line.unwrap_or_else(|| panic!("no way to share: {text}"));
    assert!(line.ends_with(", and yours under `sameport run --join -- COMMAND`"), "{text}");
    line.split_once(", and yours under ").unwrap().0
}

/// Another program joins, as the advice says.
fn join(machine: &Systemd) {
    let line = "systemd-notify --booted && cd / && { sameport run --join -- python3 /etc/server.py \
                >/tmp/join 2>&1 & }";
    machine.shell(line);
    machine.wait_until("two members", || {
        let listed = machine.run("sameport ls --json 8080").stdout;
        let all: serde_json::Value = serde_json::from_str(&listed).ok()?;
        let members = all["groups"][0]["members"].as_array()?.len();
        (members == 2).then_some(())
    });
    machine.shell("kill $(pgrep -f '^sameport run --join')");
    machine.wait_until("one member", || {
        let listed = machine.run("sameport ls --json 8080").stdout;
        let all: serde_json::Value = serde_json::from_str(&listed).ok()?;
        (all["groups"][0]["members"].as_array()?.len() == 1).then_some(())
    });
}

#[test]
fn a_service_and_a_socket_unit_are_made_to_share() {
    let setup = Setup {
        units: &[("web.service", WEB), ("web.socket", SOCKET)],
        files: &[("/etc/server.py", SERVER), ("/etc/editor", EDITOR)],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-share", &setup) else { return };
    let why = || {
        machine.wait_until("it listens", || {
            let text = machine.run("sameport why 0.0.0.0:8080").stdout;
            text.starts_with("no").then_some(text)
        })
    };
    machine.systemctl("start web.service");
    let text = why();
    let advice = change(&text);
    assert_eq!(advice, "sameport attach --unit web.service, then systemctl restart web.service");
    machine.shell(&advice.replace(", then ", " && "));
    join(&machine);
    machine.shell("sameport detach --unit web.service && systemctl stop web.service");

    // The manager alone, then beside the service.
    for stop in ["", "systemctl stop web.service && "] {
        machine.systemctl("start web.socket");
        if !stop.is_empty() {
            let _client = machine.inside(|| std::net::TcpStream::connect("127.0.0.1:8080"));
            machine.wait_until("the service has the socket", || {
                why().contains("kept by systemd").then_some(())
            });
        }
        let text = why();
        let advice = change(&text);
        let expected = format!(
            "ReusePort=yes in its [Socket] section (`systemctl edit web.socket`), then \
             {stop}systemctl restart web.socket"
        );
        assert_eq!(advice, expected);
        machine.shell(&format!(
            "chmod +x /etc/editor && SYSTEMD_EDITOR=/etc/editor script -qec 'systemctl edit web.socket' /dev/null && {}",
            advice.split_once(", then ").unwrap().1
        ));
        join(&machine);
        machine.shell("systemctl stop web.service web.socket; systemctl revert web.socket");
    }
}

#[test]
fn a_socket_unit_gives_a_user_a_low_port() {
    let setup = Setup { files: &[("/etc/server.py", SERVER)], ..Setup::default() };
    let Some(machine) = Systemd::boot("systemd-low-port", &setup) else { return };
    let words = as_ann("sameport why 127.0.0.1:80");
    let asked = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let text = asked.stdout;
    let line = text.lines().find_map(|line| line.strip_prefix("  as root: a socket unit with "));
    let line = line.unwrap_or_else(|| panic!("no socket unit: {text}"));
    let (listen, command) = line.split_once(" for a service with `").unwrap();
    let command = command.trim_end_matches('`').replace("NAME", "low");
    let command = command.replace("COMMAND", "/usr/bin/python3 /etc/low.py");
    let server = SERVER.replace("('0.0.0.0', 8080)", "('127.0.0.1', 80)");
    let service = format!(
        "[Service]\nUser={ANN}\nRuntimeDirectory=low\nType=notify\nNotifyAccess=all\n\
         ExecStart=/usr/bin/{command}\n"
    );
    machine.shell(&format!(
        "cat >/etc/low.py <<'E'\n{}E\n",
        server.replace("socket.socket(fileno=3) if 'LISTEN_FDS' in os.environ else ", "")
    ));
    machine.shell(&format!("cat >/etc/systemd/system/low.service <<'E'\n{service}E\n"));
    machine.shell(&format!("printf '[Socket]\\n{listen}\\n' >/etc/systemd/system/low.socket"));
    machine.systemctl("daemon-reload");
    machine.systemctl("start low.socket low.service");
    machine.wait_until("the server has the port", || {
        let text = machine.run("sameport why 127.0.0.1:80").stdout;
        text.contains("), run low, worker 1, ").then_some(())
    });
    let pid = machine.main_pid("low.service");
    assert_eq!(machine.shell(&format!("stat -c %u /proc/{pid}")), format!("{ANN}\n"));
}
