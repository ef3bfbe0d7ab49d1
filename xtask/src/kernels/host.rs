//! What this machine must have, and the programs that xtask executes on it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This machine lacks something. The hint says how it gets it.
    Missing { what: String, hint: String },
    /// A step failed.
    Failed(String),
}

impl Failure {
    pub(crate) fn missing(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Programs and the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
    ("nice", "coreutils"),
];

/// Checks that the process is root's, for debootstrap, and that every program is installed.
pub(crate) fn check() -> Result<(), Failure> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Err(Failure::missing(
            "debootstrap and chroot need root",
            "sudo --preserve-env=PATH cargo xtask kernels",
        ));
    }
    let path = search_path();
    let packages = missing_packages(|program| {
        std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    });
    if packages.is_empty() {
        return Ok(());
    }
    let packages = packages.join(" ");
    Err(Failure::missing(
        format!("these packages are not installed: {packages}"),
        format!("apt-get install --no-install-recommends {packages}"),
    ))
}

/// The packages of the programs that are not there, each once.
fn missing_packages(exists: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for (program, package) in PROGRAMS {
        if !exists(program) && !packages.contains(package) {
            packages.push(*package);
        }
    }
    packages
}

/// PATH with the directories of administrators' programs.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// A command that is killed when this process ends, however it ends.
pub(crate) fn command<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).args(arguments);
    command.env("PATH", search_path()).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command to its end. Prints what it writes to its error output only.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("{}: {status}", shown(command)))),
        Err(error) => Err(Failure::failed(format!("{}: {error}", shown(command)))),
    }
}

/// Runs a command that writes much to its end. A failure shows the end of its output, which is in `log`.
pub(crate) fn run_with_log(command: &mut Command, log: &Path) -> Result<(), Failure> {
    let file = std::fs::File::create(log)?;
    command.stderr(file.try_clone()?).stdout(file);
    let reason = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let text = std::fs::read(log).unwrap_or_default();
    Err(Failure::failed(format!(
        "{}: {reason}; its output ({}) ends with\n{}",
        shown(command),
        log.display(),
        last_lines(&String::from_utf8_lossy(&text), 5)
    )))
}

/// The last lines that are not empty.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The standard output of a command.
pub(crate) fn output<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String, Failure> {
    let mut command = command(program, arguments);
    let output = command.stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Err(Failure::failed(format!("{}: {}", shown(&command), output.status))),
        Err(error) => Err(Failure::failed(format!("{}: {error}", shown(&command)))),
    }
}

/// The program and its arguments, without setpriv and its options.
fn shown(command: &Command) -> String {
    let words = command.get_args().skip(3).map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

/// Removes a directory if it exists.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A line of progress.
pub(crate) fn say(text: &str) {
    eprintln!("kernels: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_package_is_named_once() {
        assert_eq!(missing_packages(|_| true), Vec::<&str>::new());
        let without = |missing: &'static [&'static str]| {
            missing_packages(move |program| !missing.contains(&program))
        };
        assert_eq!(without(&["setpriv", "unshare"]), ["util-linux"]);
        assert_eq!(
            without(&["qemu-system-x86_64", "debootstrap"]),
            ["qemu-system-x86", "debootstrap"]
        );
    }

    #[test]
    fn the_end_of_a_log_has_no_empty_lines() {
        assert_eq!(last_lines("a\r\n\r\nb\r\nc\n\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_failed_command_is_shown_without_its_wrapper() {
        assert_eq!(shown(&command("mkfs.ext4", &["-q", "disk"])), "mkfs.ext4 -q disk");
    }
}
