//! The values of options that the command line and files of services have in common.

use std::ffi::OsString;
use std::time::Duration;

use crate::addr::{AddrSpec, Host, PortSpec, Protocol};
use crate::bind::verdict::SharedPort;
use crate::readiness::HttpTarget;

/// Parses a port of one protocol or of both, as `--port` and `--each` name it.
///
/// # Errors
///
/// A message that names the part that a port alone does not have.
pub fn parse_port(text: &str) -> Result<SharedPort, String> {
    let spec = PortSpec::parse_fixed(text).map_err(|error| error.to_string())?;
    let port = SharedPort { port: spec.addr.port, protocol: spec.protocol };
    if spec.is_port() {
        Ok(port)
    } else {
        Err(format!("a port is for every address: write {port}"))
    }
}

/// Parses the address of a TCP listener, with a port other than 0.
///
/// # Errors
///
/// A message that names the part that a TCP listener cannot have.
pub fn parse_tcp_address(text: &str) -> Result<AddrSpec, String> {
    let spec = PortSpec::parse_fixed(text).map_err(|error| error.to_string())?;
    match (spec.protocol, spec.device) {
        (Some(Protocol::Udp), _) => Err("TCP only: write no /udp".into()),
        (_, Some(device)) => Err(format!("no interface can be named: leave out %{device}")),
        _ => Ok(spec.addr),
    }
}

/// Parses an address on which a worker must listen (`--expect`): a port, or an IP address and a port.
///
/// # Errors
///
/// A message with the expected form.
pub fn parse_expected(text: &str) -> Result<PortSpec, String> {
    let spec = PortSpec::parse_fixed(text).map_err(|error| error.to_string())?;
    match (&spec.addr.host, &spec.device) {
        (_, Some(device)) => Err(format!("an interface does not matter: leave out %{device}")),
        (Host::Name(_), _) => {
            Err("write PORT, IP:PORT or [IPV6]:PORT: a name is not resolved".into())
        }
        _ => Ok(spec),
    }
}

/// The values of `--ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyArgument {
    /// Accepts a connection.
    Tcp,
    /// Answers 2xx or 3xx.
    Http(HttpTarget),
    /// Sends `READY=1`.
    Notify,
    /// The command exits with 0.
    Exec(OsString),
}

/// Parses a readiness check.
///
/// # Errors
///
/// A message with the expected forms.
pub fn parse_ready(text: &str) -> Result<ReadyArgument, &'static str> {
    const EXPECTED: &str = "write tcp, http:/PATH, http://HOST[:PORT]/PATH, notify or exec:COMMAND";
    match text.split_once(':') {
        None if text == "tcp" => Ok(ReadyArgument::Tcp),
        None if text == "notify" => Ok(ReadyArgument::Notify),
        Some(("http", _)) => text.parse().map(ReadyArgument::Http).map_err(|_| EXPECTED),
        Some(("exec", command)) if !command.trim().is_empty() => {
            Ok(ReadyArgument::Exec(command.into()))
        }
        _ => Err(EXPECTED),
    }
}

/// Parses a whole number with the unit `ms`, `s`, `m` or `h`; seconds without a unit. At most 24 h.
///
/// # Errors
///
/// A message with the expected form.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
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
    fn a_listener_has_tcp_and_no_interface() {
        for text in ["80", "80/tcp", "[::1]:80/tcp"] {
            assert!(parse_tcp_address(text).is_ok_and(|spec| spec.port == 80), "{text}");
        }
        for text in ["80/udp", "*%eth0:80", "0/tcp"] {
            assert!(parse_tcp_address(text).is_err(), "{text}");
        }
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
