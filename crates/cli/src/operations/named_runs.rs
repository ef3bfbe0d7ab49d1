//! The named runs of this user, or of another one.

use std::env;

use sameport_policy::holder::{Unit, unit_of};
use sameport_supervisor::control::RunInfo;
use sameport_supervisor::control::client::Client;
use sameport_sys::systemd;
use sameport_sys::users::{effective_uid, user_id};

use super::runtime_dir::runtime_dir;

/// Why the runs of a user cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerError {
    /// There is no such user.
    NoUser(String),
    /// The runs of this user accept requests from it and from root only.
    NotPermitted(String),
}

/// The runs of this user, or of the user with this name or number.
///
/// # Errors
///
/// See [`OwnerError`].
pub(crate) fn runs_of(user: Option<&str>) -> Result<Client, OwnerError> {
    let Some(text) = user else {
        return Ok(Client::new(runtime_dir()));
    };
    let uid = user_id(text).or_else(|| text.parse().ok());
    let uid = uid.ok_or_else(|| OwnerError::NoUser(text.to_owned()))?;
    let own = effective_uid();
    if own != 0 && uid != own {
        return Err(OwnerError::NotPermitted(text.to_owned()));
    }
    Ok(Client::of_user(uid))
}

/// Whether this process sees the runs of every user.
pub(crate) fn sees_all() -> bool {
    effective_uid() == 0
}

/// The names of the runs of this user, also of those whose supervisor does not answer.
pub(crate) fn names() -> Vec<String> {
    Client::new(runtime_dir()).names().iter().map(ToString::to_string).collect()
}

/// The cgroup of the service that this process is. A manager passes NOTIFY_SOCKET (`sd_notify(3)`) or its own
/// pid for the process (SYSTEMD_EXEC_PID, systemd 248, `systemd.exec(5)`); other programs in the cgroup, such
/// as a shell below cron, are not started again by the manager.
pub(crate) fn own_service() -> Option<String> {
    let pid = std::process::id().to_string();
    let is_main = env::var_os("NOTIFY_SOCKET").is_some()
        || env::var_os("SYSTEMD_EXEC_PID").is_some_and(|it| *it == *pid);
    let cgroup = is_main.then(systemd::own_cgroup).flatten()?;
    unit_of(&cgroup).map(|_| cgroup)
}

/// The service that starts this run, if its manager knows it and answers this user.
pub(crate) fn service_of(info: &RunInfo) -> Option<Unit> {
    let unit = unit_of(info.service.as_deref()?)?;
    let known = systemd::show_units(unit.manager, std::slice::from_ref(&unit.name), false);
    known.into_iter().map(|facts| facts.unit).find(|it| *it == unit)
}
