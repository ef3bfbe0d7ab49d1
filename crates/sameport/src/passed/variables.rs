//! The environment variables of the protocol: the only place of the library that reads the environment.

use std::env;
use std::ffi::{OsStr, OsString};

/// The number of the first passed descriptor: `SD_LISTEN_FDS_START` of sd-daemon.h.
pub(super) const FIRST: i32 = 3;

/// The limit of passed sockets.
const MAX_SOCKETS: usize = 4096;

/// Characters of a malformed value that an error shows.
const LONGEST_VALUE: usize = 60;

/// The name of a socket without one: sd_listen_fds_with_names(3).
const UNKNOWN: &str = "unknown";

/// The variables; `None` if unset.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pid: Option<OsString>,
    count: Option<OsString>,
    names: Option<OsString>,
}

impl Variables {
    pub(super) fn of_this_process() -> Self {
        Self {
            pid: env::var_os("LISTEN_PID"),
            count: env::var_os("LISTEN_FDS"),
            names: env::var_os("LISTEN_FDNAMES"),
        }
    }

    /// The names of the sockets passed to this process, the first one as descriptor [`FIRST`]; empty
    /// if the variables are unset or meant for another process. The error is a variable with its
    /// value, and what it should be.
    pub(super) fn names(&self, own_pid: u32) -> Result<Vec<String>, (String, &'static str)> {
        let (Some(pid), Some(count)) = (&self.pid, &self.count) else { return Ok(Vec::new()) };
        if pid != OsStr::new(&own_pid.to_string()) {
            return Ok(Vec::new());
        }
        let wrong = |name: &str, value: &OsStr, note| {
            let shown: String = value.to_string_lossy().chars().take(LONGEST_VALUE).collect();
            Err((format!("{name}={}", shown.escape_debug()), note))
        };
        let number = count.to_str().and_then(|text| text.parse().ok());
        let Some(number) = number.filter(|number| *number <= MAX_SOCKETS) else {
            return wrong("LISTEN_FDS", count, "not a number from 0 to 4096");
        };
        let Some(names) = &self.names else {
            return Ok(vec![UNKNOWN.to_owned(); number]);
        };
        let all: Vec<String> = match names.to_str() {
            Some("") if number == 0 => Vec::new(),
            text => text.into_iter().flat_map(|text| text.split(':')).map(str::to_owned).collect(),
        };
        if all.len() != number {
            return wrong("LISTEN_FDNAMES", names, "not one name for each socket");
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_sockets_of_this_process() {
        type Row = (Option<&'static str>, Option<&'static str>, Option<&'static str>, &'static str);
        let rows: [Row; 16] = [
            (None, None, None, ""),
            (Some("7"), None, None, ""),
            (None, Some("2"), None, ""),
            (Some("8"), Some("2"), Some("a:b"), ""),
            (Some("x"), Some("2"), None, ""),
            (Some("07"), Some("2"), None, ""),
            (Some("7"), Some("0"), None, ""),
            (Some("7"), Some("0"), Some(""), ""),
            (Some("7"), Some("2"), None, "unknown unknown"),
            (Some("7"), Some("2"), Some("a:b"), "a b"),
            (Some("7"), Some("1"), Some(""), ""),
            (Some("7"), Some("x"), None, "LISTEN_FDS=x not a number from 0 to 4096"),
            (Some("7"), Some("-1"), None, "LISTEN_FDS=-1 not a number from 0 to 4096"),
            (Some("7"), Some("1\n"), None, "LISTEN_FDS=1\\n not a number from 0 to 4096"),
            (Some("7"), Some("4097"), None, "LISTEN_FDS=4097 not a number from 0 to 4096"),
            (Some("7"), Some("2"), Some("a"), "LISTEN_FDNAMES=a not one name for each socket"),
        ];
        for (pid, count, names, expected) in rows {
            let variable = |text: Option<&str>| text.map(OsString::from);
            let all =
                Variables { pid: variable(pid), count: variable(count), names: variable(names) };
            let found = match all.names(7) {
                Ok(names) => names.join(" "),
                Err((variable, note)) => format!("{variable} {note}"),
            };
            assert_eq!(found, expected, "{all:?}");
        }
    }
}
