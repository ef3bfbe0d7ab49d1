//! A named run, from outside: asking its supervisor, and being asked.
//!
//! `messages` says what; `frame` makes bytes of it. The supervisor has a `door`, at which `serving`
//! attends to each client and hands on what it asks for; the verbs go by `asking`. What a supervisor
//! that was killed leaves for them is its `record`.

pub(crate) mod asking;
pub(crate) mod command;
mod door;
mod frame;
pub(crate) mod messages;
mod record;
mod serving;
#[cfg(test)]
mod stage;
mod words;

pub(crate) use door::{Door, Passed};
pub(crate) use record::About;
#[cfg(test)]
pub(crate) use record::Record;
pub(crate) use serving::{Call, Replies};
