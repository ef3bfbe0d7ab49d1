//! The Debian package: installed, used, upgraded, removed. `packaging/package.sh` makes it of the
//! executable under test; nothing of it stays after a purge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::harness::{
    User, c_program, command_for, find_program, in_test_dir, sameport, skip, spawn_process,
};
use crate::machine::{Setup, Systemd};
use crate::traffic::{SERVER, WEB, assert_nothing_lost, server_bind, under_load};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const GUARDS: &str = "/etc/sameport/guards.json";

/// The package, which all tests share. The error is the program that is missing.
static PACKAGE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    for program in ["dpkg", "dpkg-deb", "strip"] {
        find_program(program).ok_or_else(|| format!("needs {program}"))?;
    }
    let dir = in_test_dir("package");
    std::fs::create_dir(&dir).unwrap();
    // A debug build without its symbols is packed and installed ten times faster.
    let stripped = dir.join("sameport");
    let mut strip = command_for(User::Current, "strip", &["-o"]);
    strip.arg(&stripped).arg(sameport());
    let exited = spawn_process(strip).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    let script = Path::new(ROOT).join("packaging/package.sh");
    let words = ["deb", env!("CARGO_PKG_VERSION"), "x86_64"];
    let mut make = command_for(User::Current, script, &words);
    make.args([&stripped, &stripped, &Path::new(ROOT).join("packaging/notices"), &dir]);
    // The default, xz, takes longest.
    make.env("SOURCE_DATE_EPOCH", "1790000000").env("DPKG_DEB_COMPRESSOR_TYPE", "gzip");
    let exited = spawn_process(make).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    Ok(dir.join(exited.stdout.trim()))
});

/// A machine without sameport, and the package.
fn bare_machine(test: &str, setup: &Setup<'_>) -> Option<(Systemd, &'static Path)> {
    // dpkg refuses a package for another architecture, and `package.sh` makes two.
    if !cfg!(target_arch = "x86_64") {
        skip(test, "the package is made for x86-64");
        return None;
    }
    let package = match &*PACKAGE {
        Ok(package) => package,
        Err(reason) => {
            skip(test, reason);
            return None;
        }
    };
    let machine = Systemd::boot(test, setup)?;
    machine.shell("umount /usr/bin/sameport && rm /usr/bin/sameport");
    Some((machine, package))
}

/// What could stay: files that have the name, or are in a directory of systemd.
fn traces(machine: &Systemd) -> BTreeSet<String> {
    let named = "find /usr /etc /var /run /tmp /sys/fs/bpf -name '*sameport*' -print -prune";
    let units = "find /etc/systemd /usr/lib/systemd/system /run/systemd/system";
    // The test directory has the name of the project.
    let found = machine.shell(&format!("{{ {named}; {units}; }} 2>/dev/null || true"));
    let test_dir = in_test_dir("").display().to_string();
    let is_of_test = |line: &&str| test_dir.starts_with(line) || line.starts_with(&test_dir);
    found.lines().filter(|line| !is_of_test(line)).map(str::to_owned).collect()
}

fn install(machine: &Systemd, package: &Path) -> String {
    // Images for containers leave documentation out.
    dpkg(machine, &format!("--path-include='/usr/share/*' -i {}", package.display()))
}

/// `dpkg WORDS`, without the triggers of other packages: man-db reads all pages of the machine.
fn dpkg(machine: &Systemd, words: &str) -> String {
    machine.shell(&format!("dpkg --no-triggers {words} 2>&1"))
}

#[test]
fn the_package_is_installed_used_upgraded_and_purged() {
    let (server, target) = server_bind();
    let setup = Setup { binds: &[(&server, target)], ..Setup::default() };
    let Some((machine, package)) = bare_machine("systemd-package", &setup) else { return };
    let before = traces(&machine);

    install(&machine, package);
    machine.shell("sameport --version && dpkg --verify sameport");
    let conf = format!("SAMEPORT_OPTIONS=-n 2\\nSAMEPORT_COMMAND={SERVER}\\n");
    machine.shell(&format!("printf '{conf}' >/etc/sameport/web.conf"));
    machine.systemctl(&format!("start {WEB}"));
    machine.systemctl(&format!("enable {WEB} sameport-guard"));
    let listed = machine.shell("sameport ls 8080");
    assert_eq!(listed.matches("drains").count(), 2, "{listed}");
    for page in ["sameport", "sameport-run"] {
        machine.shell(&format!("gzip -dc /usr/share/man/man1/{page}.1.gz | grep -q '^.SH'"));
    }
    machine.shell("bash -c '. /usr/share/bash-completion/completions/sameport'");

    let supervisor = machine.main_pid(WEB);
    let tally = under_load(&machine, "reload, upgrade of the package, reexec, reload", || {
        machine.systemctl(&format!("reload {WEB}"));
        install(&machine, package);
        machine.shell("XDG_RUNTIME_DIR=/run/sameport-web sameport reexec web");
        machine.systemctl(&format!("reload {WEB}"));
    });
    assert_nothing_lost(&tally, &machine);
    assert_eq!(machine.main_pid(WEB), supervisor, "an upgrade ends no supervisor");

    let removed = dpkg(&machine, "-r sameport");
    assert_eq!(machine.property(WEB, "ActiveState"), "inactive", "{removed}");
    machine.shell("! test -e /usr/bin/sameport && test -e /etc/sameport/web.conf");
    let purged = dpkg(&machine, "--purge sameport");
    let after = traces(&machine);
    let left: Vec<_> = after.difference(&before).collect();
    assert_eq!(left, [""; 0], "{purged}");
    let gone: Vec<_> = before.difference(&after).collect();
    assert_eq!(gone, [""; 0], "{purged}");
    assert_ne!(machine.run("dpkg -s sameport").code, 0);
}

#[test]
fn guards_and_attachments_end_with_the_package() {
    let unit =
        format!("[Service]\nExecStart={} tcp 0.0.0.0 8080\n", c_program("who", &[]).display());
    let setup =
        Setup { units: &[("old.service", &unit)], cgroups_of_host: true, ..Setup::default() };
    let Some((machine, package)) = bare_machine("systemd-package-guard", &setup) else { return };
    let before = traces(&machine);
    install(&machine, package);
    machine.systemctl("start old");
    machine.shell("sameport guard 8443 --allow uid=1 && sameport attach --unit old");
    let bind = "import socket; socket.socket().bind(('127.0.0.1', 8443))";
    let intrude = || machine.run_words(&["python3", "-c", bind]);
    assert!(intrude().stderr.contains("Operation not permitted"), "{:?}", intrude());

    // The list of guards is configuration. Without sameport nothing could change the guards.
    let removed = dpkg(&machine, "-r sameport");
    assert_eq!(intrude().code, 0, "{removed}");
    machine.shell(&format!("test -e {GUARDS} && ! test -e /sys/fs/bpf/sameport"));
    machine.shell("! grep -q 8443 /proc/sys/net/ipv4/ip_local_reserved_ports");
    assert_eq!(machine.property("old", "DropInPaths"), "", "{removed}");
    assert_eq!(machine.property("old", "ActiveState"), "active");

    let again = install(&machine, package);
    assert!(intrude().stderr.contains("Operation not permitted"), "{again}");
    machine.shell("sameport guard --list");
    // A removal that is interrupted has renamed the list.
    dpkg(&machine, "--remove sameport");
    machine.shell(&format!("mv {GUARDS} {GUARDS}.removed"));
    let again = install(&machine, package);
    assert!(intrude().stderr.contains("Operation not permitted"), "{again}");
    // An upgrade leaves guards in force.
    install(&machine, package);
    machine.shell("sameport guard --list");
    let purged = dpkg(&machine, "--purge sameport");
    assert_eq!(intrude().code, 0, "{purged}");
    let after = traces(&machine);
    let left: Vec<_> = after.difference(&before).collect();
    assert_eq!(left, [""; 0], "{purged}");
}

#[test]
fn lintian_finds_no_error() {
    let test = "systemd-package-lintian";
    let package = match &*PACKAGE {
        Ok(package) => package,
        Err(reason) => return skip(test, reason),
    };
    if find_program("lintian").is_none() {
        return skip(test, "needs lintian");
    }
    // The executable of a test is linked dynamically; that of a release is checked by its build.
    let words = ["--allow-root", "--fail-on", "error", "--suppress-tags"];
    let mut command = command_for(User::Current, "lintian", &words);
    command.arg("undeclared-elf-prerequisites,mismatched-override").arg(package);
    let exited = spawn_process(command).wait_within(std::time::Duration::from_secs(300));
    assert_eq!(exited.code, 0, "{exited:?}");
}
