//! The kernel's own rules about shared ports, as a table: what Linux answers when two sockets want
//! one port, and who gets the traffic. Data, and the words it is written in; `sameport-linux` runs it.
//!
//! RA is SO_REUSEADDR, RP is SO_REUSEPORT; "newest" is the socket bound last.

mod lines;
mod sentences;
mod table;
pub mod words;

pub use lines::{Line, Verdict, name, telling};
pub use table::TABLE;
