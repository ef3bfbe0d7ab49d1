//! Reports of preload libraries: loaded, bound, connected from a source address.
//!
//! A report is one message over its own connection to a socket with an abstract name. The kernel
//! states the sender (`SO_PEERCRED`).

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use sameport_policy::addr::Protocol;

use crate::socket::unix::{autobind, refuse_descriptors};

/// A report of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryReport {
    /// The library is loaded: once for each executed program.
    Loaded,
    /// A bind that the library changed, or of a fixed port.
    Bound {
        /// TCP or UDP.
        protocol: Protocol,
        /// The address of the bind.
        address: SocketAddr,
        /// The address that the program passed, if it differs.
        asked: Option<SocketAddr>,
        /// The index of the `--map` rule that changed the address.
        rule: Option<usize>,
        /// Which side enabled sharing of the port.
        sharing: SharedBy,
        /// The error of the kernel, if the bind failed.
        errno: Option<Errno>,
    },
    /// A bind of an outgoing socket to the address of `--source`.
    Source {
        /// TCP or UDP.
        protocol: Protocol,
        /// The source address; port 0 for any port.
        address: SocketAddr,
        /// The error of the kernel, if the bind failed. The program's call failed with it.
        errno: Option<Errno>,
    },
}

/// Which side enabled sharing of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedBy {
    /// The library set SO_REUSEPORT.
    Library,
    /// The program set SO_REUSEPORT.
    Program,
    /// The port is not shared.
    NotShared,
}

/// A report and its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// The sender's process id, in this pid namespace.
    pub pid: i32,
    /// The report.
    pub report: LibraryReport,
}

impl LibraryReport {
    /// Parses a message. `None`: not a report.
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

/// The socket that receives reports.
#[derive(Debug)]
pub struct ReportSocket {
    name: String,
    listener: OwnedFd,
    /// An epoll set over the listener and the waiting connections.
    ready: OwnedFd,
    /// Connections without a message so far, each with its sender.
    waiting: Vec<(OwnedFd, i32)>,
}

/// The most connections that wait for their message. A library sends it at once.
const MOST_WAITING: usize = 256;

/// The longest message of a library, in bytes.
const LONGEST: usize = 256;

impl ReportSocket {
    /// Opens a socket with an abstract name that the kernel picks.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let name = String::from_utf8(autobind(&listener)?).map_err(|_| Errno::ILSEQ)?;
        refuse_descriptors(&listener);
        rustix::net::listen(&listener, 4096)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&ready, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self { name, listener, ready, waiting: Vec::new() })
    }

    /// The abstract name, as the value of SAMEPORT_REPORT.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The received reports, without waiting: at most 1,024. The socket stays readable if there are
    /// more.
    ///
    /// Drops messages that are not reports, and messages from other users' processes that are not
    /// descendants or from outside this pid namespace.
    pub fn take(&mut self) -> Vec<ReceivedReport> {
        for _ in 0..1024 {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(connection) = rustix::net::accept_with(&self.listener, flags) else { break };
            let Some(pid) = accepted_sender(&connection) else { continue };
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
                    let data = epoll::EventData::new_u64(1);
                    // EEXIST for a connection that has waited before.
                    let _ = epoll::add(ready, connection, data, epoll::EventFlags::IN);
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
    /// Readable (level-triggered) when [`ReportSocket::take`] has a report to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

/// The process id of the sender, if the report counts.
fn accepted_sender(connection: &OwnedFd) -> Option<i32> {
    let peer = sockopt::socket_peercred(connection).ok()?;
    let pid = peer.pid.as_raw_nonzero().get();
    let is_ours = peer.uid == rustix::process::geteuid() || crate::process::is_descendant(pid);
    (pid > 0 && is_ours).then_some(pid)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
