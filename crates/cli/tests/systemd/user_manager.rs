//! The service of a user: `systemctl --user`. The manager is started as a service of the user, because
//! logins need PAM.

use crate::documents::files_of_docs;
use crate::machine::{ANN, Setup, Systemd};
use crate::traffic::{
    SERVER, assert_nothing_lost, assert_only_in_hand, pause, server_bind, under_load,
};

/// The unit of ann.
pub(crate) const UNIT: &str = "/home/ann/.config/systemd/user/web.service";

pub(crate) fn as_ann(command: &str) -> Vec<String> {
    let words = format!(
        "setpriv --reuid {ANN} --regid {ANN} --clear-groups \
         env HOME=/home/ann XDG_RUNTIME_DIR=/run/user/{ANN} {command}"
    );
    words.split_whitespace().map(str::to_owned).collect()
}

/// The service of ann's manager. The name in the cgroups of her processes tells whose they are.
pub(crate) const MANAGER: &str = "user@23501.service";

/// A machine whose only unit is [`MANAGER`], which has started.
pub(crate) fn boot_with_manager(name: &str, setup: &Setup<'_>) -> Option<Systemd> {
    let manager = manager();
    let machine = Systemd::boot(name, &Setup { units: &[(MANAGER, &manager)], ..*setup })?;
    machine.systemctl(&format!("start {MANAGER}"));
    Some(machine)
}

/// The text of [`MANAGER`].
fn manager() -> String {
    format!(
        "[Service]\nType=notify\nKillMode=mixed\nUser=ann\nDelegate=yes\n\
         Environment=HOME=/home/ann XDG_RUNTIME_DIR=/run/user/{ANN}\n\
         ExecStartPre=+install -d -m 0700 -o ann -g {ANN} /run/user/{ANN}\n\
         ExecStart=/lib/systemd/systemd --user\n"
    )
}

#[track_caller]
pub(crate) fn run(machine: &Systemd, command: &str) -> String {
    let words = as_ann(command);
    let ran = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "{command}: {ran:?}\n{}", machine.journal("*"));
    ran.stdout
}

#[test]
fn user_unit_of_the_documentation_works() {
    let docs = files_of_docs();
    let (_, unit) =
        docs.iter().find(|(path, _)| path == "~/.config/systemd/user/web.service").unwrap();
    // The server of the test in the place of the example's.
    let (line, rest) = unit.split_once(" -- ").unwrap();
    let rest = rest.split_once('\n').unwrap().1;
    let line = line.replace("--ready http:/healthz", "--ready tcp");
    let unit = format!("{line} -- {SERVER}\n{rest}");
    let (server, target) = server_bind();
    let setup = Setup { files: &[(UNIT, &unit)], binds: &[(&server, target)], ..Setup::default() };
    let Some(machine) = boot_with_manager("systemd-user", &setup) else { return };
    run(&machine, "systemctl --user enable --now web");
    assert!(run(&machine, "sameport status web").contains("4 of 4 workers ready"));
    let tally = under_load(&machine, "user manager: 2 times reload and restart", || {
        for action in ["reload", "restart", "reload", "restart"] {
            run(&machine, &format!("systemctl --user {action} web"));
            pause();
        }
    });
    assert_nothing_lost(&tally, &machine);
    let tally = under_load(&machine, "user manager: SIGKILL", || {
        run(&machine, "systemctl --user kill --signal=KILL --kill-whom=main web");
        machine.wait_until("restart of the service", || {
            let state =
                run(&machine, "systemctl --user show --value -p NRestarts -p ActiveState web");
            (state.contains("active") && state.contains('1')).then_some(())
        });
    });
    assert_only_in_hand(&tally, 1, &machine);
    // After a login, or a boot with `loginctl enable-linger`, the manager starts it: default.target.
    machine.systemctl(&format!("restart {MANAGER}"));
    machine.wait_until("active service", || {
        let state = run(&machine, "systemctl --user show --value -p ActiveState web");
        (state == "active\n").then_some(())
    });
}
