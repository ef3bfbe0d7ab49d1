//! The names of datagram sockets in connection ids of QUIC.

use sameport_policy::model::Protocol;
use sameport_policy::traffic::SocketId;

use super::layout;
use super::state::TrafficState;

impl TrafficState {
    /// Lets a connection id of QUIC name a socket: by the low half of its cookie.
    pub(super) fn name(&self, cookie: u64, number: u32, generation: u32) -> std::io::Result<()> {
        let name = SocketId { inode: 0, cookie: Some(cookie) }.name();
        let Some(name) = name.filter(|_| self.key.protocol == Protocol::Udp) else { return Ok(()) };
        let mut value = [0; 8];
        layout::put(&mut value, 0, number);
        layout::put(&mut value, 4, generation);
        self.names.update(&name.to_ne_bytes(), &value)
    }
}
