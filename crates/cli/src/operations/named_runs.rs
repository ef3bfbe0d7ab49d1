//! The named runs of this user, or of another one.

use sameport_supervisor::control::client::Client;
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
