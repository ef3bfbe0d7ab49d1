//! Services: the runs that a `sameport.toml` or a `Procfile` describes.
//!
//! [`model`] is what `up` works with: a [`ServiceSpec`] for each service, and the command line of `sameport run`
//! that starts it. [`keys`] has a row for each key; [`read`] makes services of a parsed file ([`tree`]), with
//! `fields` for the values and [`environment`] for references between variables. [`env_file`] and [`procfile`] read
//! their own formats. Every reader returns all mistakes. [`changes`] says what
//! makes a run that is there the service that is written.

mod canary;
pub mod changes;
pub mod context;
pub mod env_file;
pub mod environment;
pub mod fault;
mod fields;
pub mod keys;
pub mod line;
pub mod model;
mod other_words;
mod ports;
pub mod procfile;
pub mod read;
mod steering;
pub mod tree;
pub mod trust;
pub mod value_kind;
pub mod watching;

#[cfg(test)]
mod tests;

pub use fault::ServiceFault;
pub use model::{
    CanarySpec, ServiceFile, ServiceOption, ServicePolicy, ServiceSpec, SteeringPolicy, WorkerCount,
};
