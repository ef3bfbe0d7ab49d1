//! The holder of a socket, and the advice about it, in the words of messages.

use std::collections::BTreeSet;

use sameport_policy::holder::{
    ContainerName, Ending, EndingStep, Holder, HolderClass, Manager, Rights, Sharing, Unit,
};
use sameport_policy::model::Protocol;
use sameport_policy::model::unit::Engine;
use sameport_sys::{effective_user, users};

use super::shell;
use super::text::printable;

/// `node (pid 12, user ann), run web, worker 1`.
pub(crate) fn description(holder: &Holder) -> String {
    printable(&holder.description())
}

/// The steps that close sockets, all of which are needed: `as root: systemctl stop api.service`.
pub(crate) fn endings(steps: &[EndingStep]) -> String {
    let mut line = String::new();
    let mut last: Option<&EndingStep> = None;
    let mut remarks: Vec<String> = Vec::new();
    for step in steps {
        remarks.extend(remark(&step.ending).filter(|remark| !remarks.contains(remark)));
        let text = ending_text(&step.ending);
        match last {
            None => line = rights_prefix(step.rights) + &text,
            // One line for a shell.
            Some(last) if last.rights == step.rights && both_are_commands(last, step) => {
                line.push_str(&format!(" && {text}"));
            }
            Some(_) => line.push_str(&format!(", and {}{text}", rights_prefix(step.rights))),
        }
        last = Some(step);
    }
    if !remarks.is_empty() {
        // A comment for the shell, at the end: the shell ignores what follows.
        line.push_str(&format!(" # {}", remarks.join(", ")));
    }
    line
}

/// What the command of a step may need in addition.
fn remark(ending: &Ending) -> Option<String> {
    let Ending::KillOrParent(_, parent) = ending else { return None };
    let program = printable(&parent.program);
    Some(format!("if {program} starts it again: kill {}", parent.pid))
}

/// The steps as the beginning and the end (a comment) of a line that one user gives to a shell: the caller, or
/// root in the caller's place. `None`: a step is no command, or is for another user than that one.
pub(crate) fn around(steps: &[EndingStep]) -> Option<(String, String)> {
    let is_root = effective_user() == 0;
    let joins = |step: &EndingStep| match step.ending {
        Ending::Kill(_) | Ending::KillOrParent(..) | Ending::StopUnits(Manager::System, _) => {
            !is_root || step.rights == Rights::Caller
        }
        // Root has other runs and another user manager than the caller.
        _ => is_root && step.rights == Rights::Caller && both_are_commands(step, step),
    };
    if !steps.iter().all(joins) {
        return None;
    }
    let mut line = String::new();
    let mut remarks: Vec<String> = Vec::new();
    for step in steps {
        line.push_str(&format!("{} && ", ending_text(&step.ending)));
        remarks.extend(remark(&step.ending).filter(|remark| !remarks.contains(remark)));
    }
    let comment =
        if remarks.is_empty() { String::new() } else { format!(" # {}", remarks.join("; ")) };
    // A program needs a moment to end.
    let kills =
        |step: &EndingStep| matches!(step.ending, Ending::Kill(_) | Ending::KillOrParent(..));
    if steps.iter().any(kills) {
        line.push_str("sleep 1 && ");
    }
    Some((line, comment))
}

fn both_are_commands(one: &EndingStep, other: &EndingStep) -> bool {
    let is_command = |step: &EndingStep| {
        matches!(
            step.ending,
            Ending::StopUnits(..)
                | Ending::ClearStore(_)
                | Ending::StopRun(_)
                | Ending::StopRunOf(..)
                | Ending::StopContainer(_)
                | Ending::StopPublished(..)
                | Ending::StopTask(_)
                | Ending::Kill(_)
                | Ending::KillOrParent(..)
        )
    };
    is_command(one) && is_command(other)
}

/// `as root: `, before a command that the caller may not give.
pub(crate) fn rights_prefix(rights: Rights) -> String {
    match rights {
        Rights::Caller => String::new(),
        Rights::Root => "as root: ".to_owned(),
        Rights::User(uid) => format!("as user {}: ", user(uid)),
    }
}

/// The prefix of a command that needs root.
pub(crate) fn root_prefix(caller: u32) -> String {
    rights_prefix(if caller == 0 { Rights::Caller } else { Rights::Root })
}

fn user(uid: u32) -> String {
    users::user_name(uid).map_or_else(|| uid.to_string(), |name| printable(&name))
}

fn ending_text(ending: &Ending) -> String {
    match ending {
        Ending::StopUnits(manager, units) => {
            let units: Vec<_> = units.iter().map(|unit| shell::word(unit)).collect();
            format!("{} stop {}", systemctl(*manager), units.join(" "))
        }
        Ending::ClearStore(unit) => {
            let name = shell::word(&unit.name);
            format!("{} clean --what=fdstore {name}", systemctl(unit.manager))
        }
        Ending::FindSocketUnit(manager) => {
            format!(
                "stop its unit, which `{} list-sockets` may name: a socket unit, or a service that \
                 stored the socket",
                systemctl(*manager)
            )
        }
        Ending::StopRun(name) => format!("sameport stop {name}"),
        Ending::StopRunOf(name, uid) => {
            format!("sameport stop {name} --user {}", shell::word(&user(*uid)))
        }
        Ending::StopContainer(name) => stop_container(name),
        Ending::StopPublished(port, protocol) => {
            let udp = if *protocol == Protocol::Udp { "/udp" } else { "" };
            format!("docker stop $(docker ps --quiet --filter publish={port}{udp})")
        }
        Ending::FindContainer(ContainerName { engine: Some(Engine::Podman), .. }) => {
            "stop its container, which `podman port --all` names".to_owned()
        }
        Ending::FindContainer(name) => format!("stop the {}", printable(&name.description())),
        Ending::StopTask(command) => shell::command(command),
        Ending::StopIn(parent) => {
            let program = printable(&parent.program);
            format!("stop it by {program} (pid {}), which starts it again", parent.pid)
        }
        Ending::Kill(pids) | Ending::KillOrParent(pids, _) => kill(pids),
        Ending::EndProcess1(process) => {
            format!("end the container whose process 1 is {}", printable(&process.program))
        }
        Ending::AskRoot => "ask again as root, who sees the program".to_owned(),
        Ending::Elsewhere => {
            "end the program in the pid namespace, or the use by the kernel, that holds it"
                .to_owned()
        }
        Ending::Wait => {
            "wait until the kernel has ended the connections without a process".to_owned()
        }
    }
}

/// A user manager has its socket in the directory of its user, and serves that user.
fn systemctl(manager: Manager) -> String {
    let Manager::User(uid) = manager else { return "systemctl".to_owned() };
    let at = format!("XDG_RUNTIME_DIR=/run/user/{uid} ");
    let as_user = match effective_user() {
        0 if uid != 0 => format!("{}env {at}", shell::as_user(&user(uid))),
        own if own == uid && std::env::var_os("XDG_RUNTIME_DIR").is_none() => at,
        _ => String::new(),
    };
    format!("{as_user}systemctl --user")
}

fn stop_container(name: &ContainerName) -> String {
    let engine = name.engine.map_or("docker", Engine::name);
    format!("{engine} stop {}", shell::word(name.handle().unwrap_or_default()))
}

fn kill(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("kill {}", pids.join(" "))
}

/// The changes that set SO_REUSEPORT on the sockets of these holders. `None`: one of them cannot be started
/// again with it.
pub(crate) fn sharing<'a>(
    holders: impl IntoIterator<Item = &'a Holder>,
    caller: u32,
) -> Option<String> {
    let mut changes = BTreeSet::new();
    for holder in holders {
        // The sockets of a run have the option, except those that it must not change.
        changes.insert(sharing_text(&Sharing::of(holder)?, caller));
    }
    let changes: Vec<String> = changes.into_iter().collect();
    (!changes.is_empty()).then(|| changes.join(", and "))
}

fn sharing_text(change: &Sharing, caller: u32) -> String {
    let under_run = |command: &Option<Vec<String>>| {
        let words = command.as_ref().map_or_else(|| "ITS COMMAND".into(), shell::command);
        format!("under `sameport run -- {words}`")
    };
    match change {
        Sharing::UnderRun { process, command } => {
            let details = process.details.as_ref();
            // Also for root: the command and the directory are the other user's.
            let owner = details.and_then(|it| it.uid).filter(|uid| *uid != caller);
            let by = owner.map_or(String::new(), |uid| format!(" by user {}", user(uid)));
            let directory = details.and_then(|it| it.directory.as_deref());
            let directory = directory.map(|path| path.to_string_lossy());
            let directory = directory.filter(|path| !path.ends_with(" (deleted)"));
            let directory = directory.map(|path| shell::word(&path));
            let directory = directory.map_or(String::new(), |path| format!(" in {path}"));
            format!("pid {} started again{by}{directory} {}", process.pid, under_run(command))
        }
        Sharing::ByParent { process, parent, command } => format!(
            "pid {} started by {} (pid {}) {}",
            process.pid,
            printable(&parent.program),
            parent.pid,
            under_run(command)
        ),
        Sharing::AttachUnit(unit) => attach(unit, caller),
        Sharing::SocketUnit { socket: Unit { manager, name }, service } => {
            let (systemctl, name) = (systemctl(*manager), shell::word(name));
            let stop = service.as_ref().map_or(String::new(), |service| {
                format!("{systemctl} stop {} && ", shell::word(service))
            });
            format!(
                "{}ReusePort=yes in its [Socket] section (`{systemctl} edit {name}`), then \
                 {stop}{systemctl} restart {name}",
                manager_prefix(*manager, caller)
            )
        }
    }
}

fn attach(unit: &Unit, caller: u32) -> String {
    let name = shell::word(&unit.name);
    match unit.manager {
        Manager::System => {
            let root = manager_prefix(unit.manager, caller);
            format!("{root}sameport attach --unit {name}, then systemctl restart {name}")
        }
        Manager::User(_) => {
            format!("{name} with `sameport run --` before the command in its ExecStart=")
        }
    }
}

/// The command that restarts a unit.
pub(crate) fn restart(unit: &Unit) -> String {
    change(unit, "restart")
}

/// The command that starts a unit.
pub(crate) fn start(unit: &Unit) -> String {
    change(unit, "start")
}

fn change(unit: &Unit, verb: &str) -> String {
    let (systemctl, name) = (systemctl(unit.manager), shell::word(&unit.name));
    format!("{}{systemctl} {verb} {name}", manager_prefix(unit.manager, effective_user()))
}

fn manager_prefix(manager: Manager, caller: u32) -> String {
    match manager {
        Manager::System => root_prefix(caller),
        Manager::User(uid) if uid == caller || caller == 0 => String::new(),
        Manager::User(uid) => rights_prefix(Rights::User(uid)),
    }
}

/// Another way than to stop the holder, for the holders that have one.
pub(crate) fn alternative(holder: &Holder, port: u16) -> Option<String> {
    match &holder.class {
        HolderClass::ContainerProxy(name) => {
            let engine = name.engine.map_or("docker", Engine::name);
            Some(format!("another port for its container: {engine} run -p PORT:…, not {port}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sameport_policy::model::Process;

    use super::*;

    #[test]
    fn a_remark_is_behind_every_command_of_its_line() {
        let parent = |pid, program: &str| Process { pid, program: program.into(), details: None };
        let kill = |pid, parent| EndingStep {
            ending: Ending::KillOrParent(vec![pid], parent),
            rights: Rights::Caller,
        };
        let steps = [kill(12, parent(9, "bash")), kill(13, parent(9, "bash"))];
        assert_eq!(endings(&steps), "kill 12 && kill 13 # if bash starts it again: kill 9");
        let steps = [kill(12, parent(9, "bash")), kill(13, parent(8, "make"))];
        assert_eq!(
            endings(&steps),
            "kill 12 && kill 13 # if bash starts it again: kill 9, if make starts it again: kill 8"
        );
    }
}
