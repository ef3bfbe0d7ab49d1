//! Network namespaces and their addresses.

pub(crate) mod cookie;
mod enter;
pub mod local_addresses;

pub use cookie::own_cookie;
pub use enter::{NetnsError, run_in};
