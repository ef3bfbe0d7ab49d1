//! What `sameport_policy::traffic` decides from: the members of a port as facts.

use std::collections::BTreeSet;

use sameport_policy::traffic::facts::{SocketId, TrafficFacts, TrafficMember};

use super::port::{MemberSocket, PortMembers};

/// The socket as the kernel names it.
pub(crate) fn socket_id(socket: &MemberSocket) -> SocketId {
    let socket = &socket.member.socket;
    SocketId { inode: socket.inode, cookie: Some(socket.cookie).filter(|cookie| *cookie != 0) }
}

/// The facts about the members of a port. `left_out`: the inodes of sockets that get no new connections.
pub(crate) fn facts(port: &PortMembers, left_out: &BTreeSet<u64>) -> TrafficFacts {
    let member = |socket: &MemberSocket| {
        let id = socket_id(socket);
        TrafficMember {
            pid: socket.pid(),
            others: socket.pids.iter().skip(1).copied().collect(),
            run: socket.run.clone(),
            group: socket.group.clone(),
            worker: socket.worker,
            admitted: !left_out.contains(&id.inode),
            ..TrafficMember::new(id, socket.address().clone())
        }
    };
    TrafficFacts::new(port.protocol, port.sockets.iter().map(member).collect())
}
