//! Who holds a port, where the holder is a service manager or a unit: `why` names the unit, and its advice
//! frees the port.

use crate::machine::{Setup, Systemd};

const SERVER: &str = "\
import os, signal, socket
it = socket.socket(fileno=3) if 'LISTEN_FDS' in os.environ else socket.create_server(('0.0.0.0', 8080))
while True:
    it.accept()
";

const WEB: &str = "\
[Service]
ExecStart=/usr/bin/python3 /etc/server.py
";

const SOCKET: &str = "\
[Socket]
ListenStream=0.0.0.0:8080
Service=web.service
";

/// Gives the advice to a shell: afterwards the address can be bound.
fn follow(machine: &Systemd, text: &str, advice: &str) {
    assert!(text.contains(&format!("\n  {advice}\n")), "{advice}: {text}");
    machine.shell(advice);
    machine.wait_until("the address is free", || {
        (machine.run("sameport why 0.0.0.0:8080").code != 1).then_some(())
    });
}

#[test]
fn units_and_sockets_are_named() {
    let units = [("web.service", WEB), ("web.socket", SOCKET)];
    let files = [("/etc/server.py", SERVER)];
    let setup = Setup { units: &units, files: &files, ..Setup::default() };
    let Some(machine) = Systemd::boot("systemd-holders", &setup) else { return };
    let why = || machine.run("sameport why 0.0.0.0:8080").stdout;
    let held = || {
        machine
            .wait_until("it listens", || (machine.run("sameport ls 8080").code == 0).then_some(()));
    };

    machine.systemctl("start web.service");
    held();
    let text = why();
    let pid = machine.property("web", "MainPID");
    assert!(text.contains(&format!("  python3 (pid {pid}, user root), web.service")), "{text}");
    // The socket unit is loaded: it would keep the port.
    assert!(text.contains("systemctl stop web.service"), "{text}");
    let advice = text.lines().find(|line| line.starts_with("  systemctl stop ")).unwrap();
    follow(&machine, &text, advice.trim_start());

    machine.systemctl("start web.socket");
    let text = why();
    assert!(text.contains("  systemd (pid 1), for web.socket listens on 0.0.0.0:8080"), "{text}");
    assert!(!text.contains("kill 1") && !text.contains("/sbin/init"), "{text}");
    let list = machine.run("sameport ls 8080").stdout;
    assert!(list.contains("for web.socket"), "{list}");
    follow(&machine, &text, "systemctl stop web.socket");

    // The manager and the service.
    machine.systemctl("start web.socket");
    let client = machine.inside(|| std::net::TcpStream::connect("127.0.0.1:8080"));
    machine.wait_until("the service runs", || {
        (machine.property("web", "MainPID") != "0").then_some(())
    });
    let text = machine.wait_until("the service has the socket", || {
        let text = why();
        text.contains("kept by systemd").then_some(text)
    });
    let pid = machine.property("web", "MainPID");
    let line = format!(
        "  python3 (pid {pid}, user root), web.service, kept by systemd (pid 1) for web.socket listens on"
    );
    assert!(text.contains(&line), "{text}");
    let list = machine.run("sameport ls 8080").stdout;
    let row = list.lines().nth(1).unwrap();
    assert!(row.contains(&format!("  {pid}  ")) && !row.contains(&format!("1,{pid}")), "{list}");
    assert!(row.ends_with("kept by systemd (pid 1) for web.socket"), "{list}");
    drop(client);
    follow(&machine, &text, "systemctl stop web.service web.socket");
    assert_eq!(machine.property("web", "ActiveState"), "inactive");
}

/// The manager has copies of a run's sockets (FDSTORE): a keeper beside the worker.
#[test]
fn stored_sockets_are_kept_beside_their_server() {
    let unit = "[Service]\nType=notify\nNotifyAccess=all\nFileDescriptorStoreMax=16\n\
                ExecStart=/usr/bin/env sameport run --name web -- /usr/bin/python3 /etc/server.py\n";
    let setup = Setup {
        units: &[("stored.service", unit)],
        files: &[("/etc/server.py", SERVER)],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-stored", &setup) else { return };
    machine.systemctl("start stored.service");
    machine.systemctl("restart stored.service");
    let text = machine.wait_until("the socket is stored", || {
        let text = machine.run("sameport why 0.0.0.0:8080").stdout;
        text.contains("kept by systemd (pid 1)").then_some(text)
    });
    let holder = text.lines().nth(1).unwrap();
    assert!(holder.starts_with("  python3 (pid "), "{text}");
    assert!(
        holder.contains("), run web, worker 1, stored.service, kept by systemd (pid 1)"),
        "{text}"
    );
    let list = machine.run("sameport ls 8080").stdout;
    let row = list.lines().nth(1).unwrap();
    assert!(row.contains("run web, worker 1, kept by systemd (pid 1)"), "{list}");
    assert!(!row.contains("sameport,") && !row.contains("systemd,"), "{list}");
    follow(&machine, &text, "systemctl stop stored.service");
}
