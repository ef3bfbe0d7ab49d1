//! The output of `listen`.

use std::net::SocketAddr;

use sameport_policy::model::Address;

use super::json::{line, object};
use crate::operations::listen::Arrival;

/// `listening on 127.0.0.1:8080 (shared)`.
pub(crate) fn listening(address: &Address, exclusive: bool, as_json: bool) -> String {
    let mode = if exclusive { "exclusive" } else { "shared" };
    if as_json {
        let (socket, proto) = (address.socket, address.protocol);
        line(&object! { address: socket, event: "listening", mode: mode, proto: proto })
    } else {
        format!("listening on {address} ({mode})\n")
    }
}

/// `new connection 127.0.0.1:51234`, `new datagram 127.0.0.1:51234, 5 bytes`.
pub(crate) fn arrived(arrival: &Arrival, as_json: bool) -> String {
    match arrival {
        Arrival::Connection { from } if as_json => {
            line(&object! { event: "connection", from: peer(from) })
        }
        Arrival::Datagram { from, bytes } if as_json => {
            line(&object! { bytes: bytes, event: "datagram", from: peer(from) })
        }
        Arrival::Connection { from } => format!("new connection {}\n", peer(from)),
        Arrival::Datagram { from, bytes: 1 } => format!("new datagram {}, 1 byte\n", peer(from)),
        Arrival::Datagram { from, bytes } => {
            format!("new datagram {}, {bytes} bytes\n", peer(from))
        }
    }
}

/// A dual-stack socket reports IPv4 peers as `::ffff:127.0.0.1`.
fn peer(address: &SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
