//! Files of services that cannot be read: each mistake with its place.

use std::path::Path;

use sameport_policy::services::ServiceFault;

use super::Failure;
use crate::operations::services::{FILE_NAMES, ServicesError, advice};

impl From<ServicesError> for Failure {
    fn from(error: ServicesError) -> Self {
        match error {
            ServicesError::NoFile => {
                Self::usage(format!("this directory has no {}", FILE_NAMES.join(" and no "))).hint(
                    "write one: a service is [web] and command = [\"PROGRAM\"]; or name a file: -f FILE",
                )
            }
            ServicesError::NoDirectory(error) => {
                Self::usage(format!("the current directory is not known: {error}"))
                    .hint("name the file by an absolute path: -f /PATH/sameport.toml")
            }
            ServicesError::Unreadable(path, error) => {
                let (message, hint) = advice(&path, &error);
                let failure = Self::usage(format!("{}: {message}", path.display()));
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure.hint("-f FILE names the file of services"),
                }
            }
            ServicesError::Faults(path, faults) => of_faults(&path, &faults),
        }
    }
}

/// One failure, with the others behind it.
fn of_faults(path: &Path, faults: &[ServiceFault]) -> Failure {
    let mut failures = faults.iter().map(|fault| of_fault(path, fault));
    let first = failures.next();
    let mut failure = first.unwrap_or_else(|| Failure::usage(path.display()));
    failure.also = failures.collect();
    failure
}

fn of_fault(path: &Path, fault: &ServiceFault) -> Failure {
    // An env file is named as in the file of services, relative to it.
    let shown = match &fault.file {
        None => path.to_owned(),
        Some(file) => path.parent().unwrap_or(Path::new("")).join(file),
    };
    let failure = Failure::usage(format!("{}:{}: {}", shown.display(), fault.at, fault.message));
    match &fault.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
