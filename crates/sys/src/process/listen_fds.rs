//! Passing open sockets to a worker by systemd's protocol for socket activation (`sd_listen_fds(3)`).
//!
//! LISTEN_PID must hold the worker's own process id, which is known only after the fork. `std` cannot
//! change the environment there, so this module writes the variable and executes the program.

#![expect(unsafe_code, reason = "dup2(2) to fixed numbers and execvpe(3), between fork and exec")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::errno::last_errno;

/// Sockets for a worker: its descriptors 3, 4, …, announced by LISTEN_FDS and LISTEN_PID.
#[derive(Debug, Default)]
pub struct ListenFds<'a> {
    /// The sockets, in the order of their numbers in the worker.
    pub sockets: Vec<BorrowedFd<'a>>,
    /// The environment of this process, to which [`super::SpawnOptions::environment`] is applied.
    pub environment: Vec<(OsString, OsString)>,
}

/// Number of the first socket, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// All values for the steps after the fork, which cannot allocate.
#[derive(Debug)]
pub(super) struct ListenFdSetup {
    /// Duplicates with numbers above all numbers of sockets in the worker.
    sockets: Vec<OwnedFd>,
    /// Reports a failed exec to the parent. Closed when exec succeeds.
    report: OwnedFd,
    program: CString,
    /// Addresses of the strings in `_strings`, then 0.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    /// `LISTEN_PID=` followed by space for the number.
    listen_pid: Box<[u8; LISTEN_PID.len() + DIGITS + 1]>,
    _strings: Vec<CString>,
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// Digits of the largest `u32`.
const DIGITS: usize = 10;

impl ListenFdSetup {
    /// Prepares the exec before the fork. Duplicates `report` above the numbers of the sockets.
    pub(super) fn new(
        command: &[OsString],
        changes: &[(OsString, Option<OsString>)],
        listen_fds: &ListenFds<'_>,
        report: &OwnedFd,
    ) -> io::Result<Self> {
        let count = RawFd::try_from(listen_fds.sockets.len()).map_err(|_| Errno::MFILE)?;
        let dup_above = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, FIRST + count);
        let sockets =
            listen_fds.sockets.iter().map(|fd| dup_above(*fd)).collect::<Result<_, _>>()?;

        let kept = listen_fds.environment.iter().filter(|(name, _)| {
            let is_ours = [&b"LISTEN_PID"[..], b"LISTEN_FDS"].contains(&name.as_bytes());
            !is_ours && changes.iter().all(|(changed, _)| changed != name)
        });
        let kept = kept.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let count = OsString::from(count.to_string());
        // `std` takes the last change of a variable, getenv(3) the first entry of a list.
        let last: BTreeMap<_, _> = changes.iter().map(|(name, value)| (name, value)).collect();
        let changed = last.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let changed = changed.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let added = [(OsStr::new("LISTEN_FDS"), count.as_os_str())];

        let mut listen_pid = Box::new([0; LISTEN_PID.len() + DIGITS + 1]);
        listen_pid[..LISTEN_PID.len()].copy_from_slice(LISTEN_PID);

        let mut strings = Vec::new();
        let mut list = |texts: Vec<OsString>| -> io::Result<Vec<usize>> {
            let texts = texts.into_iter().map(|text| CString::new(text.into_vec()));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            // Moving a CString does not move its bytes.
            let addresses = texts.iter().map(|text| text.as_ptr().expose_provenance()).collect();
            strings.extend(texts);
            Ok(addresses)
        };
        let mut arguments = list(command.to_vec())?;
        let variables = kept.chain(changed).chain(added);
        let mut environment =
            list(variables.map(|(name, value)| [name, value].join(OsStr::new("="))).collect())?;
        environment.push(listen_pid.as_ptr().expose_provenance());
        for list in [&mut arguments, &mut environment] {
            list.push(0);
        }
        Ok(Self {
            sockets,
            report: dup_above(report.as_fd())?,
            program: CString::new(command.first().map_or(&[][..], |program| program.as_bytes()))?,
            arguments,
            environment,
            listen_pid,
            _strings: strings,
        })
    }

    /// Executes the program; between fork and exec, async-signal-safe. On failure, reports the error
    /// and exits: the descriptor that `std` would report by may have been replaced.
    pub(super) fn exec(&mut self) -> io::Result<()> {
        let errno = self.try_exec();
        let _ = rustix::net::send(
            &self.report,
            &errno.raw_os_error().to_ne_bytes(),
            SendFlags::NOSIGNAL,
        );
        // SAFETY: _exit(2) ends the process at once and runs no destructor.
        unsafe { libc::_exit(127) }
    }

    /// Returns only on failure.
    fn try_exec(&mut self) -> Errno {
        for (socket, number) in self.sockets.iter().zip(FIRST..) {
            // SAFETY: the forked child uses no descriptor with this number any more: all that it
            // uses are above the numbers of the sockets.
            if unsafe { libc::dup2(socket.as_raw_fd(), number) } < 0 {
                return last_errno();
            }
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        write_number(own.cast_unsigned(), &mut self.listen_pid[LISTEN_PID.len()..]);
        // SAFETY: both lists hold addresses of strings that end with NUL and that `self` owns, and
        // end with a null. execvpe(3) changes none of them, and neither glibc's nor musl's
        // allocates or locks.
        unsafe {
            libc::execvpe(
                self.program.as_ptr(),
                self.arguments.as_ptr().cast(),
                self.environment.as_ptr().cast(),
            )
        };
        last_errno()
    }
}

/// Writes the number in decimal, without leading zeros, and a NUL: `sd_listen_fds` reads leading
/// zeros as octal.
fn write_number(number: u32, to: &mut [u8]) {
    let mut digits = [0; DIGITS];
    let mut rest = number;
    let mut count = 0;
    while count == 0 || rest > 0 {
        digits[count] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        count += 1;
    }
    for (to, digit) in to.iter_mut().zip(digits[..count].iter().rev().chain(&[0])) {
        *to = *digit;
    }
}

/// Waits in the parent until the child has executed the program; returns the error if exec failed.
pub(super) fn exec_error(channel: &OwnedFd) -> Option<Errno> {
    let mut errno = [0; 4];
    loop {
        match rustix::net::recv(channel, &mut errno, RecvFlags::empty()) {
            Ok((4, _)) => return Some(Errno::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(Errno::INTR) => {}
            // Exec has closed the other end.
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_without_leading_zeros() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let mut text = [b'x'; DIGITS + 1];
            write_number(number, &mut text);
            let written = text.split(|byte| *byte == 0).next().unwrap();
            assert_eq!(written, number.to_string().as_bytes());
        }
    }
}
