//! Advice for what `steer` refuses.

use super::{Failure, unresolved};
use crate::operations::traffic::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Name { name, source } => unresolved(&name, &source),
            Error::Look(error) => error.into(),
            Error::NoSocket(spec) => Self::failed(format!("no socket takes connections on {spec}"))
                .hint("`sameport ls` lists the sockets that do"),
        }
    }
}
