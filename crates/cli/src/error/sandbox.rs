//! Advice where a filter around sameport refuses a system call.

use sameport_policy::sandbox::{CallRefusal, RefusedCalls};
use sameport_sys::Errno;

use super::Failure;

/// `a system call filter refuses seccomp and pidfd_getfd (SIGSYS)`.
pub(crate) fn sandbox_reason(refused: &RefusedCalls) -> String {
    let how = refused.0.first().map(|(_, refusal)| match refusal {
        CallRefusal::Kills => "SIGSYS".to_owned(),
        CallRefusal::Fails(errno) => {
            let error = Errno::from_raw_os_error(*errno).to_string();
            error.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    });
    format!("a system call filter refuses {refused} ({})", how.unwrap_or_default())
}

/// How to permit the calls: systemd gives each of its services an INVOCATION_ID.
pub(crate) fn permit(refused: &RefusedCalls) -> String {
    match std::env::var_os("INVOCATION_ID") {
        Some(_) => format!("add to the unit: {}", refused.unit_lines().join(", and ")),
        None => format!("permit {refused} in the seccomp profile of the container or sandbox"),
    }
}

/// How to get a directory for the files of a run.
pub(super) fn own_directory() -> &'static str {
    match std::env::var_os("INVOCATION_ID") {
        Some(_) => {
            "add to the unit: RuntimeDirectory=NAME, or set XDG_RUNTIME_DIR to a directory of yours"
        }
        None => "set XDG_RUNTIME_DIR to a directory of yours",
    }
}

/// A run without calls that it needs.
pub(super) fn sandbox_failure(refused: &RefusedCalls) -> Failure {
    Failure::unsupported(sandbox_reason(refused)).hint(permit(refused))
}
