//! The facts of one `bind` or `listen` of a worker, as far as a decision needs them.
//!
//! The facts that cost system calls beyond the socket itself are `None` at first. A decision that
//! needs one asks for it ([`MissingFact`]), and is made again with the answer.

use std::net::SocketAddr;

use crate::bind::map::MapRule;
use crate::bind::share::BindAttempt;
use crate::bind::verdict::PortSet;
use crate::membership::NotAMember;

/// The options of a run that change the sockets of its workers.
#[derive(Debug, Clone, Copy)]
pub struct RunRules<'a> {
    /// The ports to share (`--port`).
    pub ports: &'a PortSet,
    /// The rules that move binds (`--map`).
    pub rules: &'a [MapRule],
    /// Whether sockets become transparent (`--transparent`).
    pub transparent: bool,
    /// Whether sockets may bind addresses that do not exist yet (`--freebind`).
    pub freebind: bool,
    /// The user id that owns the sockets of a private group (`--private`).
    pub owner: Option<u32>,
    /// Whether the run holds listening sockets (`--name`).
    pub holds: bool,
}

#[cfg(test)]
impl RunRules<'static> {
    /// A run without options.
    pub(super) const PLAIN: Self = Self {
        ports: &PortSet::All,
        rules: &[],
        transparent: false,
        freebind: false,
        owner: None,
        holds: false,
    };
}

impl RunRules<'_> {
    /// Whether a bind of this address continues untouched whatever its socket is.
    #[must_use]
    pub fn leave_alone(&self, asked: SocketAddr) -> bool {
        let is_shared = asked.port() != 0 && self.ports.contains(None, asked.port());
        // The pool records the sockets whose port the kernel picks, so that it does not hold them.
        let is_held = self.holds && asked.port() == 0;
        let is_changed =
            self.transparent || self.freebind || self.owner.is_some() || !self.rules.is_empty();
        !is_shared && !is_held && !is_changed
    }
}

/// One call of a worker.
#[derive(Debug, Clone)]
pub struct BindFacts<'a> {
    /// The run's rules.
    pub run: RunRules<'a>,
    /// The socket and its address: the address asked for by `bind`, the bound one at `listen`.
    pub attempt: BindAttempt,
    /// Whether the socket is an IPv6 socket that refuses IPv4 (`IPV6_V6ONLY`).
    pub v6only: bool,
    /// Whether the socket is bound to a device (`SO_BINDTODEVICE`).
    pub on_device: bool,
    /// The worker's own rights.
    pub rights: Option<BindRights>,
    /// The other sockets on the address.
    pub members: Option<PortMembers>,
    /// Whether an earlier socket of the same execution keeps this one out
    /// ([`crate::bind::distinct`]).
    pub kept_out: Option<bool>,
}

/// The rights of a worker. A supervisor with more privileges must not lend them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindRights {
    /// Whether the worker may bind the port that the decision asked about.
    pub may_bind: bool,
    /// Whether the worker may set `IP_TRANSPARENT`.
    pub may_be_transparent: bool,
}

/// The other sockets on an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMembers {
    /// A socket there that belongs to no run of this group.
    pub stranger: Option<Box<NotAMember>>,
    /// Whether a listener of the same private group covers the address.
    pub group_listens: bool,
    /// The sockets on overlapping addresses that the run's own must not be kept from, or that must not
    /// be kept from them.
    pub outsiders: Outsiders,
}

/// The sockets on overlapping addresses that are not known to be of this group. Only a datagram socket
/// with `SO_REUSEADDR` needs the fact: the kernel lets sockets that all have the option share, whatever
/// their users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outsiders {
    /// None.
    #[default]
    None,
    /// Of the same user, and the run may join every socket (`--join`).
    Joined,
    /// Of another user, or of another group.
    Apart,
}

/// A fact to look up before the decision can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFact {
    /// [`BindFacts::rights`], for this port.
    Rights(u16),
    /// [`BindFacts::members`], on this address.
    Members(SocketAddr),
    /// [`BindFacts::kept_out`], on this address.
    KeptOut(SocketAddr),
}
