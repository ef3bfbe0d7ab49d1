//! The existing sockets, with options inferred from each other.

use super::model::{ExistingSocket, SocketUse};
use crate::model::{Member, Protocol, SocketState};

/// The sockets of one port, in the same order. Options that could not be read are inferred:
///
/// - two TCP sockets listen on one address only if both have `SO_REUSEPORT`;
/// - a connection without a process (not yet accepted, or closing) has the options of its listener,
///   if all listeners that could have accepted it agree.
#[must_use]
pub fn existing_sockets(members: &[Member]) -> Vec<ExistingSocket> {
    let mut sockets: Vec<ExistingSocket> = members.iter().map(from_member).collect();
    for index in 0..sockets.len() {
        let socket = &sockets[index];
        if socket.reuse_port.is_none() && is_listener(socket) {
            let has_same_address =
                |other: &&ExistingSocket| is_listener(other) && other.address == socket.address;
            let shared = sockets.iter().filter(has_same_address).count() > 1;
            sockets[index].reuse_port = shared.then_some(true);
        }
    }
    for index in 0..sockets.len() {
        let socket = &sockets[index];
        if members[index].socket.inode != 0 || socket.usage != SocketUse::Connected {
            continue;
        }
        let could_accept = |listener: &&ExistingSocket| {
            let address = &listener.address;
            is_listener(listener)
                && listener.uid == socket.uid
                && (socket.address == *address || socket.address.is_within(address))
        };
        let options = |it: &ExistingSocket| (it.reuse_port, it.reuse_address);
        let mut listeners = sockets.iter().filter(could_accept).map(options);
        let Some(first) = listeners.next() else { continue };
        if listeners.all(|other| other == first) {
            (sockets[index].reuse_port, sockets[index].reuse_address) = first;
        }
    }
    sockets
}

pub(super) fn from_member(member: &Member) -> ExistingSocket {
    ExistingSocket {
        address: member.socket.address.clone(),
        usage: match member.socket.state {
            SocketState::Waiting => SocketUse::Waiting,
            SocketState::Bound => SocketUse::Bound,
            SocketState::Connected => SocketUse::Connected,
        },
        uid: member.socket.uid,
        reuse_port: member.options.map(|options| options.reuse_port).or(member.shared),
        reuse_address: member.options.map(|options| options.reuse_address),
    }
}

fn is_listener(socket: &ExistingSocket) -> bool {
    socket.usage == SocketUse::Waiting && socket.address.protocol == Protocol::Tcp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Socket, SocketOptions};

    fn member(
        address: &str,
        state: SocketState,
        inode: u64,
        options: Option<SocketOptions>,
    ) -> Member {
        let address = Address::new(Protocol::Tcp, address.parse().unwrap());
        let socket = Socket { state, ..Socket::new(address, inode, 1000) };
        Member { options, ..Member::new(socket) }
    }

    #[test]
    fn unknown_options_are_inferred() {
        let reuse = Some(SocketOptions { reuse_address: true, ..SocketOptions::default() });
        let options_of = |members: &[Member]| -> Vec<_> {
            existing_sockets(members).iter().map(|it| (it.reuse_address, it.reuse_port)).collect()
        };
        let listener = |inode, options| member("0.0.0.0:80", SocketState::Waiting, inode, options);
        let pending = member("127.0.0.1:80", SocketState::Connected, 0, None);
        let (unknown, reuse_address) = ((None, None), (Some(true), Some(false)));
        assert_eq!(options_of(&[listener(1, None)]), [unknown]);
        assert_eq!(options_of(&[listener(1, None), listener(2, None)]), [(None, Some(true)); 2]);
        assert_eq!(
            options_of(&[listener(1, reuse), pending.clone()]),
            [reuse_address, reuse_address]
        );
        // A connection with a process, one of another user, and one with two possible listeners.
        let own = member("127.0.0.1:80", SocketState::Connected, 7, None);
        assert_eq!(options_of(&[listener(1, reuse), own]), [reuse_address, unknown]);
        let mut foreign = pending.clone();
        foreign.socket.uid = 1001;
        assert_eq!(options_of(&[listener(1, reuse), foreign]), [reuse_address, unknown]);
        let narrow = member("127.0.0.1:80", SocketState::Waiting, 2, None);
        assert_eq!(options_of(&[listener(1, reuse), narrow, pending])[2], unknown);
    }
}
