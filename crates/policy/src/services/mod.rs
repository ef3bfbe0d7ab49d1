//! Services: the runs that a `sameport.toml` or a `Procfile` describes.
//!
//! [`model`] is what `up` works with: a [`ServiceSpec`] for each service, and the command line of `sameport run`
//! that starts it.

pub mod model;

pub use model::{
    CanarySpec, ServiceFile, ServiceOption, ServicePolicy, ServiceSpec, SteeringPolicy, WorkerCount,
};
