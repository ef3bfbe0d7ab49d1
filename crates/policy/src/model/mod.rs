//! Values that describe sockets, processes, groups, units and names.

mod group;
pub mod name;
pub mod netns;
pub mod private_uid;
mod process;
mod socket;
pub mod unit;

pub use group::{Group, GroupPosition, Member, group_by_address};
pub use private_uid::{is_of_other_group, is_private_uid};
pub use process::{Process, ProcessDetails};
pub use sameport_addr::{Address, Protocol};
pub use socket::{Socket, SocketOptions, SocketState};
