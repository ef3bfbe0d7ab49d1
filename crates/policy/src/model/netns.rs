//! The name of a network namespace as an argument.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A network namespace, by name, file or process.
///
/// | argument | namespace |
/// |---|---|
/// | `blue` | created by `ip netns add blue` |
/// | `/run/docker/netns/1a2b`, `./here` | mounted on this file |
/// | `pid:4121` | of this process |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsSpec {
    /// The name given to `ip netns add`.
    Name(String),
    /// A file; the path contains a `/`.
    Path(PathBuf),
    /// A process in the namespace.
    Pid(i32),
}

impl NetnsSpec {
    /// The file of the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => PathBuf::from("/run/netns").join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => format!("/proc/{pid}/ns/net").into(),
        }
    }
}

impl fmt::Display for NetnsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => path.display().fmt(f),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
        }
    }
}

/// The text is not a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetnsSpecError;

impl fmt::Display for NetnsSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a name of `ip netns`, a path with a `/`, or `pid:` and a process id")
    }
}

impl std::error::Error for NetnsSpecError {}

impl FromStr for NetnsSpec {
    type Err = NetnsSpecError;

    fn from_str(text: &str) -> Result<Self, NetnsSpecError> {
        if let Some(pid) = text.strip_prefix("pid:") {
            let digits = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            let pid = if digits { pid.parse().ok() } else { None };
            return pid.filter(|pid| *pid > 0).map(Self::Pid).ok_or(NetnsSpecError);
        }
        // PATH_MAX and NAME_MAX of Linux.
        let (max_bytes, is_path) = if text.contains('/') { (4095, true) } else { (255, false) };
        match text {
            "" | "." | ".." => Err(NetnsSpecError),
            _ if text.len() > max_bytes || text.contains('\0') => Err(NetnsSpecError),
            _ if is_path => Ok(Self::Path(text.into())),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_processes_are_distinguished() {
        let long = "x".repeat(256);
        let cases = [
            ("blue", Some(NetnsSpec::Name("blue".into()))),
            ("a b", Some(NetnsSpec::Name("a b".into()))),
            ("pid", Some(NetnsSpec::Name("pid".into()))),
            ("/run/netns/blue", Some(NetnsSpec::Path("/run/netns/blue".into()))),
            ("./blue", Some(NetnsSpec::Path("./blue".into()))),
            ("pid:1", Some(NetnsSpec::Pid(1))),
            ("pid:2147483647", Some(NetnsSpec::Pid(i32::MAX))),
            ("pid:2147483648", None),
            ("pid:0", None),
            ("pid:-1", None),
            ("pid:+1", None),
            ("pid:", None),
            ("pid:1/x", None),
            ("", None),
            ("..", None),
            ("a\0b", None),
            (&*long, None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(netns) = expected {
                assert_eq!(netns.to_string(), text);
            }
        }
    }

    #[test]
    fn files_of_namespaces() {
        let file = |text: &str| text.parse::<NetnsSpec>().unwrap().path();
        assert_eq!(file("blue"), PathBuf::from("/run/netns/blue"));
        assert_eq!(file("./x"), PathBuf::from("./x"));
        assert_eq!(file("pid:7"), PathBuf::from("/proc/7/ns/net"));
    }
}
