//! Units, as their service manager reports them: `systemctl show` (systemctl(1)).
//!
//! The manager is asked by its own tool: its protocol is D-Bus, whose socket differs between root
//! (`/run/systemd/private`) and other users. Without systemd no process is started.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sameport_policy::holder::{ListenAddress, Manager, Unit, UnitFacts};

use crate::guarded;

/// The time limit of an answer. A healthy manager needs 20 ms.
const LIMIT: Duration = Duration::from_secs(2);

/// The group of a `systemctl` that root starts as another user: nogroup. The manager looks at the user only.
const NO_GROUP: u32 = 65534;

const PROPERTIES: &str = "--property=Id,LoadState,MainPID,KillMode,TriggeredBy,Listen";

/// The facts about these units, and about all loaded socket units if `sockets`. Units that do not exist are
/// left out. Empty if the manager cannot be asked: another user's, except by root, or one that does not answer
/// within two seconds.
#[must_use]
pub fn show(manager: Manager, names: &[String], sockets: bool) -> Vec<UnitFacts> {
    if (names.is_empty() && !sockets) || !is_running(manager) {
        return Vec::new();
    }
    let mut command = Command::new("systemctl");
    if let Manager::User(uid) = manager {
        command.arg("--user").env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
        if uid != crate::effective_user() {
            // Root reads the answer of a program that this user may have put there.
            command.uid(uid).gid(NO_GROUP);
        }
    }
    command.args(["show", "--no-pager", PROPERTIES, "--"]).args(names);
    command.args(sockets.then_some("*.socket"));
    answer(command).map(|text| parse(&text, manager)).unwrap_or_default()
}

/// Whether systemd is the service manager of this machine (sd_booted(3)).
#[must_use]
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The path of this process in the hierarchy of cgroup v2, by which a manager knows the processes of a unit.
#[must_use]
pub fn own_cgroup() -> Option<String> {
    crate::proc::details::cgroup(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// Whether the manager runs, and serves this user.
fn is_running(manager: Manager) -> bool {
    match manager {
        Manager::System => is_booted(),
        Manager::User(uid) => {
            [0, uid].contains(&crate::effective_user())
                && Path::new(&format!("/run/user/{uid}/systemd/private")).exists()
        }
    }
}

/// The output of a command; `None` if it takes too long or cannot be started. The caller may reap every
/// child of the process, so the exit status is not used.
fn answer(mut command: Command) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = quiet.env("LC_ALL", "C").spawn().ok()?;
    let mut output = child.stdout.take()?;
    let read = move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).ok().map(|_| text)
    };
    let text = guarded::within(LIMIT, read).flatten();
    if text.is_none() {
        let _ = child.kill();
    }
    let _ = child.wait();
    Some(String::from_utf8_lossy(&text?).into_owned())
}

/// Blocks of `Property=value`, separated by empty lines.
fn parse(text: &str, manager: Manager) -> Vec<UnitFacts> {
    text.split("\n\n").filter_map(|block| parse_unit(block, manager)).collect()
}

fn parse_unit(block: &str, manager: Manager) -> Option<UnitFacts> {
    let values = |name: &'static str| {
        block.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let value = |name| values(name).next();
    if value("LoadState") != Some("loaded") {
        return None;
    }
    Some(UnitFacts {
        unit: Unit { manager, name: value("Id")?.to_owned() },
        main_pid: value("MainPID").and_then(|pid| pid.parse().ok()).unwrap_or(0),
        // systemd.kill(5): `process` and `none` leave processes behind.
        stops_all: !matches!(value("KillMode"), Some("process" | "none")),
        triggered_by: value("TriggeredBy")
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .filter(|name| name.ends_with(".socket"))
            .map(str::to_owned)
            .collect(),
        listens: values("Listen").filter_map(parse_listen).collect(),
    })
}

/// `127.0.0.1:631 (Stream)`; `None` for another kind of socket.
fn parse_listen(value: &str) -> Option<ListenAddress> {
    let (address, kind) = value.rsplit_once(" (")?;
    let stream = match kind {
        "Stream)" => true,
        "Datagram)" => false,
        _ => return None,
    };
    // `[fe80::1%eth0]:80`, and `*:80` of other versions.
    let address =
        address.strip_prefix('*').map_or(address.to_owned(), |port| format!("[::]{port}"));
    Some(ListenAddress { address: address.parse::<SocketAddr>().ok()?, stream })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_from_blocks() {
        let text = "Id=api.service\nLoadState=loaded\nMainPID=71\nKillMode=control-group\n\
                    TriggeredBy=api.socket api.timer\n\n\
                    Id=cron.service\nLoadState=loaded\nMainPID=9\nKillMode=process\nTriggeredBy=\n\n\
                    Id=api.socket\nLoadState=loaded\nKillMode=control-group\n\
                    Listen=127.0.0.1:631 (Stream)\nListen=[::]:53 (Datagram)\n\
                    Listen=/run/api.sock (Stream)\nListen=/dev/x (Special)\n\n\
                    Id=gone.service\nLoadState=not-found\n";
        let units = parse(text, Manager::System);
        let names: Vec<_> = units.iter().map(|it| it.unit.name.as_str()).collect();
        assert_eq!(names, ["api.service", "cron.service", "api.socket"]);
        assert_eq!((units[0].main_pid, units[0].stops_all), (71, true));
        assert_eq!(units[0].triggered_by, ["api.socket"]);
        assert!(!units[1].stops_all && units[1].triggered_by.is_empty());
        let listens = [("127.0.0.1:631", true), ("[::]:53", false)];
        let listens = listens
            .map(|(address, stream)| ListenAddress { address: address.parse().unwrap(), stream });
        assert_eq!(units[2].listens, listens);
        assert_eq!(parse("", Manager::System), []);
    }

    #[test]
    fn a_command_that_does_not_end_has_no_answer() {
        let _turn = crate::serial::run_shared();
        let mut echo = Command::new("echo");
        echo.arg("a");
        assert_eq!(answer(echo).as_deref(), Some("a\n"));
        assert_eq!(answer(Command::new("/no such program")), None);
    }
}
