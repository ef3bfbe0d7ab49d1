//! The texts of `run --user` and `--env`, and the directory that decides a run's group.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The value of `--user`: `USER` or `USER:GROUP`, each a name or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The user.
    pub user: String,
    /// The group, if it is not the user's own.
    pub group: Option<String>,
}

impl FromStr for UserSpec {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name =
            |name: &str| !name.is_empty() && !name.contains([':', '\0', '/', '\n', ' ', ',']);
        match is_name(user) && group.is_none_or(is_name) {
            true => Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) }),
            false => Err("write USER or USER:GROUP, such as www-data or 1000:1000"),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// An id in digits. The largest number is no id: the kernel reads it as "no change".
#[must_use]
pub fn numeric_id(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_number && *id != u32::MAX)
}

/// The place of `=` in `NAME=VALUE`.
///
/// # Errors
///
/// A message with the expected form, or why the variable cannot be set.
pub fn variable(text: &[u8]) -> Result<usize, &'static str> {
    let at = text.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let Some(at) = at.filter(|_| !text.contains(&0)) else {
        return Err("write NAME=VALUE, or NAME if it is set here; NAME= sets an empty value");
    };
    let name = &text[..at];
    let is_reserved = |prefix: &&[u8]| name.starts_with(prefix);
    match name == b"NOTIFY_SOCKET" || [&b"SAMEPORT_"[..], b"LISTEN_"].iter().any(is_reserved) {
        true => Err("sameport sets this variable itself"),
        false => Ok(at),
    }
}

/// The directory that workers start in, and that identifies the run: `requested` (`--directory`),
/// relative to the supervisor's own. `None`: the supervisor's is not known, and it matters.
#[must_use]
pub fn working_directory(own: Option<&Path>, requested: Option<&Path>) -> Option<PathBuf> {
    match (own, requested) {
        (own, None) => own.map(Path::to_owned),
        (_, Some(requested)) if requested.is_absolute() => Some(plain(requested)),
        (own, Some(requested)) => own.map(|own| plain(&own.join(requested))),
    }
}

/// Without `.` and repeated slashes. `..` stays: after a symbolic link it is another directory.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read() {
        for (text, expected) in [
            ("www-data", Some(("www-data", None))),
            ("1000:1000", Some(("1000", Some("1000")))),
            ("app:web", Some(("app", Some("web")))),
            ("", None),
            (":", None),
            ("app:", None),
            (":web", None),
            ("a:b:c", None),
            ("a b", None),
        ] {
            let read = text.parse::<UserSpec>();
            let read_back = read.as_ref().map(ToString::to_string);
            assert_eq!(read_back.is_ok().then_some(text), expected.map(|_| text), "{text}");
            let parts = read.ok().map(|spec| (spec.user, spec.group));
            let expected =
                expected.map(|(user, group)| (user.to_owned(), group.map(str::to_owned)));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn ids_are_digits_below_the_largest_number() {
        for (text, expected) in [
            ("0", Some(0)),
            ("65534", Some(65_534)),
            ("4294967294", Some(4_294_967_294)),
            ("4294967295", None),
            ("4294967296", None),
            ("+1", None),
            ("-1", None),
            ("", None),
            ("root", None),
        ] {
            assert_eq!(numeric_id(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_have_a_name_that_sameport_does_not_set() {
        for (text, expected) in [
            ("A=1", Some(1)),
            ("PORT=", Some(4)),
            ("A==b=", Some(1)),
            ("=x", None),
            ("A", None),
            ("", None),
            ("A=\0", None),
            ("SAMEPORT_NAME=x", None),
            ("LISTEN_FDS=1", None),
            ("LISTENER=1", Some(8)),
            ("NOTIFY_SOCKET=/run/x", None),
            ("NOTIFY_SOCKET_2=x", Some(15)),
        ] {
            assert_eq!(variable(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn directories_are_joined_and_links_stay() {
        let path = |text: &'static str| Some(Path::new(text));
        for (own, requested, expected) in [
            (path("/srv"), None, path("/srv")),
            (None, None, None),
            (path("/srv"), path("/app/current/"), path("/app/current")),
            (None, path("/app//./current"), path("/app/current")),
            (path("/srv"), path("./current"), path("/srv/current")),
            (path("/srv/a"), path("../b"), path("/srv/a/../b")),
            (None, path("current"), None),
        ] {
            let found = working_directory(own, requested);
            assert_eq!(found.as_deref(), expected, "{own:?} {requested:?}");
        }
    }
}
