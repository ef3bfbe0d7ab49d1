//! The kernel's own rules about shared ports, as a table: what Linux answers when two sockets want
//! one port, and who gets the traffic. Data, and the words it is written in; `sameport-sys` runs it.
//!
//! RA is SO_REUSEADDR, RP is SO_REUSEPORT; "newest" is the socket bound last.

mod dsl;
pub mod model;
mod report;
mod table;

pub use report::{Line, Verdict, name, telling};
pub use table::TABLE;
