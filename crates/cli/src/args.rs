//! The parts that several verbs share: parsers of arguments, and the lists of exit codes and of
//! environment variables in help and manual.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use sameport_policy::addr::{AddrSpec, AddrSpecError};
use sameport_policy::launch;

/// The exit codes of every verb, at the end of its help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 not done; 2 wrong command line; 3 not possible on this machine (`sameport doctor` \
lists what is).";

/// The environment variables that sameport reads.
pub(crate) const ENVIRONMENT: &str = "\
Environment:
  XDG_RUNTIME_DIR  directory for the files of named runs and for the preload library
  PATH             directories of programs that are named without a slash
  LD_PRELOAD       libraries that `run --via preload` keeps
  NOTIFY_SOCKET    socket on which a service manager is notified of readiness
  LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
                   sockets of a service manager, for named runs
  NO_COLOR         no colors in messages";

/// The option of each variable of the preload library.
pub(crate) const PRELOAD_ENVIRONMENT: &str = "\
Environment of a program with the library:
  SAMEPORT_SHARE=1              share every fixed port
  SAMEPORT_PORTS=80,443         share only these
  SAMEPORT_MAP=FROM=TO,FROM=TO  bind TO in place of FROM
  SAMEPORT_SOURCE=ADDR[:PORT]   connect from this address
  SAMEPORT_TRANSPARENT=1        set IP_TRANSPARENT
  SAMEPORT_FREEBIND=1           set IP_FREEBIND
  SAMEPORT_CHILDREN=inherit|strip
                                whether executed programs load the library
  Without any of these, the variables of bindp: BIND_ADDR, BIND_PORT, REUSE_ADDR=1, REUSE_PORT=1,
  IP_TRANSPARENT=1";

/// Parses an address with a port other than 0.
pub(crate) fn parse_fixed_address(text: &str) -> Result<AddrSpec, AddrSpecError> {
    let spec: AddrSpec = text.parse()?;
    match spec.port {
        0 => Err(AddrSpecError::FixedPort(text.to_owned())),
        _ => Ok(spec),
    }
}

/// Parses `-n`: a number from 1 to 1024, or `auto`, the number of processors that this process may use
/// (`sched_getaffinity(2)`, and the quota of its cgroup).
///
/// # Errors
///
/// A message with the expected form.
pub(crate) fn parse_copies(text: &str) -> Result<u16, String> {
    const LIMIT: u16 = 1024;
    if text == "auto" {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(u16::try_from(processors).unwrap_or(LIMIT).min(LIMIT));
    }
    match text.parse() {
        Ok(number @ 1..=LIMIT) => Ok(number),
        _ => Err(format!("write a number from 1 to {LIMIT}, or auto")),
    }
}

/// Parses `NAME=VALUE`, which need not be UTF-8.
pub(crate) fn variable_parser() -> impl TypedValueParser<Value = (OsString, OsString)> {
    OsStringValueParser::new().try_map(|text| {
        let bytes = text.as_encoded_bytes();
        let at = launch::variable(bytes)?;
        Ok::<_, &str>((os_string(&bytes[..at]), os_string(&bytes[at + 1..])))
    })
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Parses a whole number with the unit `ms`, `s`, `m` or `h`; seconds without a unit. At most 24 h.
///
/// # Errors
///
/// A message with the expected form.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "write a number and ms, s, m or h, such as 500ms, 30s or 2m, at most 24h";
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    match number.checked_mul(milliseconds) {
        Some(total) if total <= DAY => Ok(Duration::from_millis(total)),
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_is_not_fixed() {
        assert!(parse_fixed_address("127.0.0.1:80").is_ok_and(|spec| spec.port == 80));
        for text in ["0", ":0", "[::1]:0", "localhost"] {
            assert!(parse_fixed_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn copies_are_parsed() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1024", Some(1024)),
            ("0", None),
            ("1025", None),
            ("-1", None),
            ("", None),
            ("Auto", None),
            ("1.5", None),
        ] {
            assert_eq!(parse_copies(text).ok(), expected, "{text}");
        }
        assert!(parse_copies("auto").is_ok_and(|copies| (1..=1024).contains(&copies)));
    }

    #[test]
    fn durations_are_parsed() {
        let milliseconds = |text| parse_duration(text).map(|it| it.as_millis()).ok();
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("2m", Some(120_000)),
            ("24h", Some(86_400_000)),
            ("0s", Some(0)),
            ("25h", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }
}
