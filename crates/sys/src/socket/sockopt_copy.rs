//! Copying the options of a new socket to the held one that replaces it.

use std::os::fd::AsFd as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::raw_option;
use super::sockopt_list::{COPIED_OPTIONS, CopiedOption, CopyMethod};
use crate::netns::cookie;
use crate::socket::worker_socket::WorkerSocket;

/// How O_NONBLOCK and options are copied, which all processes with the socket open share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonBlocking {
    /// The held socket gets the flag and the options of the new one.
    Same,
    /// The flag and each option are set if the new socket has them, but not cleared: another worker still
    /// uses the held socket, and would block or miss its option.
    OnlySet,
}

/// Why a held socket cannot replace a new one. The worker then binds the new socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The sockets differ in a property that cannot change after a bind.
    #[error("its {0} differs")]
    Differs(&'static str),
    /// The new socket has a filter, which cannot always be read back.
    #[error("it has a filter")]
    Filter,
    /// The new socket signals its owner on events (O_ASYNC).
    #[error("it sends signals (O_ASYNC)")]
    Signals,
    /// The kernel refuses the option's value for the held socket.
    #[error("{0} cannot be set: {1}")]
    Refused(&'static str, Errno),
    /// The held socket has another value after the copy: a limit or another option changes it.
    #[error("{0} does not keep its value")]
    Changed(&'static str),
    /// An option of one of the sockets could not be read.
    #[error("{0}")]
    Look(Errno),
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> Self {
        Self::Look(errno)
    }
}

impl WorkerSocket {
    /// Gives the held socket the options of this new socket, and resets those that this one does not
    /// set. Leaves out options that are read-only after the bind, options of connections, and
    /// SO_REUSEADDR, with which another user's socket could take datagrams.
    ///
    /// Cannot copy, nor report, IP_OPTIONS, and options that cannot be read before a bind: TCP_MD5SIG
    /// keys, multicast memberships, IP_MULTICAST_IF by index.
    ///
    /// # Errors
    ///
    /// See [`CopyError`]. Some options may have been copied; the next call corrects them.
    pub fn copy_options_to(&self, held: &Self, non_blocking: NonBlocking) -> Result<(), CopyError> {
        self.check_same_kind(held)?;
        let flags = rustix::fs::fcntl_getfl(self)?;
        if flags.contains(OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned())) {
            return Err(CopyError::Signals);
        }
        if self.has_filter()? {
            return Err(CopyError::Filter);
        }
        if held.has_filter()? {
            held.drop_filter().map_err(|errno| CopyError::Refused("SO_DETACH_FILTER", errno))?;
        }
        let mut copied = Vec::with_capacity(COPIED_OPTIONS.len());
        for option in COPIED_OPTIONS {
            // A worker that uses the held socket needs the option, and its successor may set it after
            // the bind, as dnsmasq sets IP_PKTINFO.
            if non_blocking == NonBlocking::OnlySet && option.is_cleared_by(self, held) {
                continue;
            }
            match option.copy(self, held) {
                Ok(()) => copied.push(option),
                // MPTCP sockets derive this option from others, and it cannot be set.
                Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(CopyError::Refused(option.text, errno)),
            }
        }
        // A later option may have changed an earlier one.
        if let Some(option) = copied.iter().find(|option| option.differs(self, held)) {
            return Err(CopyError::Changed(option.text));
        }
        let held_flags = rustix::fs::fcntl_getfl(held)?;
        let new_flags = match non_blocking {
            NonBlocking::Same => (held_flags - OFlags::NONBLOCK) | flags & OFlags::NONBLOCK,
            NonBlocking::OnlySet => held_flags | flags & OFlags::NONBLOCK,
        };
        if new_flags != held_flags {
            rustix::fs::fcntl_setfl(held, new_flags)?;
        }
        Ok(())
    }

    /// Compares the properties that cannot change after a bind.
    fn check_same_kind(&self, held: &Self) -> Result<(), CopyError> {
        use rustix::net::sockopt;
        let device = |socket: &Self| socket2::SockRef::from(socket).device().ok().flatten();
        let network = |socket: &Self| cookie::socket_netns_cookie(socket).ok();
        let same = [
            ("family", self.is_v6()? == held.is_v6()?),
            ("protocol", sockopt::socket_protocol(self)? == sockopt::socket_protocol(held)?),
            ("network namespace", network(self) == network(held)),
            ("IPV6_V6ONLY", self.is_v6only()? == held.is_v6only()?),
            ("device", device(self) == device(held)),
        ];
        match same.iter().find(|(_, is_same)| !is_same) {
            Some((property, _)) => Err(CopyError::Differs(property)),
            None => Ok(()),
        }
    }

    /// Whether a filter is on the socket (SO_ATTACH_FILTER, SO_ATTACH_BPF).
    fn has_filter(&self) -> Result<bool, Errno> {
        match raw_option::filter_length(self.as_fd()) {
            Ok(length) => Ok(length > 0),
            // An eBPF filter, which cannot be read.
            Err(Errno::ACCESS) => Ok(true),
            // An MPTCP socket, which cannot have a filter.
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn drop_filter(&self) -> Result<(), Errno> {
        let name = raw_option::SockOpt { level: libc::SOL_SOCKET, number: libc::SO_DETACH_FILTER };
        raw_option::set(self.as_fd(), name, &[0; 4])
    }
}

impl CopiedOption {
    /// The value of the option. `None`: sockets of this kind do not have it.
    pub(super) fn read(&self, socket: &WorkerSocket) -> Option<Vec<u8>> {
        let size = match self.method {
            CopyMethod::Bytes | CopyMethod::Timed => 256,
            CopyMethod::Number | CopyMethod::Doubled { .. } | CopyMethod::ZeroFor(_) => 4,
        };
        let mut value = vec![0; size];
        let length = raw_option::read(socket.as_fd(), self.name, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn differs(&self, a: &WorkerSocket, b: &WorkerSocket) -> bool {
        let (a, b) = (self.read(a), self.read(b));
        a.is_some() && b.is_some() && a != b
    }

    /// Whether a copy from `new` would clear an option that `held` has set.
    fn is_cleared_by(&self, new: &WorkerSocket, held: &WorkerSocket) -> bool {
        let is_zero = |value: &[u8]| value.iter().all(|byte| *byte == 0);
        let (new, held) = (self.read(new), self.read(held));
        new.is_some_and(|value| is_zero(&value)) && held.is_some_and(|value| !is_zero(&value))
    }

    fn copy(&self, from: &WorkerSocket, to: &WorkerSocket) -> Result<(), Errno> {
        if !self.differs(from, to) {
            return Ok(());
        }
        let Some(value) = self.read(from) else { return Ok(()) };
        let number = || value.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        let set = |name, value: &[u8]| raw_option::set(to.as_fd(), name, value);
        match self.method {
            CopyMethod::Number | CopyMethod::Bytes => set(self.name, &value),
            CopyMethod::Timed => {
                let on = [&1_i32.to_ne_bytes(), value.get(4..).unwrap_or_default()].concat();
                set(self.name, &on).and_then(|()| set(self.name, &value))
            }
            CopyMethod::Doubled { force } => {
                let half = (number() / 2).to_ne_bytes();
                let result = set(self.name, &half);
                if self.differs(from, to) {
                    // Beyond the limit. Without CAP_NET_ADMIN, the final comparison reports it.
                    let _ = set(raw_option::SockOpt { number: force, ..self.name }, &half);
                }
                result
            }
            CopyMethod::ZeroFor(default) if number() == default => set(self.name, &[0; 4]),
            CopyMethod::ZeroFor(_) => set(self.name, &value),
        }
    }
}

#[cfg(test)]
#[path = "sockopt_copy_tests.rs"]
mod tests;
