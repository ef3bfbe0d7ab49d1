//! What a user writes to name a network namespace.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A network namespace, by whatever names it.
///
/// | written | it is |
/// |---|---|
/// | `blue` | what `ip netns` calls blue |
/// | `/run/docker/netns/1a2b`, `./here` | the namespace that is mounted on this file |
/// | `pid:4121` | the one that this process is in |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsSpec {
    /// By the name that `ip netns add` gave it.
    Name(String),
    /// By a file; its path has a `/`.
    Path(PathBuf),
    /// By a process that is in it.
    Pid(i32),
}

impl NetnsSpec {
    /// The file that stands for it.
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

/// The text names no network namespace.
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
        // No file has a longer path, or a longer name.
        let (longest, is_path) = if text.contains('/') { (4095, true) } else { (255, false) };
        match text {
            "" | "." | ".." => Err(NetnsSpecError),
            _ if text.len() > longest || text.contains('\0') => Err(NetnsSpecError),
            _ if is_path => Ok(Self::Path(text.into())),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_processes_are_told_apart() {
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
            if let Some(network) = expected {
                assert_eq!(network.to_string(), text);
            }
        }
    }

    #[test]
    fn each_has_a_file() {
        let file = |text: &str| text.parse::<NetnsSpec>().unwrap().path();
        assert_eq!(file("blue"), PathBuf::from("/run/netns/blue"));
        assert_eq!(file("./x"), PathBuf::from("./x"));
        assert_eq!(file("pid:7"), PathBuf::from("/proc/7/ns/net"));
    }
}
