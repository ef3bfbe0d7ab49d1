//! Starting a process that outlives this one and its terminal.

#![expect(
    unsafe_code,
    reason = "setsid(2) and close_range(2) between fork and exec, dup2(2) onto a number"
)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use sameport_policy::sandbox::SandboxedCall;

use super::signal_set::{Disposition, SignalSet, set_disposition};
use crate::fd::inherit;
use crate::seccomp::permits;

/// A process to start.
#[derive(Debug)]
pub struct DetachedCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, program name first.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory; `None`: that of this process, which may have been removed.
    pub directory: Option<PathBuf>,
    /// Its standard output and error; `None`: `/dev/null`.
    pub output: Option<(OwnedFd, OwnedFd)>,
    /// A descriptor that the program inherits under the same number.
    pub passed: Option<OwnedFd>,
}

impl DetachedCommand {
    /// Starts the process in a session of its own, without a terminal, with `/dev/null` as its input. It
    /// outlives this process. It gets no other descriptor of this process than those of the command,
    /// blocks no signal and ignores none. The umask and the limits of resources stay.
    ///
    /// # Errors
    ///
    /// Errors of `fork(2)`, `chdir(2)` and `execve(2)`.
    pub fn spawn(self) -> io::Result<Child> {
        let Self { program, arguments, environment, directory, output, passed } = self;
        let mut command = Command::new(program);
        let mut arguments = arguments.into_iter();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_clear().envs(environment);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let (stdout, stderr) = match output {
            Some((stdout, stderr)) => (stdout.into(), stderr.into()),
            None => (Stdio::null(), Stdio::null()),
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let nothing = SignalSet::new(&[]);
        // A filter may end the child for this call.
        let has_close_range = permits(SandboxedCall::CloseRange).is_ok();
        let prepare = move || {
            rustix::process::setsid()?;
            forget_signals(&nothing)?;
            close_inherited(has_close_range);
            if let Some(passed) = &passed {
                inherit::keep_on_exec(&passed.as_fd())?;
            }
            Ok(())
        };
        // SAFETY: `prepare` makes system calls only, and neither allocates nor locks.
        unsafe { command.pre_exec(prepare) };
        command.spawn()
    }
}

/// Lets a command inherit its standard input, output and error only, also where other descriptors of this process are
/// meant for its next program.
pub(crate) fn without_descriptors(command: &mut Command) {
    // A filter may end the child for this call.
    let has_close_range = permits(SandboxedCall::CloseRange).is_ok();
    let prepare = move || {
        close_inherited(has_close_range);
        Ok(())
    };
    // SAFETY: `prepare` makes system calls only, and neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// Gives every signal its default disposition, and blocks none. Async-signal-safe.
fn forget_signals(nothing: &SignalSet) -> Result<(), Errno> {
    for signal in 1..=libc::SIGRTMAX() {
        // SIGKILL, SIGSTOP and the signals of the C library have no other disposition: EINVAL.
        let _ = set_disposition(signal, Disposition::Default);
    }
    nothing.set_mask()
}

/// Sets FD_CLOEXEC on every descriptor from 3 up (`close_range(2)` with CLOSE_RANGE_CLOEXEC, Linux 5.11;
/// otherwise `fcntl(2)` for each up to `HIGHEST`). Async-signal-safe.
fn close_inherited(has_close_range: bool) {
    /// Programs open few descriptors above it.
    const HIGHEST: RawFd = 65_535;
    if has_close_range {
        let (first, last, flags) = (3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        // SAFETY: the call takes three numbers, and closes nothing before the exec.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
            return;
        }
    }
    for number in 3..=HIGHEST {
        // SAFETY: F_SETFD changes a flag of a descriptor number, open or not.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Makes these descriptors the standard output and error of this process (`dup2(2)`).
///
/// # Errors
///
/// Errors of `dup2(2)`.
pub fn replace_output(stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    for (fd, number) in [(stdout, 1), (stderr, 2)] {
        // SAFETY: the descriptor is open, and 1 and 2 have no owner in this process that would close them: the
        // standard library uses the numbers.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The environment that a process was executed with (`/proc/PID/environ`). `None` if it cannot be read.
///
/// The kernel reads the memory of the process, which blocks if the process has replaced its
/// environment by a mapped file of a file system that does not respond.
#[must_use]
pub fn environment_of(pid: i32) -> Option<Vec<(OsString, OsString)>> {
    use std::os::unix::ffi::OsStringExt as _;

    let environment =
        std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let entries = environment.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    });
    Some(entries.collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_detached_process_leads_a_session() {
        let (reader, writer) = std::io::pipe().unwrap();
        let output = (OwnedFd::from(writer.try_clone().unwrap()), OwnedFd::from(writer));
        let script = "read -r line; echo \"$line$A$PWD\"; cut -d' ' -f6 /proc/$$/stat; echo $$";
        let command = DetachedCommand {
            program: "/bin/sh".into(),
            arguments: vec!["shell".into(), "-c".into(), script.into()],
            environment: vec![("A".into(), "1".into()), ("PATH".into(), "/usr/bin:/bin".into())],
            directory: Some("/".into()),
            output: Some(output),
            passed: None,
        };
        let mut child = command.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let text = std::io::read_to_string(reader).unwrap();
        assert_eq!(text, format!("1/\n{0}\n{0}\n", child.id()));
    }

    /// Descriptors and signals of this process stay here, except the one that is passed.
    #[test]
    fn a_detached_process_inherits_nothing_else() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (passed, open) = (writer.try_clone().unwrap(), std::io::pipe().unwrap().1);
        inherit::keep_on_exec(&open).unwrap();
        let (passed_number, open) = (passed.as_fd().as_raw_fd(), OwnedFd::from(open));
        let script = "ls /proc/self/fd | tr '\\n' ' '; \
                      sed -n 's/^Sig\\(Blk\\|Ign\\)://p' /proc/self/status | tr -d '\\n'";
        let command = DetachedCommand {
            program: "/bin/sh".into(),
            arguments: vec!["sh".into(), "-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: None,
            output: Some((writer.try_clone().unwrap().into(), writer.into())),
            passed: Some(passed.into()),
        };
        // The shell inherits what the spawning thread has.
        let before = SignalSet::new(&[libc::SIGUSR1]).block().unwrap();
        let mut child = command.spawn().unwrap();
        before.set_mask().unwrap();
        assert!(child.wait().unwrap().success());
        let text = std::io::read_to_string(reader).unwrap();
        let (descriptors, signals) = text.split_once('\t').unwrap();
        let seen: Vec<RawFd> =
            descriptors.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(seen.contains(&passed_number), "{text}");
        assert!(!seen.contains(&open.as_raw_fd()), "{text}");
        // The C library keeps signals 32 and 33 for itself, and `sigaction(3)` refuses them.
        let of_library = 0b11_u64 << 31;
        let masks = signals.split_whitespace().map(|mask| u64::from_str_radix(mask, 16).unwrap());
        assert!(
            masks.clone().count() == 2 && masks.fold(0, |all, it| all | it) & !of_library == 0,
            "{text}"
        );
    }

    #[test]
    fn an_environment_is_read() {
        let own = environment_of(std::process::id().cast_signed()).unwrap();
        assert!(own.contains(&("PATH".into(), std::env::var_os("PATH").unwrap())));
        assert_eq!(environment_of(i32::MAX), None);
    }
}
