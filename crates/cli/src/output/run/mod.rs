//! The output of `run` and of the verbs that change a named run.

pub(crate) mod background;
pub(crate) mod changes;
pub(crate) mod events;
pub(crate) mod reporter;
pub(crate) mod worker_change;
