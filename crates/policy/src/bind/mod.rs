//! One bind of a worker: what becomes of its address, its options and its socket.

pub mod distinct;
pub mod each;
pub mod facts;
pub mod keys;
pub mod listen;
pub mod map;
pub mod plan;
pub mod private;
pub mod reuse;
pub mod share;
pub mod sockaddr;
pub mod source;
pub mod verdict;

/// In the preload library, `protocol` is a file in the folder of `map` and `share`, so these files
/// refer to it by `super`.
mod protocol {
    pub(crate) use sameport_addr::Protocol;
}
