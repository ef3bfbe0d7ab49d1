//! What is known of sockets that were seen, and what follows from their being there together.

use super::{ExistingSocket, SocketUse};
use crate::model::{Member, Protocol, SocketState};

/// The sockets of one port as far as they are known, in the same order. Options that could not be read
/// are inferred where others prove them:
///
/// - two TCP sockets listen on one address only if both have `SO_REUSEPORT`;
/// - a connection that no process has (one that waits to be accepted, or is being ended) has the options
///   of the listener that it came by, if all that it can have come by agree.
#[must_use]
pub fn existing_sockets(members: &[Member]) -> Vec<ExistingSocket> {
    let mut others: Vec<ExistingSocket> = members.iter().map(plain).collect();
    for at in 0..others.len() {
        if others[at].reuse_port.is_none() && is_listener(&others[at]) {
            let twin = |(other, candidate): (usize, &ExistingSocket)| {
                other != at && is_listener(candidate) && candidate.address == others[at].address
            };
            others[at].reuse_port = others.iter().enumerate().any(twin).then_some(true);
        }
    }
    for at in 0..others.len() {
        let other = &others[at];
        if members[at].socket.inode != 0 || other.usage != SocketUse::Connected {
            continue;
        }
        let by = |listener: &&ExistingSocket| {
            is_listener(listener)
                && listener.uid == other.uid
                && (other.address == listener.address || other.address.is_within(&listener.address))
        };
        let mut listeners = others.iter().filter(by);
        let Some(first) = listeners.next() else { continue };
        let (port, address) = (first.reuse_port, first.reuse_address);
        if listeners.all(|one| (one.reuse_port, one.reuse_address) == (port, address)) {
            (others[at].reuse_port, others[at].reuse_address) = (port, address);
        }
    }
    others
}

fn plain(member: &Member) -> ExistingSocket {
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

fn is_listener(other: &ExistingSocket) -> bool {
    other.usage == SocketUse::Waiting && other.address.protocol == Protocol::Tcp
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
    fn what_others_prove() {
        let reuse = Some(SocketOptions { reuse_address: true, ..SocketOptions::default() });
        let of = |members: &[Member]| -> Vec<_> {
            existing_sockets(members).iter().map(|o| (o.reuse_address, o.reuse_port)).collect()
        };
        let listener = |inode, options| member("0.0.0.0:80", SocketState::Waiting, inode, options);
        let waits = member("127.0.0.1:80", SocketState::Connected, 0, None);
        let (nothing, open) = ((None, None), (Some(true), Some(false)));
        assert_eq!(of(&[listener(1, None)]), [nothing]);
        assert_eq!(of(&[listener(1, None), listener(2, None)]), [(None, Some(true)); 2]);
        assert_eq!(of(&[listener(1, reuse), waits.clone()]), [open, open]);
        // Somebody's own, another user's, and one that may have come by either.
        let own = member("127.0.0.1:80", SocketState::Connected, 7, None);
        assert_eq!(of(&[listener(1, reuse), own]), [open, nothing]);
        let mut foreign = waits.clone();
        foreign.socket.uid = 1001;
        assert_eq!(of(&[listener(1, reuse), foreign]), [open, nothing]);
        let narrow = member("127.0.0.1:80", SocketState::Waiting, 2, None);
        assert_eq!(of(&[listener(1, reuse), narrow, waits])[2], nothing);
    }
}
