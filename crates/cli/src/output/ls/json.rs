//! The sockets of `ls` as JSON. Version 1: fields may be added, none changes its meaning. Null means
//! unknown, never false, 0 or empty; `pids` is empty where `complete` is false.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;

use sameport_policy::model::unit::{Container, container, unit};
use sameport_policy::model::{Address, Group, Member, Process, Protocol, SocketState};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::operations::list::Listing;
use crate::output::json::write_line;
use crate::output::text::push_socket;

/// Writes the listing.
pub(crate) fn write(listing: &Listing, to: impl io::Write) -> io::Result<()> {
    write_line(to, &ListingView(listing))
}

struct ListingView<'a>(&'a Listing);

impl Serialize for ListingView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(listing) = self;
        let mut fields = serializer.serialize_struct("Listing", 5)?;
        fields.serialize_field("version", &1)?;
        fields.serialize_field("groups", &GroupsView(listing))?;
        // Whether the processes of every socket are known.
        fields.serialize_field("complete", &listing.complete)?;
        // Whether the kernel lists bound sockets that do not listen.
        fields.serialize_field("bound_complete", &listing.bound)?;
        // Whether a BPF iterator found the processes: nothing else reports positions.
        fields.serialize_field("iterated", &listing.iterated)?;
        fields.end()
    }
}

struct GroupsView<'a>(&'a Listing);

impl Serialize for GroupsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let services = &ServiceCache::default();
        let groups =
            self.0.groups.iter().map(|group| GroupView { group, listing: self.0, services });
        serializer.collect_seq(groups)
    }
}

struct GroupView<'a> {
    group: &'a Group,
    listing: &'a Listing,
    services: &'a ServiceCache<'a>,
}

impl Serialize for GroupView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Group", 5)?;
        address_fields(&mut fields, &self.group.address)?;
        fields.serialize_field("members", &MembersView(self))?;
        fields.end()
    }
}

struct MembersView<'view, 'a>(&'view GroupView<'a>);

impl Serialize for MembersView<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let GroupView { group, listing, services } = *self.0;
        let members = group.members.iter().map(|member| MemberView { member, listing, services });
        serializer.collect_seq(members)
    }
}

/// The fields of an address in the object that it belongs to.
pub(super) fn address_fields<F: serde::ser::SerializeStruct>(
    fields: &mut F,
    address: &Address,
) -> Result<(), F::Error> {
    fields.serialize_field("proto", address.protocol.name())?;
    fields.serialize_field("address", &SocketView(address.socket))?;
    fields.serialize_field("v6only", &address.v6only)?;
    fields.serialize_field("device", &address.device)
}

struct SocketView(SocketAddr);

impl Serialize for SocketView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(32);
        push_socket(&mut text, self.0);
        serializer.serialize_str(&text)
    }
}

/// A socket of the listing.
pub(super) struct MemberView<'a> {
    pub(super) member: &'a Member,
    pub(super) listing: &'a Listing,
    pub(super) services: &'a ServiceCache<'a>,
}

/// The unit and the container of the last cgroup: neighbouring sockets mostly have the same one.
#[derive(Default)]
pub(super) struct ServiceCache<'a>(Cell<Option<(&'a str, Service<'a>)>>);

type Service<'a> = (Option<&'a str>, Option<Container<'a>>);

impl<'a> ServiceCache<'a> {
    fn get(&self, cgroup: &'a str) -> Service<'a> {
        match self.0.get() {
            Some((last, service)) if last == cgroup => service,
            _ => {
                let service = (unit(cgroup), container(cgroup));
                self.0.set(Some((cgroup, service)));
                service
            }
        }
    }
}

impl Serialize for MemberView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { member, listing, services } = *self;
        let socket = &member.socket;
        let listens =
            (socket.address.protocol, socket.state) == (Protocol::Tcp, SocketState::Waiting);
        let cgroup = member.cgroup.as_deref();
        let (unit, container) = cgroup.map_or((None, None), |cgroup| services.get(cgroup));
        let mut fields = serializer.serialize_struct("Member", 22)?;
        fields.serialize_field("pids", &PidsView(&member.processes))?;
        fields.serialize_field("program", &member.processes.iter().find_map(program))?;
        fields.serialize_field("user", &member.user)?;
        fields.serialize_field("uid", &socket.uid)?;
        // Then the uid is no user's.
        fields.serialize_field("private", &socket.is_private())?;
        fields.serialize_field("inode", &socket.inode)?;
        fields.serialize_field("shared", &member.shared)?;
        // Connections of a listening TCP socket, else bytes.
        fields.serialize_field("queue", &socket.queue)?;
        fields.serialize_field("backlog", &listens.then_some(socket.backlog))?;
        // The cgroups with `sameport attach` that the socket is in.
        fields.serialize_field("attached", &listing.attached_to(member).map(PathsView))?;
        fields.serialize_field("state", socket.state.name())?;
        fields.serialize_field("cookie", &Some(socket.cookie).filter(|cookie| *cookie != 0))?;
        fields.serialize_field("drops", &socket.drops)?;
        let transparent = member.options.map(|it| it.transparent).or(socket.transparent);
        fields.serialize_field("transparent", &transparent)?;
        let freebind = member.options.map(|it| it.freebind).or(socket.freebind);
        fields.serialize_field("freebind", &freebind)?;
        fields.serialize_field("options", &member.options)?;
        fields.serialize_field("position", &member.position)?;
        fields.serialize_field("cgroup", &cgroup)?;
        fields.serialize_field("unit", &unit)?;
        fields.serialize_field("container", &container)?;
        fields.serialize_field("processes", &member.processes)?;
        fields.serialize_field("holder", &listing.holder(member))?;
        fields.end()
    }
}

struct PidsView<'a>(&'a [Process]);

impl Serialize for PidsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|process| process.pid))
    }
}

struct PathsView<'a>(&'a [std::path::PathBuf]);

impl Serialize for PathsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|path| path.to_string_lossy()))
    }
}

fn program(process: &Process) -> Option<&str> {
    Some(&*process.program).filter(|name| !name.is_empty())
}
