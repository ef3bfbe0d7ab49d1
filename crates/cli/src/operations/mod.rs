//! Looking, deciding and acting: one file an operation. Nothing here prints or exits.

pub(crate) mod examine;
pub(crate) mod list;
#[cfg(target_os = "linux")]
pub(crate) mod run;
