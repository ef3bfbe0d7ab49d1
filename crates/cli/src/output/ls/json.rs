//! A listing of groups, as programs read it. Version 1: fields may be added, none changes its meaning.
//! What could not be had is null, and never false, 0 or empty, but for `pids`, where `complete` tells.

use std::io::{self, Write as _};
use std::path::PathBuf;

use sameport_policy::model::unit::{container, unit};
use sameport_policy::model::{
    Group, GroupPosition, Member, Process, Protocol, SocketOptions, SocketState,
};
use serde::{Serialize, Serializer};

use crate::operations::list::Listing;
use crate::output::json as json_line;

/// Writes one line of JSON, bit by bit: it may be long.
///
/// # Errors
///
/// Those of `to`.
pub(crate) fn write(listing: &Listing, to: impl io::Write) -> io::Result<()> {
    let told = Told {
        version: 1,
        groups: Groups(listing),
        complete: listing.complete,
        bound_complete: listing.bound,
        iterated: listing.iterated,
    };
    let mut to = io::BufWriter::new(to);
    json_line::to(&mut to, &told)?;
    to.flush()
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    groups: Groups<'a>,
    /// Whether everybody is named: no process was hidden from the caller.
    complete: bool,
    /// Whether sockets that are bound and do not listen are all there.
    bound_complete: bool,
    /// Whether a BPF iterator has found the processes: positions are told by nothing else.
    iterated: bool,
}

/// One at a time: there may be many.
struct Groups<'a>(&'a Listing);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(listing) = self;
        serializer.collect_seq(listing.groups.iter().map(|group| ToldGroup::new(group, listing)))
    }
}

#[derive(Serialize)]
struct ToldGroup<'a> {
    #[serde(flatten)]
    at: ToldAddress<'a>,
    members: Vec<ToldMember<'a>>,
}

impl<'a> ToldGroup<'a> {
    fn new(group: &'a Group, listing: &'a Listing) -> Self {
        Self {
            at: ToldAddress::new(&group.address),
            members: group.members.iter().map(|member| ToldMember::new(member, listing)).collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ToldAddress<'a> {
    proto: &'static str,
    address: String,
    v6only: bool,
    device: Option<&'a str>,
}

impl<'a> ToldAddress<'a> {
    pub(super) fn new(address: &'a sameport_policy::model::Address) -> Self {
        Self {
            proto: address.protocol.name(),
            address: address.socket.to_string(),
            v6only: address.v6only,
            device: address.device.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ToldMember<'a> {
    /// Empty when no process could be seen.
    pids: Vec<i32>,
    /// The first process's name.
    program: Option<&'a str>,
    user: Option<&'a str>,
    uid: u32,
    /// Whether it is a private group's: `uid` is then no user's.
    private: bool,
    inode: u64,
    /// Null when it could be neither read nor inferred.
    shared: Option<bool>,
    /// TCP that listens: connections; others: bytes.
    queue: u32,
    /// Of TCP that listens; no other queue has such a limit.
    backlog: Option<u32>,
    /// The cgroups with `sameport attach` that it is in; null when that could not be told.
    attached: Option<Vec<String>>,
    state: &'static str,
    cookie: Option<u64>,
    drops: Option<u32>,
    transparent: Option<bool>,
    freebind: Option<bool>,
    /// Null where the socket may not be asked.
    options: Option<ToldOptions>,
    /// Null for all but root.
    position: Option<ToldPosition>,
    cgroup: Option<&'a str>,
    /// Null too where the cgroup belongs to none.
    unit: Option<&'a str>,
    container: Option<ToldContainer<'a>>,
    processes: Vec<ToldProcess<'a>>,
}

impl<'a> ToldMember<'a> {
    pub(super) fn new(member: &'a Member, listing: &Listing) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let socket = &member.socket;
        let listens =
            (socket.address.protocol, socket.state) == (Protocol::Tcp, SocketState::Waiting);
        let cgroup = member.cgroup.as_deref();
        Self {
            pids: member.processes.iter().map(|process| process.pid).collect(),
            program: member.processes.iter().find_map(name),
            user: member.user.as_deref(),
            uid: socket.uid,
            private: socket.is_private(),
            inode: socket.inode,
            shared: member.shared,
            queue: socket.queue,
            backlog: listens.then_some(socket.backlog),
            attached: listing.attached_to(member).map(|paths| paths.iter().map(text).collect()),
            state: socket.state.name(),
            cookie: Some(socket.cookie).filter(|cookie| *cookie != 0),
            drops: socket.drops,
            transparent: member.options.map(|options| options.transparent).or(socket.transparent),
            freebind: member.options.map(|options| options.freebind).or(socket.freebind),
            options: member.options.map(ToldOptions::new),
            position: member.position.map(ToldPosition::new),
            cgroup,
            unit: cgroup.and_then(unit),
            container: cgroup
                .and_then(container)
                .map(|found| ToldContainer { engine: found.engine.name(), id: found.id }),
            processes: member.processes.iter().map(ToldProcess::new).collect(),
        }
    }
}

fn name(process: &Process) -> Option<&str> {
    Some(&*process.program).filter(|name| !name.is_empty())
}

#[derive(Serialize)]
struct ToldOptions {
    reuse_port: bool,
    reuse_address: bool,
    transparent: bool,
    freebind: bool,
    filter: bool,
}

impl ToldOptions {
    fn new(options: SocketOptions) -> Self {
        let SocketOptions { reuse_port, reuse_address, transparent, freebind, filter } = options;
        Self { reuse_port, reuse_address, transparent, freebind, filter }
    }
}

#[derive(Serialize)]
struct ToldPosition {
    /// From 0.
    index: u32,
    of: u32,
    steered: bool,
}

impl ToldPosition {
    fn new(position: GroupPosition) -> Self {
        let GroupPosition { index, of, steered } = position;
        Self { index, of, steered }
    }
}

#[derive(Serialize)]
struct ToldContainer<'a> {
    engine: &'static str,
    id: &'a str,
}

#[derive(Serialize)]
struct ToldProcess<'a> {
    pid: i32,
    program: Option<&'a str>,
    uid: Option<u32>,
    parent: Option<i32>,
    /// Null where it is not known, or the process has none.
    command: Option<&'a [String]>,
    executable: Option<String>,
    cgroup: Option<&'a str>,
    /// Seconds since 1970.
    started: Option<u64>,
}

impl<'a> ToldProcess<'a> {
    fn new(process: &'a Process) -> Self {
        let details = process.details.as_ref();
        let executable = details.and_then(|known| known.executable.as_ref());
        let command = details.map(|known| &*known.command);
        Self {
            pid: process.pid,
            program: name(process),
            uid: details.and_then(|known| known.uid),
            parent: details.and_then(|known| known.parent),
            command: command.filter(|command| !command.is_empty()),
            executable: executable.map(|path| path.to_string_lossy().into_owned()),
            cgroup: details.and_then(|known| known.cgroup.as_deref()),
            started: details.and_then(|known| known.started).map(|since| since.as_secs()),
        }
    }
}
