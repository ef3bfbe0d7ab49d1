//! The reports of preload libraries: that one is loaded, and what it did.
//!
//! Each is one message over a connection of its own to a socket with an abstract name. Who sends it
//! is what the kernel says (`SO_PEERCRED`), not what the message says.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use sameport_policy::addr::Protocol;

/// What a library says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryReport {
    /// It is there: once for each program that is executed.
    Loaded,
    /// A bind that it had something to do with, or of a fixed port.
    Bound {
        /// TCP or UDP.
        protocol: Protocol,
        /// What was bound, or was to be.
        address: SocketAddr,
        /// What the program asked for, if that was something else.
        asked: Option<SocketAddr>,
        /// The place of the rule of `--map` that moved it.
        rule: Option<usize>,
        /// Whose doing it is that the port can be shared.
        sharing: SharedBy,
        /// The kernel's refusal, if it refused.
        errno: Option<Errno>,
    },
    /// An outgoing socket was bound to the address of `--source`.
    Source {
        /// TCP or UDP.
        protocol: Protocol,
        /// The address, with port 0 if any will do.
        address: SocketAddr,
        /// The kernel's refusal, if it refused; the program's call has then failed with it.
        errno: Option<Errno>,
    },
}

/// Whose doing it is that a port can be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedBy {
    /// The library has set SO_REUSEPORT.
    Library,
    /// The program has.
    Program,
    /// Nobody's.
    NotShared,
}

/// A report and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// The sender's process id, in our own pid namespace.
    pub pid: i32,
    /// What it says.
    pub report: LibraryReport,
}

impl LibraryReport {
    /// Reads a message; `None` where it is none of these.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(message).ok()?.split(' ').peekable();
        let kind = words.next()?;
        if kind == "loaded" {
            return words.next().is_none().then_some(Self::Loaded);
        }
        let protocol = match words.next()? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        let address = words.next()?.parse().ok()?;
        let mut named = |name: &str| words.next_if_eq(&name).map(|_| words.next().unwrap_or(""));
        let asked = named("asked").map(str::parse).transpose().ok()?;
        let rule = named("rule").map(str::parse).transpose().ok()?;
        let sharing = match words.peek() {
            Some(&"shared") => SharedBy::Library,
            Some(&"itself") => SharedBy::Program,
            _ => SharedBy::NotShared,
        };
        if sharing != SharedBy::NotShared {
            words.next();
        }
        let errno = match words.next() {
            None => None,
            Some("errno") => {
                let number = words.next()?.parse().ok().filter(|number| (1..4096).contains(number));
                Some(Errno::from_raw_os_error(number?))
            }
            Some(_) => return None,
        };
        if words.next().is_some() {
            return None;
        }
        match kind {
            "bound" => Some(Self::Bound { protocol, address, asked, rule, sharing, errno }),
            "source" if asked.is_none() && rule.is_none() && sharing == SharedBy::NotShared => {
                Some(Self::Source { protocol, address, errno })
            }
            _ => None,
        }
    }
}

/// Where reports arrive.
#[derive(Debug)]
pub struct ReportSocket {
    name: String,
    listener: OwnedFd,
    /// Readable when there is something to take.
    ready: OwnedFd,
    /// Connections whose message has not come yet.
    waiting: Vec<(OwnedFd, i32)>,
}

/// Connections that may wait for their message; a library sends it at once.
const MOST_WAITING: usize = 256;

/// The longest message that a library sends.
const LONGEST: usize = 256;

impl ReportSocket {
    /// Opens one, under a name that the kernel picks. Linux 2.6.4.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new_unnamed())?;
        rustix::net::listen(&listener, 4096)?;
        let address = SocketAddrUnix::try_from(rustix::net::getsockname(&listener)?)?;
        let name = address.abstract_name().ok_or(Errno::ADDRNOTAVAIL)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| Errno::ILSEQ)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let any = epoll::EventData::new_u64(0);
        epoll::add(&ready, &listener, any, epoll::EventFlags::IN)?;
        Ok(Self { name, listener, ready, waiting: Vec::new() })
    }

    /// Its abstract name, for SAMEPORT_REPORT.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What has come. Never waits; at most 1,024 reports at once, then this is readable still.
    ///
    /// What is no report, and what comes from another user's process (unless we have started it) or from outside of
    /// our pid namespace, is dropped.
    pub fn take(&mut self) -> Vec<ReceivedReport> {
        for _ in 0..1024 {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(connection) = rustix::net::accept_with(&self.listener, flags) else { break };
            let Some(pid) = plausible_sender(&connection) else { continue };
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.remove(0);
            }
            self.waiting.push((connection, pid));
            if self.waiting.len() == MOST_WAITING {
                break;
            }
        }
        let mut received = Vec::new();
        let ready = &self.ready;
        self.waiting.retain(|(connection, pid)| {
            let mut message = [0u8; LONGEST + 1];
            match rustix::net::recv(connection, &mut message, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {
                    let any = epoll::EventData::new_u64(1);
                    // There already: it has waited before.
                    let _ = epoll::add(ready, connection, any, epoll::EventFlags::IN);
                    return true;
                }
                Ok((_, length)) => {
                    let report = message.get(..length.min(LONGEST)).and_then(LibraryReport::parse);
                    let is_whole = length <= LONGEST;
                    received.extend(
                        report
                            .filter(|_| is_whole)
                            .map(|report| ReceivedReport { pid: *pid, report }),
                    );
                }
                Err(_) => {}
            }
            false
        });
        received
    }
}

impl AsFd for ReportSocket {
    /// Readable (level-triggered) when [`Inbox::take`] would give something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

fn plausible_sender(connection: &OwnedFd) -> Option<i32> {
    let peer = sockopt::socket_peercred(connection).ok()?;
    let pid = peer.pid.as_raw_nonzero().get();
    let is_ours = peer.uid == rustix::process::geteuid() || crate::process::is_descendant(pid);
    (pid > 0 && is_ours).then_some(pid)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
