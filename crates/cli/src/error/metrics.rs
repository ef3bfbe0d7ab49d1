//! Why `metrics` serves nothing.

use super::{Failure, unshared_failure};
use crate::operations::metrics::endpoint::EndpointError;
use crate::output::shell::word;

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Tcp(refused) => unshared_failure(&refused.0, &refused.1),
            EndpointError::InUse(path) => {
                let path = path.display().to_string();
                Self::failed(format!("another process listens on {path}"))
                    .hint(format!("`ss -xlp src {}` shows it; or name another path", word(&path)))
            }
            EndpointError::NotSocket(path) => {
                Self::failed(format!("{} is no socket, and stays", path.display()))
                    .hint("name another path")
            }
            EndpointError::Unix(path, error) => {
                Self::failed(format!("bind {}: {error}", path.display()))
            }
        }
    }
}
