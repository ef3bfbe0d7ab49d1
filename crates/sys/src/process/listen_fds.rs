//! Giving a worker open sockets, in the way of systemd's socket activation (`sd_listen_fds(3)`).
//!
//! The program must find its own process id in its environment, so that this is written and the
//! program executed here, between fork and exec; `std` could do neither.

#![expect(unsafe_code, reason = "dup2 to given numbers and execvpe(3), between fork and exec")]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::errno::last_errno;

/// Sockets that a worker finds open as its descriptors 3, 4, …, and LISTEN_FDS and LISTEN_PID that
/// say so.
#[derive(Debug, Default)]
pub struct ListenFds<'a> {
    /// In the order of their numbers. They stay open on exec.
    pub sockets: Vec<BorrowedFd<'a>>,
    /// Our environment. The worker's is this with the setting's changes.
    pub environment: Vec<(OsString, OsString)>,
}

/// The first number, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// Everything that is needed after the fork, when nothing can be allocated.
#[derive(Debug)]
pub(super) struct ListenFdSetup {
    /// Above all numbers that are to be given.
    sockets: Vec<OwnedFd>,
    /// Where to say that exec failed; it is closed when exec succeeds.
    report: OwnedFd,
    program: CString,
    /// Addresses of the strings below, and 0.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    /// `LISTEN_PID=` with room for the number.
    listen_pid: Box<[u8; LISTEN_PID.len() + DIGITS + 1]>,
    _strings: Vec<CString>,
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// Of the longest process id.
const DIGITS: usize = 10;

impl ListenFdSetup {
    /// Before the fork. `report` is duplicated out of the way.
    pub(super) fn prepare(
        command: &[OsString],
        changes: &[(OsString, Option<OsString>)],
        passed: &ListenFds<'_>,
        report: &OwnedFd,
    ) -> io::Result<Self> {
        let count = RawFd::try_from(passed.sockets.len()).map_err(|_| Errno::MFILE)?;
        let above = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, FIRST + count);
        let sockets = passed.sockets.iter().map(|fd| above(*fd)).collect::<Result<_, _>>()?;

        let kept = passed.environment.iter().filter(|(name, _)| {
            let is_ours = [&b"LISTEN_PID"[..], b"LISTEN_FDS"].contains(&name.as_bytes());
            !is_ours && changes.iter().all(|(changed, _)| changed != name)
        });
        let kept = kept.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let count = OsString::from(count.to_string());
        let changed = changes.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let changed = changed.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let added = [(OsStr::new("LISTEN_FDS"), count.as_os_str())];

        let mut listen_pid = Box::new([0; LISTEN_PID.len() + DIGITS + 1]);
        listen_pid[..LISTEN_PID.len()].copy_from_slice(LISTEN_PID);

        let mut strings = Vec::new();
        let mut list = |texts: Vec<OsString>| -> io::Result<Vec<usize>> {
            let texts = texts.into_iter().map(|text| CString::new(text.into_vec()));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            // A CString's bytes stay where they are when it is moved.
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
            report: above(report.as_fd())?,
            program: CString::new(command.first().map_or(&[][..], |program| program.as_bytes()))?,
            arguments,
            environment,
            listen_pid,
            _strings: strings,
        })
    }

    /// Between fork and exec: becomes the program. If that fails, says so and ends the process, as
    /// what `std` would say it with may have been closed.
    pub(super) fn exec(&mut self) -> io::Result<()> {
        let errno = self.try_exec();
        let _ = rustix::net::send(
            &self.report,
            &errno.raw_os_error().to_ne_bytes(),
            SendFlags::NOSIGNAL,
        );
        // SAFETY: _exit(2) ends the process at once and runs nothing of ours.
        unsafe { libc::_exit(127) }
    }

    /// Comes back only if it fails.
    fn try_exec(&mut self) -> Errno {
        for (socket, number) in self.sockets.iter().zip(FIRST..) {
            // SAFETY: what has this number in the forked child, which ends or becomes another
            // program now, is not used any more: all that is, is above the given numbers.
            if unsafe { libc::dup2(socket.as_raw_fd(), number) } < 0 {
                return last_errno();
            }
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        write_number(own.cast_unsigned(), &mut self.listen_pid[LISTEN_PID.len()..]);
        // SAFETY: both lists are of addresses of strings that end with NUL and that `self` owns,
        // and end with a null; execvpe(3) changes none of them, and here, in glibc and in musl,
        // neither allocates nor locks.
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

/// Decimal, from the start of `to`, and a NUL after it: `sd_listen_fds` reads leading zeros as
/// octal.
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

/// After the fork, in the parent: waits until the worker has become the program, or why not.
pub(super) fn failure(ours: &OwnedFd) -> Option<Errno> {
    let mut errno = [0; 4];
    loop {
        match rustix::net::recv(ours, &mut errno, RecvFlags::empty()) {
            Ok((4, _)) => return Some(Errno::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(Errno::INTR) => {}
            // Nobody has the other end any more: it was closed on exec.
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
