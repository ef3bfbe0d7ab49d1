//! The values of the keys that are options of `run`: what they must be, in words, and the check.

use std::time::Duration;

use super::tree::FileValue;
use crate::bind::map::MapRule;
use crate::bind::source;
use crate::launch::UserSpec;
use crate::model::name::RunName;
use crate::option_values::{
    parse_duration, parse_expected, parse_port, parse_ready, parse_tcp_address,
};
use crate::output::parse_size;
use crate::stop_signal::StopSignal;

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A port of one protocol or both.
    Port,
    /// An address of a TCP listener.
    Listen,
    /// A port, or an IP address and a port.
    Expect,
    /// `FROM=TO`.
    MapRule,
    /// An IP address that connections come from.
    Source,
    /// A time up to 24 h.
    Duration,
    /// A number of this range.
    Number(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number of bytes.
    Size,
    /// A readiness check.
    Ready,
    /// A signal that ends a program.
    Signal,
    /// `USER` or `USER:GROUP`.
    User,
    /// The name of a group.
    Name,
    /// A path.
    Path,
}

impl ValueKind {
    /// What a value must be.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Port => "a port, such as 8080 or \"53/udp\"".into(),
            Self::Listen => "a port or an address, such as 8080 or \"127.0.0.1:8080\"".into(),
            Self::Expect => {
                "a port or an address, such as 8080, \"53/udp\" or \"[::1]:8080\"".into()
            }
            Self::MapRule => "FROM=TO, such as \"80=127.0.0.1:8080\"".into(),
            Self::Source => "an address, such as \"127.0.0.9\" or \"[::1]:4000\"".into(),
            Self::Duration => "a time up to 24h, such as \"500ms\", \"30s\" or \"2m\"".into(),
            Self::Size => "a size from \"64K\" to \"1024G\", such as \"10M\"".into(),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                match words.split_last() {
                    Some((last, before)) if !before.is_empty() => {
                        format!("{} or {last}", before.join(", "))
                    }
                    _ => words.join(""),
                }
            }
            Self::Ready => "\"tcp\", \"http:/PATH\", \"http://HOST[:PORT]/PATH\", \"notify\" or \
                            \"exec:COMMAND\""
                .into(),
            Self::Signal => "a signal, such as \"QUIT\" or \"SIGUSR1\"".into(),
            Self::User => "a user, such as \"www-data\" or \"1000:1000\"".into(),
            Self::Name => "the name of a group, such as \"site\"".into(),
            Self::Path => "a path".into(),
        }
    }

    /// Whether a whole number is such a value too.
    #[must_use]
    pub fn takes_number(self) -> bool {
        match self {
            Self::Port
            | Self::Listen
            | Self::Expect
            | Self::Duration
            | Self::Size
            | Self::Number(..)
            | Self::Signal
            | Self::User => true,
            Self::MapRule
            | Self::Source
            | Self::Word(_)
            | Self::Ready
            | Self::Name
            | Self::Path => false,
        }
    }

    /// Whether a string can be such a value.
    #[must_use]
    pub fn takes_text(self) -> bool {
        !matches!(self, Self::Number(..))
    }

    /// The value as the command line takes it: of several spellings, one.
    ///
    /// # Errors
    ///
    /// What more there is to say than [`expected`](Self::expected), or an empty text.
    pub fn read(self, value: &FileValue) -> Result<String, String> {
        let text = match value {
            FileValue::Text(text) if self.takes_text() => text.clone(),
            FileValue::Integer(number) if self.takes_number() => number.to_string(),
            _ => return Err(String::new()),
        };
        if text.contains('\0') {
            return Err("it has a NUL".into());
        }
        self.canonical(&text)
    }

    fn canonical(self, text: &str) -> Result<String, String> {
        let unsaid = |_| String::new();
        match self {
            Self::Port => parse_port(text).map(|port| port.to_string()),
            Self::Listen => parse_tcp_address(text).map(|_| text.to_owned()),
            Self::Expect => parse_expected(text).map(|_| text.to_owned()),
            Self::MapRule => {
                text.parse::<MapRule>().map(|_| text.to_owned()).map_err(|error| error.to_string())
            }
            Self::Source => source::read(text).map(|_| text.to_owned()).map_err(|_| String::new()),
            Self::Duration => parse_duration(text).map(written_duration).map_err(unsaid),
            Self::Size => parse_size(text).map(|_| text.to_owned()).map_err(unsaid),
            Self::Number(least, most) => match text.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(number.to_string()),
                _ => Err(String::new()),
            },
            Self::Word(words) => match words.contains(&text) {
                true => Ok(text.to_owned()),
                false => Err(String::new()),
            },
            Self::Ready => parse_ready(text).map(|_| text.to_owned()).map_err(unsaid),
            Self::Signal => text.parse::<StopSignal>().map(|signal| match signal.to_string() {
                name if name.contains(' ') => signal.number().to_string(),
                name => name,
            }),
            Self::User => text.parse::<UserSpec>().map(|user| user.to_string()).map_err(unsaid),
            Self::Name => text
                .parse::<RunName>()
                .map(|name| name.as_str().to_owned())
                .map_err(|error| error.to_string()),
            Self::Path => match text.is_empty() {
                true => Err("it is empty".into()),
                false => Ok(text.to_owned()),
            },
        }
    }
}

/// A duration as the command line takes it.
#[must_use]
pub fn written_duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
