//! The table: what the kernel answers when two sockets want one port. Data only.
//! RA is SO_REUSEADDR, RP is SO_REUSEPORT; "newest" is the socket bound last.

mod addresses;
mod changes;
mod groups;
mod lifetimes;
mod owners;
mod sharing;

use crate::words::Row;

/// Every row, in the order in which they are run and listed.
pub(crate) const TABLE: &[&[Row]] =
    &[sharing::ROWS, addresses::ROWS, changes::ROWS, owners::ROWS, lifetimes::ROWS, groups::ROWS];
