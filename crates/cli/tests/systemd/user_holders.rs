//! A port that is held by a unit of a user's manager: what `why` prints to that user, to root and to others,
//! and that it frees the port.

use crate::machine::{ANN, Setup};
use crate::user_manager::{as_ann, boot_with_manager, run};

const SERVER: &str = "\
import os, socket
it = socket.socket(fileno=3) if 'LISTEN_FDS' in os.environ else socket.create_server(('0.0.0.0', 8080))
while True:
    it.accept()
";

/// A service that a signal does not end.
const WEB: &str =
    "[Service]\nExecStart=/usr/bin/python3 /etc/server.py\nRestart=always\nRestartSec=0\n";

const SOCKET: &str = "[Socket]\nListenStream=0.0.0.0:8080\nService=web.service\n";

const DIRECTORY: &str = "/home/ann/.config/systemd/user";

#[test]
fn a_unit_of_a_user_is_stopped_by_its_manager() {
    let (web, socket) = (format!("{DIRECTORY}/web.service"), format!("{DIRECTORY}/web.socket"));
    let setup = Setup {
        files: &[("/etc/server.py", SERVER), (&web, WEB), (&socket, SOCKET)],
        ..Setup::default()
    };
    let Some(machine) = boot_with_manager("systemd-user-holders", &setup) else { return };
    let shell =
        |words: &[&str], line: &str| machine.run_words(&[words, &["sh", "-c", line]].concat());
    let ann = as_ann("");
    let ann: Vec<&str> = ann.iter().map(String::as_str).collect();
    let bare = [&ann[..], &["env", "--unset=XDG_RUNTIME_DIR"]].concat();
    let at = format!("XDG_RUNTIME_DIR=/run/user/{ANN}");
    let cases = [
        ("ann", &ann[..], "systemctl --user".to_owned()),
        ("ann without XDG_RUNTIME_DIR", &bare[..], format!("{at} systemctl --user")),
        ("root", &[][..], format!("runuser -u ann -- env {at} systemctl --user")),
    ];
    for (who, words, systemctl) in cases {
        for (unit, stop) in [("web.service", "web.service"), ("web.socket", "web.socket")] {
            run(&machine, &format!("systemctl --user start {unit}"));
            machine.wait_until("it listens", || {
                (machine.run("sameport ls 8080").code == 0).then_some(())
            });
            let text = shell(words, "sameport why 0.0.0.0:8080").stdout;
            let label =
                if unit == "web.service" { "user unit web.service" } else { "for web.socket" };
            assert!(text.contains(label), "{who}: {text}");
            let advice = format!("{systemctl} stop {stop}");
            assert!(text.contains(&format!("\n  {advice}\n")), "{who}: {advice}: {text}");
            let followed = shell(words, &advice);
            assert_eq!(followed.code, 0, "{who}: {followed:?}");
            machine.wait_until("the address is free", || {
                (machine.run("sameport ls 8080").code == 1).then_some(())
            });
        }
    }
    // Of the facts, another user sees the cgroup.
    run(&machine, "systemctl --user start web.service");
    let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let text = machine.wait_until("it listens", || {
        let text = shell(&other, "sameport why 0.0.0.0:8080").stdout;
        text.starts_with("no").then_some(text)
    });
    let line = "\n  as user ann: systemctl --user stop web.service";
    let unseen = "\n  ask again as root, who sees the program";
    assert!(text.contains(line) || text.contains(unseen), "{text}");
}
