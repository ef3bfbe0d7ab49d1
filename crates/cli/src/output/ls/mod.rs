//! The output of `ls`.

pub(crate) mod changes;
pub(crate) mod json;
pub(crate) mod table;
