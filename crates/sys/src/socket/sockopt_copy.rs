//! Carrying a new socket's options over to the held one that takes its place.

use std::os::fd::AsFd as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::raw_option;
use super::sockopt_list::{CARRIED, CopiedOption, CopyMethod};
use crate::netns::cookie;
use crate::socket::worker_socket::WorkerSocket;

/// What becomes of O_NONBLOCK, which everybody who has the socket open shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonBlocking {
    /// As the new socket has it.
    Same,
    /// Set if the new socket has it, and not cleared: somebody else uses the socket still, and would
    /// be blocked.
    OnlySet,
}

/// Why a held socket cannot take the place of a new one. The worker is to bind its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The sockets differ in what cannot be changed after a bind.
    #[error("its {0} is another one")]
    Differs(&'static str),
    /// A filter is on the new socket, and cannot be read by all who may have set it.
    #[error("a filter is on it")]
    Filter,
    /// It signals its owner when there is something to do (O_ASYNC).
    #[error("it sends signals (O_ASYNC)")]
    Signals,
    /// The kernel does not give the held socket this option's value.
    #[error("{0} cannot be set: {1}")]
    Refused(&'static str, Errno),
    /// It has not the value that was set: the kernel's limits, or another option, forbid it.
    #[error("{0} is not what was set")]
    Changed(&'static str),
    /// One of the sockets could not be asked.
    #[error("{0}")]
    Look(Errno),
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> Self {
        Self::Look(errno)
    }
}

impl WorkerSocket {
    /// Gives the held socket the options that this new one has, and takes from it those that this
    /// one has not. Options that can only be read before the bind, and those of a connection, are
    /// left out; so is SO_REUSEADDR, with which another user's socket could take datagrams.
    ///
    /// Neither carried nor told: IP_OPTIONS, and what cannot be read before a bind: TCP_MD5SIG keys,
    /// memberships of multicast groups, IP_MULTICAST_IF by index.
    ///
    /// # Errors
    ///
    /// See [`CannotCarry`]. Some options may have been carried by then; the next time puts them right.
    pub fn copy_options_to(&self, held: &Self, non_blocking: NonBlocking) -> Result<(), CopyError> {
        self.comparable(held)?;
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
        let mut carried = Vec::with_capacity(CARRIED.len());
        for option in CARRIED {
            match option.carry(self, held) {
                Ok(()) => carried.push(option),
                // Nobody can set it on such sockets (MPTCP): it only follows from others.
                Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(CopyError::Refused(option.text, errno)),
            }
        }
        // One option may have changed another.
        if let Some(option) = carried.iter().find(|option| option.differs(self, held)) {
            return Err(CopyError::Changed(option.text));
        }
        let theirs = rustix::fs::fcntl_getfl(held)?;
        let wanted = match non_blocking {
            NonBlocking::Same => (theirs - OFlags::NONBLOCK) | flags & OFlags::NONBLOCK,
            NonBlocking::OnlySet => theirs | flags & OFlags::NONBLOCK,
        };
        if wanted != theirs {
            rustix::fs::fcntl_setfl(held, wanted)?;
        }
        Ok(())
    }

    /// Whether the two are of one kind.
    fn comparable(&self, held: &Self) -> Result<(), CopyError> {
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
            Some((what, _)) => Err(CopyError::Differs(what)),
            None => Ok(()),
        }
    }

    /// Whether a filter is on the socket (SO_ATTACH_FILTER, SO_ATTACH_BPF).
    fn has_filter(&self) -> Result<bool, Errno> {
        match raw_option::filter_length(self.as_fd()) {
            Ok(length) => Ok(length > 0),
            // One in eBPF is there and cannot be read.
            Err(Errno::ACCESS) => Ok(true),
            // MPTCP, which cannot have one.
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
    /// What the socket has; nothing where it cannot have it.
    pub(super) fn of(&self, socket: &WorkerSocket) -> Option<Vec<u8>> {
        let room = match self.how {
            CopyMethod::Bytes | CopyMethod::Timed => 256,
            CopyMethod::Number | CopyMethod::Doubled { .. } | CopyMethod::ZeroFor(_) => 4,
        };
        let mut value = vec![0; room];
        let length = raw_option::read(socket.as_fd(), self.name, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn differs(&self, a: &WorkerSocket, b: &WorkerSocket) -> bool {
        let (a, b) = (self.of(a), self.of(b));
        a.is_some() && b.is_some() && a != b
    }

    fn carry(&self, from: &WorkerSocket, to: &WorkerSocket) -> Result<(), Errno> {
        if !self.differs(from, to) {
            return Ok(());
        }
        let Some(value) = self.of(from) else { return Ok(()) };
        let number = || value.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        let set = |name, value: &[u8]| raw_option::set(to.as_fd(), name, value);
        match self.how {
            CopyMethod::Number | CopyMethod::Bytes => set(self.name, &value),
            CopyMethod::Timed => {
                let on = [&1_i32.to_ne_bytes(), value.get(4..).unwrap_or_default()].concat();
                set(self.name, &on).and_then(|()| set(self.name, &value))
            }
            CopyMethod::Doubled { force } => {
                let half = (number() / 2).to_ne_bytes();
                let done = set(self.name, &half);
                if self.differs(from, to) {
                    // Past the limit for everybody. Without CAP_NET_ADMIN, what differs is told.
                    let _ = set(raw_option::SockOpt { number: force, ..self.name }, &half);
                }
                done
            }
            CopyMethod::ZeroFor(default) if number() == default => set(self.name, &[0; 4]),
            CopyMethod::ZeroFor(_) => set(self.name, &value),
        }
    }
}

#[cfg(test)]
#[path = "sockopt_copy_tests.rs"]
mod tests;
