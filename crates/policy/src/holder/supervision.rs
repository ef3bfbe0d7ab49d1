//! Programs that start other programs again.

use super::model::{Manager, ProcessFacts, Supervision};
use crate::model::Process;

/// Programs whose purpose is to start a program again. Their names in the kernel have 15 bytes at most.
const PROCESS_MANAGERS: &[&str] = &[
    "supervisord",
    "runsv",
    "runsvdir",
    "s6-supervise",
    "s6-svscan",
    "supervise",
    "svscan",
    "monit",
    "circusd",
    "pm2",
    "nodemon",
    "forever",
    "watchexec",
    "entr",
    "foreman",
    "overmind",
    "honcho",
    "daemon",
    "restartd",
    "god",
    "eye",
    "dinit",
    "perpd",
    "immortal",
    "watchmedo",
    "air",
    "reflex",
    "supervise-daemon",
    "supervise-daemo",
    "mongrel2",
];

/// Programs that run another program and end with it.
const WRAPPERS: &[&str] = &[
    "sudo",
    "doas",
    "su",
    "runuser",
    "setpriv",
    "env",
    "nohup",
    "setsid",
    "time",
    "timeout",
    "nice",
    "strace",
    "ltrace",
    "gdb",
    "unshare",
    "nsenter",
    "chroot",
    "tini",
    "dumb-init",
    "catatonit",
    "script",
    "stdbuf",
    "flock",
    "xargs",
    "npx",
    "npm",
    "yarn",
    "pnpm",
];

/// Shells.
const SHELLS: &[&str] =
    &["sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "ash", "busybox", "tcsh", "csh"];

/// Programs from which a user starts others. None of them starts a program again.
const SESSIONS: &[&str] = &[
    "login",
    "sshd",
    "sshd-session",
    "tmux",
    "tmux: server",
    "screen",
    "SCREEN",
    "mosh-server",
    "telnetd",
    "agetty",
    "init",
    "systemd",
    "cron",
    "crond",
    "atd",
    "dbus-daemon",
    "dbus-broker",
    "sameport",
];

/// The manager that a process is; `None` for other programs. A process 1 that is no service manager, as in
/// most containers, is a program as any other.
#[must_use]
pub fn manager_of(process: &Process) -> Option<Manager> {
    if process.pid == 1 {
        return matches!(process.program.as_str(), "systemd" | "init").then_some(Manager::System);
    }
    let details = process.details.as_ref()?;
    let is_user_manager =
        process.program == "systemd" && details.command.iter().any(|word| word == "--user");
    is_user_manager.then_some(Manager::User(details.uid?))
}

/// Whether the process is a shell, by its name.
pub(super) fn is_shell(process: &Process) -> bool {
    SHELLS.contains(&process.program.as_str())
}

/// The nearest ancestor that starts the process again, or may do so. Wrappers, and shells that wait for
/// one command, are passed over.
pub(super) fn supervision(
    process: &ProcessFacts,
    above: &[&ProcessFacts],
) -> Option<(Process, Supervision)> {
    let mut below = process;
    let mut master = None;
    for parent in above {
        let found = parent_kind(below, parent);
        match found {
            ParentKind::Starter(Supervision::Master) => master = Some(*parent),
            ParentKind::Starter(by) => {
                // A manager above a master starts the master again.
                let is_surer = by != Supervision::Possible;
                if master.is_none() || is_surer {
                    return Some((parent.process.clone(), by));
                }
                break;
            }
            ParentKind::Wrapper => {}
            ParentKind::Session => break,
        }
        below = parent;
    }
    master.map(|master| (master.process.clone(), Supervision::Master))
}

enum ParentKind {
    Starter(Supervision),
    /// It ends with its child.
    Wrapper,
    /// It starts programs for a user, once.
    Session,
}

fn parent_kind(child: &ProcessFacts, parent: &ProcessFacts) -> ParentKind {
    let process = &parent.process;
    let program = process.program.as_str();
    let words = process.details.as_ref().map_or(&[][..], |details| &details.command);
    if process.pid == 1 || manager_of(process).is_some() || SESSIONS.contains(&program) {
        return ParentKind::Session;
    }
    if is_process_manager(program, words) {
        return ParentKind::Starter(Supervision::ProcessManager);
    }
    if SHELLS.contains(&program) {
        return shell_kind(words);
    }
    if WRAPPERS.contains(&program) {
        return ParentKind::Wrapper;
    }
    if is_same_program(&child.process, process) {
        return ParentKind::Starter(Supervision::Master);
    }
    ParentKind::Starter(Supervision::Possible)
}

/// By its name, or by the script of an interpreter: `python3 /usr/bin/supervisord`, `PM2 v5.3.0: God`.
fn is_process_manager(program: &str, words: &[String]) -> bool {
    let file = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_manager = |name: &str| PROCESS_MANAGERS.contains(&name.trim_end_matches(".js"));
    let script = words.iter().skip(1).find(|word| !word.starts_with('-'));
    is_manager(program)
        || program.starts_with("PM2 ")
        || words.first().is_some_and(|word| is_manager(&file(word)) || word.starts_with("PM2 "))
        || script.is_some_and(|word| word.starts_with('/') && is_manager(&file(word)))
}

/// A shell reads commands from a user, from `-c`, or from a script.
fn shell_kind(words: &[String]) -> ParentKind {
    const LOOPS: [&str; 3] = ["while", "until", "for"];
    // Commands that are not in the text may contain a loop.
    const ELSEWHERE: [&str; 3] = [".", "source", "eval"];
    let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let is_flag = |word: &&str| word.starts_with('-') || word.starts_with('+');
    let text = arguments
        .iter()
        .position(|word| is_flag(word) && !word.starts_with("--") && word.contains('c'))
        .and_then(|at| arguments.get(at + 1));
    if let Some(text) = text {
        let mut parts = text.split(|c: char| !c.is_alphanumeric());
        let mut words = text.split(|c: char| c.is_whitespace() || ";&|(){}".contains(c));
        return if parts.any(|part| LOOPS.contains(&part)) {
            ParentKind::Starter(Supervision::Loop)
        } else if words.any(|word| ELSEWHERE.contains(&word)) {
            ParentKind::Starter(Supervision::Possible)
        } else {
            ParentKind::Wrapper
        };
    }
    match arguments.iter().all(is_flag) {
        true => ParentKind::Session,
        false => ParentKind::Starter(Supervision::Possible),
    }
}

/// Whether both execute one file, and the child has the arguments of its parent or none of its own: a
/// program that has forked, or has executed itself.
fn is_same_program(child: &Process, parent: &Process) -> bool {
    let (Some(child), Some(parent)) = (&child.details, &parent.details) else { return false };
    let is_same_file = child.executable.is_some() && child.executable == parent.executable;
    let runs_script = child.executable.as_deref().is_some_and(crate::interpreter::runs_scripts);
    // Without the right to read both files, the words decide.
    let both_hidden = child.executable.is_none() && parent.executable.is_none();
    let words = child.command == parent.command && !child.command.is_empty();
    (is_same_file && !runs_script)
        || ((is_same_file || both_hidden) && words)
        || both_hidden && are_titles(&child.command, &parent.command)
}

/// `nginx: master process …` and `nginx: worker process`: titles of one program.
fn are_titles(child: &[String], parent: &[String]) -> bool {
    let title = |words: &[String]| {
        let (name, _) = words.first()?.split_once(": ")?;
        Some(name.to_owned())
    };
    title(child).is_some() && title(child) == title(parent)
}
