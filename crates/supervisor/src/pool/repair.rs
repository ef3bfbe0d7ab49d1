//! Repairs held sockets that a worker has disabled for all their users.
//!
//! A worker shares the open socket with the pool, so what it does to its own descriptor happens to the
//! held socket: `connect` with AF_UNSPEC ends listening (`tcp_disconnect` in `net/ipv4/tcp.c`), and without
//! SO_REUSEPORT the kernel gives the group's connections to one member. A filter cannot stop these calls: it
//! sees no address in memory, and `setsockopt` is called too often.

use sameport_policy::model::{Address, Protocol};

use super::slots::Slots;
use super::{PoolState, SocketPool};

impl SocketPool {
    /// Makes held sockets listen again that do not, and shareable that are not. The connections that
    /// waited in a queue are lost. Gives the addresses of sockets that listen again.
    pub(crate) fn repair(&self) -> Vec<Address> {
        let mut state = self.state();
        let PoolState { slots, steering, .. } = &mut *state;
        for (_, socket) in slots.sockets.iter().filter(|(inode, _)| !slots.outlives_run(**inode)) {
            if socket.reuse_port() == Ok(false) {
                // On failure the next round tries again.
                let _ = socket.share(false);
            }
        }
        let listens = |(address, _): &(&Address, _)| address.protocol == Protocol::Tcp;
        let members = steering.groups.iter().filter(listens).flat_map(|(address, group)| {
            group.members().iter().map(move |inode| (*inode, address.clone()))
        });
        let shared = slots.shared.iter().map(|(inode, it)| (*inode, it.address.clone()));
        let deaf = members.chain(shared).filter(|(inode, _)| slots.is_deaf(*inode));
        let deaf: Vec<(u64, Address)> = deaf.collect();
        deaf.into_iter().filter_map(|(inode, address)| state.listen_again(inode, address)).collect()
    }
}

impl Slots {
    fn is_deaf(&self, inode: u64) -> bool {
        self.sockets.get(&inode).is_some_and(|socket| socket.is_listening() == Ok(false))
    }
}

impl PoolState {
    fn listen_again(&mut self, inode: u64, address: Address) -> Option<Address> {
        let Self { slots, steering, closing, .. } = self;
        let is_shared = slots.is_shared(inode);
        // The socket has left its group: the last member has its index, and it joins as the last one.
        if let Some(group) = steering.groups.get_mut(&address) {
            group.leave(&inode);
        }
        let is_live = slots.members(&address).get(&inode) == Some(&true);
        if !is_shared && !is_live {
            steering.exclude_newcomers(slots, &address);
        }
        let socket = slots.sockets.get(&inode)?;
        socket.raise_backlog().ok()?;
        if !is_shared {
            steering.groups.entry(address.clone()).or_default().join(inode);
        }
        if !*closing {
            steering.steer(slots, &address);
        }
        self.update_store(&address);
        Some(address)
    }
}
