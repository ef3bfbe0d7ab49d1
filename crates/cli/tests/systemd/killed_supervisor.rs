//! A service whose supervisor was killed: its manager starts it again, and no verb does so beside the manager.

use crate::machine::{Setup, Systemd};
use crate::traffic::{SERVER, WEB, server_bind, web_machine};
use crate::user_manager::{UNIT, as_ann, boot_with_manager};

const STATUS: &str = "env XDG_RUNTIME_DIR=/run/sameport-web sameport";

/// The workers live on, and the directory of the record stays.
const LEFT: &str = "[Service]\nRestart=no\nKillMode=process\nRuntimeDirectoryPreserve=yes\nFileDescriptorStoreMax=0\n";

/// The hint of a verb that is refused.
#[track_caller]
fn refused(machine: &Systemd, words: &[&str], reason: &str) -> String {
    let exited = machine.run_words(words);
    assert_eq!(exited.code, 1, "{words:?}: {exited:?}");
    assert!(exited.stderr.contains(reason), "{words:?}: {exited:?}");
    let hint = exited.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    hint.unwrap_or_else(|| panic!("{exited:?}")).to_owned()
}

#[test]
fn restart_is_left_to_the_manager() {
    let units = [("sameport@web.service.d/left.conf", LEFT)];
    let more = Setup { units: &units, ..Setup::default() };
    let Some(machine) = web_machine("systemd-left", "-n 2 --ready tcp", &more) else { return };
    let words = |line: &str| -> Vec<String> {
        STATUS.split(' ').chain(line.split(' ')).map(str::to_owned).collect()
    };
    let hint_of = |line: &str, reason: &str| {
        let words = words(line);
        refused(&machine, &words.iter().map(String::as_str).collect::<Vec<_>>(), reason)
    };
    machine.systemctl(&format!("start {WEB}"));
    let kill = || {
        let main = machine.main_pid(WEB);
        machine.systemctl(&format!("kill --signal=KILL --kill-whom=main {WEB}"));
        machine.wait_until("end of the service", || {
            (machine.property(WEB, "ActiveState") == "failed").then_some(())
        });
        main
    };
    kill();
    // The workers serve.
    let restart = hint_of("restart web", "was killed, and sameport@web.service starts it");
    assert_eq!(restart, "systemctl restart sameport@web.service");
    for line in ["status web", "scale web 3", "upgrade web -- /usr/bin/false", "reexec web"] {
        let hint = hint_of(line, "its workers (pids ");
        assert_eq!(hint, format!("replace them: {restart}"), "{line}");
    }
    machine.shell(&restart);
    assert_eq!(machine.property(WEB, "ActiveState"), "active");
    assert!(machine.shell(&format!("{STATUS} status web")).contains("2 of 2 workers ready"));

    // No worker is left.
    let pids = machine.shell(&format!("{STATUS} status web --json"));
    let pids: serde_json::Value = serde_json::from_str(&pids).unwrap();
    kill();
    for worker in pids["runs"][0]["workers"].as_array().unwrap() {
        // One that was replaced may have ended meanwhile.
        machine.run(&format!("kill -KILL {}", worker["pid"]));
    }
    let again = machine.wait_until("end of the workers", || {
        let exited = machine.run(&format!("{STATUS} status web"));
        exited.stderr.contains("and so are its workers").then_some(exited.stderr)
    });
    assert!(again.contains(&format!("hint: start it again: {restart}\n")), "{again}");
    assert_eq!(hint_of("restart web", "another would be outside of the service"), restart);
    machine.shell(&restart);
    assert!(machine.shell(&format!("{STATUS} status web")).contains("2 of 2 workers ready"));

    // A service that has ended is started by its manager too.
    machine.systemctl(&format!("stop {WEB}"));
    let hint = hint_of("status web", "web has ended");
    assert_eq!(hint, "start it again: systemctl start sameport@web.service");
    machine.shell(hint.strip_prefix("start it again: ").unwrap());
    assert_eq!(machine.property(WEB, "ActiveState"), "active");
}

/// A run that a user starts in the background of a service belongs to no manager.
#[test]
fn a_run_below_a_service_is_started_again_as_elsewhere() {
    let shell = format!(
        "[Service]\nType=exec\nExecStart=/bin/sh -c 'sameport run --name job -- {SERVER} & wait; sleep 1000'\n"
    );
    let (server, target) = server_bind();
    let setup = Setup {
        units: &[("shell.service", &shell)],
        binds: &[(&server, target)],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-below", &setup) else { return };
    machine.systemctl("start shell");
    let status = machine.wait_until("ready worker", || {
        let status = machine.run("sameport status job --json").stdout;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        (status["runs"][0]["workers"][0]["state"] == "ready").then_some(status)
    });
    machine.shell(&format!("kill -KILL {}", status["runs"][0]["pid"]));
    let exited = machine.wait_until("new supervisor", || {
        let exited = machine.run("sameport restart job");
        (exited.code == 0).then_some(exited)
    });
    assert!(exited.stderr.contains("takes its place"), "{exited:?}");
    machine.shell("sameport stop job");
}

#[test]
fn restart_is_left_to_the_manager_of_a_user() {
    let unit = format!(
        "[Service]\nType=notify\nKillMode=process\n\
         ExecStart=/usr/bin/sameport run --name web --ready tcp -- {SERVER}\n"
    );
    let (server, target) = server_bind();
    let setup = Setup { files: &[(UNIT, &unit)], binds: &[(&server, target)], ..Setup::default() };
    let Some(machine) = boot_with_manager("systemd-user-left", &setup) else { return };
    let ann = |command: &str| {
        let words = as_ann(command);
        machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let started = ann("systemctl --user start web");
    assert_eq!(started.code, 0, "{started:?}");
    ann("systemctl --user kill --signal=KILL --kill-whom=main web");
    machine.wait_until("end of the service", || {
        let state = ann("systemctl --user show --value -p ActiveState web").stdout;
        (state == "failed\n").then_some(())
    });
    let words = as_ann("sameport restart web");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let hint = refused(&machine, &words, "was killed, and web.service starts it");
    assert_eq!(hint, "systemctl --user restart web.service");
    assert_eq!(ann(&hint).code, 0);
    assert!(ann("sameport status web").stdout.contains("1 of 1 workers ready"));
}
