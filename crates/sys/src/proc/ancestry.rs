//! Command lines of the ancestors of a process.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use sameport_policy::holder::MOST_ANCESTORS;

use crate::process::parent;

/// The command line and directory of a process. A process can overwrite its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessCommand {
    /// Program and arguments (`/proc/PID/cmdline`).
    pub words: Vec<OsString>,
    /// The current working directory; `None` if unknown.
    pub directory: Option<PathBuf>,
}

/// The process, its parent and so on, limited to those that execute the caller's own program or one named
/// `program`, nearest first. Ancestors outside the caller's pid namespace are left out. Needs no
/// privilege, except for the directory of another user's process (see [`working_directory`]).
pub fn ancestor_commands(pid: i32, program: &str) -> impl Iterator<Item = ProcessCommand> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent > 0))
        .take(MOST_ANCESTORS)
        .filter(move |pid| is_named(*pid, program) || is_our_program(*pid))
        .filter_map(|pid| {
            Some(ProcessCommand { words: command_line(pid)?, directory: working_directory(pid) })
        })
}

/// The working directory of a process; `None` if it exited or cannot be read: this needs permission to
/// ptrace it (same user and dumpable, or CAP_SYS_PTRACE).
#[must_use]
pub fn working_directory(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The name of the program of a process, with other characters in the place of bytes that are not UTF-8:
/// `/proc/PID/comm`, `proc_pid_comm(5)`.
#[must_use]
pub fn program_name(pid: i32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned())
}

fn is_named(pid: i32, program: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.strip_suffix(b"\n") == Some(program.as_bytes()))
}

/// Compares the executed file, so that a renamed or replaced program is recognized.
fn is_our_program(pid: i32) -> bool {
    let file = |pid: &OsStr| {
        let file = std::fs::metadata(PathBuf::from("/proc").join(pid).join("exe")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let theirs = file(pid.to_string().as_ref());
    theirs.is_some() && theirs == file("self".as_ref())
}

/// `None` without a command line: an exited process, a zombie or a kernel thread.
pub(crate) fn command_line(pid: i32) -> Option<Vec<OsString>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    Some(words.map(|word| OsString::from_vec(word.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_above_are_told_by_name_or_file_nearest_first() {
        let _turn = crate::serial::run_shared();
        let ourselves = std::process::id().cast_signed();
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "echo; read x", "an argument", ""])
            .current_dir("/")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It has been executed once it says something.
        let mut said = [0];
        std::io::Read::read_exact(&mut shell.stdout.take().unwrap(), &mut said).unwrap();
        let name = std::fs::read_to_string(format!("/proc/{}/comm", shell.id())).unwrap();
        let own_words: Vec<_> = std::env::args_os().collect();

        let found: Vec<_> =
            ancestor_commands(shell.id().cast_signed(), name.trim_end()).take(2).collect();
        let alone: Vec<_> = ancestor_commands(ourselves, "no such program").collect();

        shell.kill().unwrap();
        shell.wait().unwrap();
        let words = ["sh", "-c", "echo; read x", "an argument", ""].map(OsString::from);
        let shell = ProcessCommand { words: words.into(), directory: Some("/".into()) };
        assert_eq!(found[0], shell);
        assert_eq!(found[1].words, own_words);
        assert_eq!(alone[0].words, own_words);
        assert_eq!(alone[0].directory, std::env::current_dir().ok());
        assert_eq!(ancestor_commands(-1, "sh").count(), 0);
    }
}
