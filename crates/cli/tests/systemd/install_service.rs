//! `install-service`: units that the real systemd reads as they were meant, and files that stay untouched.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use sameport_policy::service_unit;

use crate::harness::{Exited, spawn_process};
use crate::machine::{Setup, Systemd};
use crate::traffic::{assert_nothing_lost, server_bind, shipped, under_load};
use crate::user_manager::{MANAGER, as_ann, boot_with_manager};

/// Writes its arguments, its directory and its variables, and serves.
const SHOW: &str = "#!/bin/sh
printf '%s\\0' \"$@\" >/run/shown.new
printf '%s\\0' \"$(pwd)\" \"$(id -un)\" \"$A\" \"$B\" \"$C\" >>/run/shown.new
mv /run/shown.new /run/shown
exec /usr/local/bin/drains 8080 any
";

/// A machine with the server, and [`SHOW`] as `/usr/local/bin/show`.
fn machine(test: &str, more: &Setup<'_>) -> Option<Systemd> {
    let (server, target) = server_bind();
    let files = [&[("/usr/local/bin/show", SHOW)], more.files].concat();
    let machine =
        Systemd::boot(test, &Setup { files: &files, binds: &[(&server, target)], ..*more })?;
    machine.shell("chmod 755 /usr/local/bin/show");
    Some(machine)
}

/// `sameport install-service WORDS`, in a directory.
fn install(machine: &Systemd, directory: &str, words: &[&OsStr]) -> Exited {
    let mut command = machine.command(&["env", "-C", directory, "sameport", "install-service"]);
    command.args(words);
    spawn_process(command).wait()
}

fn words<'a>(words: &'a [&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(OsStr::new).collect()
}

/// The files below the directories of units.
fn unit_files(machine: &Systemd) -> String {
    machine
        .shell("find /etc/systemd /home/ann ! -type d | sort | xargs -r md5sum 2>/dev/null; true")
}

#[test]
fn template_and_hardening_are_those_of_the_packages() {
    for (name, text) in [
        ("sameport@.service", service_unit::template()),
        ("sameport-hardened.conf", service_unit::HARDENED.to_owned()),
    ] {
        if std::env::var_os("RENEW").is_some() {
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd");
            std::fs::write(format!("{dir}/{name}"), &text).unwrap();
        }
        assert_eq!(shipped(name), text, "RENEW=1 writes packaging/systemd/{name}");
    }
}

/// Arguments, variables and directories of any bytes are those that the program gets.
#[test]
fn every_byte_reaches_the_program() {
    let env_file = ("/etc/a [b]*.env", "C=of the file\n");
    let more = Setup { files: &[env_file], ..Setup::default() };
    let Some(machine) = machine("install-service-bytes", &more) else { return };
    let directory = "/srv/my $web 5%i \"q\"";
    machine.run_words(&["mkdir", "-p", directory]);
    let before = unit_files(&machine);
    let hostile: Vec<OsString> = vec![
        "".into(),
        " two  blanks ".into(),
        "it's \"quoted\" \\ \\n".into(),
        "$HOME ${HOME} $$ %n %% 100%".into(),
        "line\nbreak\ttab\r".into(),
        ";".into(),
        "#".into(),
        "-x".into(),
        "é ☃".into(),
        "\u{1}\u{1b}[31m\u{7f}\u{85}".into(),
    ];
    let options = [
        "web",
        "--yes",
        "--now",
        "-n",
        "1",
        "--env",
        "A=a $b %c \"d\"\n",
        "--env",
        "B=\u{1b}[31m",
        "--env-file",
        "/etc/a [b]*.env",
        "--",
        "show",
    ];
    let mut line = words(&options);
    line.extend(hostile.iter().map(OsString::as_os_str));
    let installed = install(&machine, directory, &line);
    assert_eq!(installed.code, 0, "{installed:?}\n{}", machine.journal("*"));
    let mut shown = machine.command(&["cat", "/run/shown"]);
    let shown = shown.output().unwrap().stdout;
    let shown: Vec<&[u8]> = shown.split(|byte| *byte == 0).collect();
    let mut expected: Vec<&[u8]> = hostile.iter().map(|it| it.as_bytes()).collect();
    let own = [directory, "root", "a $b %c \"d\"\n", "\u{1b}[31m", "of the file", ""];
    expected.extend(own.iter().map(|it| it.as_bytes()));
    assert_eq!(shown, expected, "{installed:?}");

    let verified = machine.run("systemd-analyze verify --man=no /etc/systemd/system/web.service");
    assert_eq!((verified.code, &*verified.stderr), (0, ""), "{verified:?}");
    assert_eq!(machine.property("web", "UnitFileState"), "enabled");
    assert!(machine.shell("sameport status web").contains("1 of 1"));

    // The same again changes nothing; other options are shown as a difference, and replace the unit.
    let again = install(&machine, directory, &line);
    assert!(again.code == 0 && again.stderr.contains("is written so already"), "{again:?}");
    let more = words(&["web", "--yes", "--now", "-n", "2", "--", "show"]);
    let tally = under_load(&machine, "another install-service --now", || {
        let changed = install(&machine, "/srv", &more);
        assert_eq!(changed.code, 0, "{changed:?}");
        let difference = ["\n-ExecStart=", "\n+WorkingDirectory=/srv\n", " Type=notify\n"];
        assert!(difference.iter().all(|it| changed.stdout.contains(it)), "{changed:?}");
    });
    assert_nothing_lost(&tally, &machine);
    assert!(machine.shell("sameport status web").contains("2 of 2"));

    let kept = install(&machine, "/", &words(&["web", "--remove", "--yes"]));
    assert!(kept.code == 1 && kept.stderr.contains("web.service is active"), "{kept:?}");
    let removed = install(&machine, "/", &words(&["web", "--remove", "--yes", "--now"]));
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(unit_files(&machine), before);
    assert_eq!(machine.property("web", "LoadState"), "not-found");
}

/// A start that fails leaves every file as it was.
#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let foreign = "[Service]\nExecStart=/usr/bin/true\n";
    let units = [("other.service", foreign), ("linked.service", foreign)];
    let more = Setup { units: &units, ..Setup::default() };
    let Some(machine) = machine("install-service-refused", &more) else { return };
    machine.shell("ln -sf /dev/null /etc/systemd/system/masked.service");
    machine.shell("mkdir -p /run/systemd/system; cp /etc/systemd/system/other.service /run/systemd/system/vendor.service");
    machine.shell(
        "mkdir -p /home/ann/bin && cp /usr/bin/true /home/ann/bin/own && chown -R ann /home/ann",
    );
    let before = unit_files(&machine);
    for (line, code, message) in [
        ("other --yes -- true", 1, "other.service was not written by install-service"),
        ("masked --yes -- true", 1, "masked.service was not written by install-service"),
        ("vendor --yes -- true", 1, "/run/systemd/system/vendor.service was not written"),
        ("web --yes -- no-such-program", 127, "command not found"),
        ("web --yes -- /etc/passwd", 126, "cannot be executed"),
        ("web --yes -n 0 -- true", 2, "-n"),
        ("web --yes --frobnicate -- true", 2, "--frobnicate"),
        ("web --yes --name web -- true", 2, "--name"),
        ("web --yes", 2, "COMMAND"),
        ("a/b --yes -- true", 2, "a/b"),
        ("web --yes --map 80=81 --map 80=82 -- true", 2, "contradicts"),
        ("web --yes --user no-such-user -- true", 2, "there is no user no-such-user"),
        ("web --yes --directory /no/such -- true", 2, "/no/such"),
        ("web --yes --hardened -- /home/ann/bin/own", 2, "--hardened hides /home"),
        ("web --yes --manager user --user ann -- true", 2, "--user is for a service of the system"),
        ("web -- true", 1, "it was not confirmed"),
        ("web --remove --yes", 1, "there is no /etc/systemd/system/web.service"),
        ("other --remove --yes", 1, "was not written by install-service"),
        ("web --remove -n 2", 2, "--remove takes no options of `run`"),
    ] {
        let refused = install(&machine, "/", &words(&line.split(' ').collect::<Vec<_>>()));
        assert_eq!(refused.code, code, "{line}: {refused:?}");
        assert!(refused.stderr.contains(message), "{line}: {refused:?}");
        assert_eq!(unit_files(&machine), before, "{line}");
    }
    let bytes = OsString::from_vec(b"a\xff".to_vec());
    let mut line = words(&["web", "--yes", "--", "true"]);
    line.push(&bytes);
    let refused = install(&machine, "/", &line);
    assert!(refused.code == 2 && refused.stderr.contains("is no UTF-8"), "{refused:?}");
    let ann = as_ann("sameport install-service web --manager system --yes -- true");
    let refused = machine.run_words(&ann.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.code == 3 && refused.stderr.contains("belongs to root"), "{refused:?}");
    let shown = install(&machine, "/", &words(&["web", "--dry-run", "--", "/home/ann/bin/own"]));
    assert!(shown.code == 0 && shown.stdout.contains("ExecStart=/usr/bin/sameport "), "{shown:?}");
    assert!(shown.stderr.contains("/home/ann/bin/own, which ann can replace"), "{shown:?}");
    assert_eq!(unit_files(&machine), before);

    let closed = "web --dry-run --user ann --directory /root --env-file /no.env -- true";
    let shown = install(&machine, "/", &words(&closed.split(' ').collect::<Vec<_>>()));
    assert!(shown.stderr.contains("ann may not enter or execute /root"), "{shown:?}");
    assert!(shown.stderr.contains("there is no /no.env"), "{shown:?}");

    let failing = "web --yes --now --max-restarts 0 -- false";
    let failed = install(&machine, "/", &words(&failing.split(' ').collect::<Vec<_>>()));
    assert!(
        failed.code == 1 && failed.stderr.contains("systemctl start web.service"),
        "{failed:?}"
    );
    let hint = failed.stderr.lines().find_map(|line| line.strip_prefix("hint: journalctl"));
    let journal = machine.shell(&format!("journalctl{}", hint.unwrap()));
    assert!(journal.contains("exited with 1"), "{journal}");
    let removed = install(&machine, "/", &words(&["web", "--remove", "--yes", "--now"]));
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(unit_files(&machine), before);

    machine.shell("mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,bind,ro /etc/systemd/system");
    let refused = install(&machine, "/", &words(&["web", "--yes", "--", "true"]));
    assert!(refused.code == 1 && refused.stderr.contains("/etc is read-only"), "{refused:?}");
    machine.shell("umount /etc/systemd/system");
    assert_eq!(unit_files(&machine), before);

    // Where systemd is not the manager.
    machine.shell("mount -t tmpfs none /run/systemd");
    let refused = install(&machine, "/", &words(&["web", "--yes", "--", "true"]));
    assert!(refused.code == 3 && refused.stderr.contains("systemd does not run"), "{refused:?}");
    let shown = install(&machine, "/", &words(&["web", "--dry-run", "--", "true"]));
    assert_eq!(shown.code, 0, "{shown:?}");
    machine.shell("umount /run/systemd");
    assert_eq!(unit_files(&machine), before);
}

/// The question on a terminal, another user, a port below 1024 and the hardening of the package.
#[test]
fn hardened_service_of_another_user_has_a_low_port() {
    let Some(machine) = machine("install-service-user", &Setup::default()) else { return };
    let command =
        "sameport install-service web --user ann --listen 81 -- /usr/local/bin/drains 8080 any";
    let at_terminal = |answer: &str| {
        machine.shell(&format!("cd /srv; echo {answer} | script -qec '{command}' /dev/null"))
    };
    let refused = machine.run_words(&[
        "sh",
        "-c",
        &format!("cd /srv; echo n | script -qec '{command}' /dev/null"),
    ]);
    assert!(refused.stdout.contains("write web.service? [y/N]"), "{refused:?}");
    assert_eq!(machine.run("test -e /etc/systemd/system/web.service").code, 1);
    let written = at_terminal("y");
    assert!(written.contains("written: /etc/systemd/system/web.service"), "{written}");
    let next = written.lines().find_map(|line| line.strip_prefix("next: ")).unwrap();
    machine.shell(next);
    assert_eq!(machine.property("web", "ActiveState"), "active");
    assert!(machine.shell("sameport status web --user ann").contains("1 of 1"));
    let drains = machine.shell("ps -o user= -C drains");
    assert_eq!(drains.trim(), "ann");
    assert!(machine.shell("ss -Hltn 'sport = :81'").contains(":81"));

    let hardened = "web --yes --now --hardened -n 2 -- /usr/local/bin/drains 8080 any";
    let installed = install(&machine, "/srv", &words(&hardened.split(' ').collect::<Vec<_>>()));
    assert_eq!(installed.code, 0, "{installed:?}\n{}", machine.journal("web"));
    assert!(installed.stderr.contains("gets another user"), "{installed:?}");
    assert_eq!(machine.property("web", "DynamicUser"), "yes");
    let tally = under_load(&machine, "reload and restart of a hardened service", || {
        machine.systemctl("reload web");
        machine.systemctl("restart web");
    });
    assert_nothing_lost(&tally, &machine);
    let edited = "web --yes --now -n 2 -- /usr/local/bin/drains 8080 any";
    let installed = install(&machine, "/srv", &words(&edited.split(' ').collect::<Vec<_>>()));
    assert_eq!(installed.code, 0, "{installed:?}");
    assert!(
        installed.stderr.contains("removed: /etc/systemd/system/web.service.d/"),
        "{installed:?}"
    );
    assert_eq!(machine.run("test -e /etc/systemd/system/web.service.d").code, 1);
}

#[test]
fn a_user_installs_a_service_of_its_own_manager() {
    let (server, target) = server_bind();
    let setup = Setup { binds: &[(&server, target)], ..Setup::default() };
    let Some(machine) = boot_with_manager("install-service-manager", &setup) else { return };
    let ann = |command: &str| {
        let words = as_ann(command);
        let done = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(done.code, 0, "{command}: {done:?}\n{}", machine.journal("*"));
        done
    };
    let installed =
        ann("sameport install-service web -n 2 --yes --now -- /usr/local/bin/drains 8080 any");
    assert!(installed.stderr.contains("loginctl enable-linger"), "{installed:?}");
    assert!(ann("sameport status web").stdout.contains("2 of 2"));
    machine.systemctl(&format!("restart {MANAGER}"));
    machine.wait_until("active service", || {
        let words = as_ann("systemctl --user show --value -p ActiveState web");
        let state = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
        (state.stdout == "active\n").then_some(())
    });
    ann("sameport install-service web --remove --yes --now");
    assert_eq!(machine.run("test -e /home/ann/.config/systemd/user/web.service").code, 1);
}
