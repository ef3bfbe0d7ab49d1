//! Network namespaces and their addresses.

pub(crate) mod cookie;
pub(crate) mod enter;
pub mod local_addresses;
