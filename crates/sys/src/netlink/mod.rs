//! Lists of sockets from the kernel by `NETLINK_SOCK_DIAG`.

mod address_probe;
mod connections;
mod error;
mod inet_diag;
mod proc_net;
mod sock_diag;
pub(crate) mod sockets;
mod tcp_connections;
mod time_wait;

pub use address_probe::AddressProbe;
pub use connections::{count_connections, count_handshakes, is_accepted};
pub use error::InspectError;
pub(crate) use inet_diag::TcpTraffic;
pub use sock_diag::sock_diag_available;
pub use sockets::StateFilter;
pub use tcp_connections::{
    ConnectionReader, EstablishedConnection, TcpConnection, list_connections, list_established,
    reads_tables,
};
pub use time_wait::{TimeWait, time_wait_sockets};
