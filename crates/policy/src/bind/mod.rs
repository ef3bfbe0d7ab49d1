//! One bind of a worker: what becomes of its address, its options and its socket.

pub mod keys;
pub mod map;
pub mod private;
pub mod share;
pub mod sockaddr;
pub mod source;
pub mod verdict;

// `map`, `share` and `source` name it by `super`, as they must in the preload library.
pub(crate) use sameport_addr::protocol;
