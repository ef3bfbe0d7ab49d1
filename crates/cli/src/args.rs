//! The parts that several verbs share: parsers of arguments, and the lists of exit codes and of
//! environment variables in help and manual.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use sameport_policy::addr::{AddrSpec, PortSpec, PortSpecError, Protocol};
use sameport_policy::launch;
pub(crate) use sameport_policy::option_values::{parse_duration, parse_port, parse_tcp_address};

use crate::error::Failure;

/// The exit codes of every verb, at the end of its help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 not done; 2 wrong command line; 3 not possible on this machine (`sameport doctor` \
lists what is).";

/// The environment variables that sameport reads.
pub(crate) const ENVIRONMENT: &str = "\
Environment:
  XDG_RUNTIME_DIR  directory for the files of named runs and for the preload library
  RUNTIME_DIRECTORY
                   the same in a service without XDG_RUNTIME_DIR
  LOGS_DIRECTORY   directory for the output of runs in the background, in a service with LogsDirectory=
  XDG_STATE_HOME   the same for users other than root [default: ~/.local/state]
  PATH             directories of programs that are named without a slash
  LD_PRELOAD       libraries that `run --via preload` keeps
  NOTIFY_SOCKET    socket on which a service manager is notified of readiness
  WATCHDOG_USEC, WATCHDOG_PID
                   watchdog of a service manager, to which `run` reports
  LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
                   sockets of a service manager, for named runs
  JOURNAL_STREAM   where stderr is the journal, messages have a priority
  NO_COLOR         no colors in messages";

/// The environment variable of the verbs that exist on every system.
pub(crate) const NO_COLOR: &str = "\
Environment:
  NO_COLOR         no colors in messages";

/// The option of each variable of the preload library.
pub(crate) const PRELOAD_ENVIRONMENT: &str = "\
Environment of a program with the library:
  SAMEPORT_SHARE=1              share every fixed port
  SAMEPORT_PORTS=80,53/udp       share only these
  SAMEPORT_MAP=FROM=TO,FROM=TO  bind TO in place of FROM
  SAMEPORT_SOURCE=ADDR[:PORT]   connect from this address
  SAMEPORT_TRANSPARENT=1        set IP_TRANSPARENT
  SAMEPORT_FREEBIND=1           set IP_FREEBIND
  SAMEPORT_CHILDREN=inherit|strip
                                whether executed programs load the library
  Without any of these, the variables of bindp: BIND_ADDR, BIND_PORT, REUSE_ADDR=1, REUSE_PORT=1,
  IP_TRANSPARENT=1";

/// Parses a port or an address, as every verb prints it, with a port other than 0.
pub(crate) fn parse_fixed_port(text: &str) -> Result<PortSpec, PortSpecError> {
    PortSpec::parse_fixed(text)
}

/// The protocol that an address and an option name together; `None` if neither names one.
///
/// # Errors
///
/// Exit code 2 if they contradict each other.
pub(crate) fn protocol_of(
    spec: &PortSpec,
    option: Option<Protocol>,
) -> Result<Option<Protocol>, Failure> {
    match (spec.protocol, option) {
        (Some(named), Some(option)) if named != option => {
            Err(Failure::usage(format!("--{option} contradicts {spec}"))
                .hint("leave out one of the two"))
        }
        (named, option) => Ok(named.or(option)),
    }
}

/// The address without its protocol.
///
/// # Errors
///
/// Exit code 2 if it names an interface, for a verb that binds to none.
pub(crate) fn without_device(spec: PortSpec) -> Result<AddrSpec, Failure> {
    match &spec.device {
        Some(device) => Err(Failure::usage(format!("{spec} names an interface"))
            .hint(format!("leave out %{device}: this verb binds to no interface"))),
        None => Ok(spec.addr),
    }
}

/// The owner of a named run.
#[derive(clap::Args)]
pub(crate) struct OwnerArgs {
    /// The run belongs to this user, a name or a number; for root, of a user or of a service
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

/// How long the verb waits for the change.
#[derive(clap::Args)]
pub(crate) struct WaitArgs {
    /// Return when the change is done, as without this option, and with TIME after that time at the latest, with
    /// exit code 1; the change goes on
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          value_parser = parse_duration)]
    wait: Option<Option<Duration>>,
    /// Return when the change has begun; `sameport status NAME` shows its progress
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

#[cfg(target_os = "linux")]
impl WaitArgs {
    pub(crate) fn wait(&self) -> crate::operations::wait::ChangeWait {
        use crate::operations::wait::ChangeWait;

        match (self.no_wait, self.wait.flatten()) {
            (true, _) => ChangeWait::Begin,
            (false, Some(limit)) => ChangeWait::Limited(limit),
            (false, None) => ChangeWait::Unlimited,
        }
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

/// A parser of a number in `range`. The one of clap answers in the notation of Rust.
pub(crate) fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match *range.end() {
            u64::MAX => format!("write a number from {} up", range.start()),
            most => format!("write a number from {} to {most}", range.start()),
        })
    }
}

/// Parses `NAME=VALUE`, which need not be UTF-8, or `NAME`, whose value is that of this process: a command
/// line can be read by every user, an environment cannot.
pub(crate) fn variable_parser() -> impl TypedValueParser<Value = (OsString, OsString)> {
    OsStringValueParser::new().try_map(|text| {
        let own = match text.as_encoded_bytes().contains(&b'=') {
            true => None,
            false => std::env::var_os(&text),
        };
        let text = match own {
            None => text,
            Some(value) => [text.as_os_str(), &value].join(OsStr::new("=")),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_answered_with_the_numbers_that_are_right() {
        let (most, all) = ("write a number from 1 to 1024", "write a number from 1 up");
        for text in ["0", "1025", "many", "", "-1", "99999999999999999999"] {
            assert_eq!(number::<u16>(1..=1024)(text), Err(most.to_owned()), "{text}");
        }
        assert_eq!(number::<u64>(1..=u64::MAX)("0"), Err(all.to_owned()));
        assert_eq!(number::<u16>(1..=1024)("1024"), Ok(1024));
    }

    #[test]
    fn port_0_is_not_fixed() {
        assert!(parse_fixed_port("127.0.0.1:80").is_ok_and(|spec| spec.addr.port == 80));
        for text in ["0", ":0", "[::1]:0", "localhost", "0/tcp"] {
            assert!(parse_fixed_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_protocol_is_named() {
        let (tcp, udp) = (Some(Protocol::Tcp), Some(Protocol::Udp));
        let cases = [
            ("80", None, Some(None)),
            ("80", udp, Some(udp)),
            ("80/udp", None, Some(udp)),
            ("80/udp", udp, Some(udp)),
            ("80/tcp", udp, None),
            ("80/udp", tcp, None),
        ];
        for (text, option, expected) in cases {
            assert_eq!(protocol_of(&text.parse().unwrap(), option).ok(), expected, "{text}");
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
}
