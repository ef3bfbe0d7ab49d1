//! `sameport logs` of a service: its lines are in the journal.

use crate::machine::{Setup, Systemd};
use crate::traffic::server_bind;
use crate::user_manager::{UNIT, as_ann, boot_with_manager, run};

/// Writes a line, and one as a process below it, and waits.
const TALK: &str = "#!/bin/sh
echo begun $SAMEPORT_WORKER
sh -c 'echo below; exec sleep 0.2'
i=0
while [ $i -lt 5 ]; do i=$((i+1)); echo \"line $i of $SAMEPORT_WORKER\"; done
exec /usr/local/bin/drains 8080 any >/dev/null 2>&1
";

const RUN: &str =
    "/usr/bin/sameport run --name web -n 2 --ready tcp -- /bin/sh /usr/local/bin/talk";

const LEFT: &str = "Type=notify\nKillMode=process\n";

fn texts(shown: &str) -> Vec<&str> {
    shown.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect()
}

fn wait_for(machine: &Systemd, command: &str, wanted: &str) -> String {
    machine.wait_until(wanted, || {
        let shown = machine.run_words(&["sh", "-c", command]).stdout;
        shown.contains(wanted).then_some(shown)
    })
}

#[test]
fn lines_of_a_service_have_their_worker() {
    let unit = format!("[Service]\n{LEFT}ExecStart={RUN}\n");
    let (server, target) = server_bind();
    let setup = Setup {
        units: &[("web.service", &unit)],
        files: &[("/usr/local/bin/talk", TALK)],
        binds: &[(&server, target)],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-logs", &setup) else { return };
    machine.systemctl("start web");
    wait_for(&machine, "sameport logs web", "web.1 | line 5 of 1");
    let all = wait_for(&machine, "sameport logs web", "web.2 | line 5 of 2");
    assert!(all.contains(" web.1 | begun 1\n") && all.contains(" web | sameport: "), "{all}");
    let of_2 = machine.shell("sameport logs web --worker 2");
    assert!(of_2.contains("web.2 | line 1 of 2") && !of_2.contains("web.1"), "{of_2}");
    // Each counts the lines that the other options choose.
    let last = machine.shell("sameport logs web --worker 1 -n 2");
    assert_eq!(texts(&last), ["web.1 | line 4 of 1", "web.1 | line 5 of 1"]);
    assert_eq!(machine.shell("sameport logs web -n 3 --since 1h").lines().count(), 3);
    assert_eq!(machine.shell("sameport logs web -n 0"), "");
    assert_eq!(machine.shell("sameport logs web --since 2200-01-01T00:00:00Z"), "");
    let json = machine.shell("sameport logs web --json --worker 1 -n 1");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["worker"], &json["text"]), (&1.into(), &"line 5 of 1".into()));

    // Workers that are gone.
    machine.shell("(sameport logs web -f --worker 1 -n 1 >/run/followed 2>&1) </dev/null &");
    wait_for(&machine, "cat /run/followed", "web.1 | line 5 of 1");
    machine.shell("sameport restart web");
    let followed = wait_for(&machine, "cat /run/followed", "begun 1");
    assert!(!followed.contains("web.2") && !followed.contains("web.?"), "{followed}");
    let all = machine.wait_until("the lines of the next workers", || {
        let all = machine.shell("sameport logs web");
        (all.matches("web.2 | line 5 of 2").count() == 2).then_some(all)
    });
    assert_eq!(all.matches("web.1 | begun 1").count(), 2, "{all}");
    assert!(!all.contains("web.? | line") && !all.contains("web.? | begun"), "{all}");

    // A supervisor that was killed, and a service that has ended.
    machine.systemctl("kill --signal=KILL --kill-whom=main web");
    machine.wait_until("end of the service", || {
        (machine.property("web", "ActiveState") == "failed").then_some(())
    });
    let killed = machine.shell("sameport logs web");
    assert!(killed.contains("web.1 | begun 1") && !killed.contains("web.? | begun"), "{killed}");
    machine.systemctl("start web");
    machine.systemctl("stop web");
    let ended = wait_for(&machine, "cat /run/followed", "has ended");
    assert!(ended.contains("web.1 | begun 1") && !ended.contains("web.2"), "{ended}");
    let ended = machine.shell("sameport logs web -n 1000");
    assert!(ended.matches("web.1 | begun 1").count() >= 2, "{ended}");
    assert!(!ended.contains("web.? | begun") && !ended.contains("web.? | line"), "{ended}");
    assert!(ended.contains("web | sameport: worker 1"), "{ended}");
}

#[test]
fn lines_of_a_service_of_a_user() {
    let unit = format!("[Service]\nType=notify\nExecStart={RUN}\n");
    let files = [(UNIT, &*unit), ("/usr/local/bin/talk", TALK)];
    let (server, target) = server_bind();
    let setup = Setup { files: &files, binds: &[(&server, target)], ..Setup::default() };
    let Some(machine) = boot_with_manager("systemd-user-logs", &setup) else { return };
    run(&machine, "systemctl --user start web");
    // This journal is in memory, which has no files of users.
    let words = as_ann("sameport logs web");
    let refused = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused.code, 1, "{refused:?}");
    let hint = "hint: as root: sudo sameport logs web --user ann\n";
    assert!(refused.stderr.contains("permission") && refused.stderr.contains(hint), "{refused:?}");
    let advised = "sameport logs web --user ann";
    wait_for(&machine, advised, "web.2 | line 5 of 2");
    let last = machine.shell(&format!("{advised} --worker 2 -n 1"));
    assert_eq!(texts(&last), ["web.2 | line 5 of 2"]);
}
