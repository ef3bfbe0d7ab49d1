//! The signal that tells a worker to end, by name or number.

use std::fmt;
use std::str::FromStr;

use crate::lifecycle::exit;

/// The highest signal number of Linux: SIGRTMAX.
const LAST: u8 = 64;

/// The first real-time signal of programs with glibc or musl, which use the two or three before it.
const RTMIN: u8 = 34;

/// A signal that a worker gets when it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(u8);

impl StopSignal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);

    /// The signal's number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.into()
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::TERM
    }
}

/// `SIGQUIT`, `SIGRTMIN+3`.
impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (exit::signal_name(self.0), self.0.checked_sub(RTMIN)) {
            (Some(name), _) => write!(f, "SIG{name}"),
            (None, Some(0)) => f.write_str("SIGRTMIN"),
            (None, Some(above)) => write!(f, "SIGRTMIN+{above}"),
            (None, None) => write!(f, "signal {}", self.0),
        }
    }
}

impl FromStr for StopSignal {
    type Err = String;

    /// Reads `QUIT`, `SIGQUIT`, `3`, `RTMIN+3` or `RTMAX-1`, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match name.parse::<u8>() {
            Ok(number) => Some(number),
            Err(_) => exit::signal_number(name).or_else(|| real_time(name)),
        };
        match number {
            Some(9) => Err("SIGKILL ends a worker at once; `sameport stop --now` and --grace do \
                            that"
                .into()),
            Some(number @ 17..=19) => {
                let name = exit::signal_name(number).unwrap_or_default();
                Err(format!("SIG{name} does not end a program"))
            }
            Some(number @ 1..=LAST) if !(32..RTMIN).contains(&number) => Ok(Self(number)),
            _ => Err("write a signal's name or number, such as QUIT, SIGUSR1 or 15".into()),
        }
    }
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`.
fn real_time(name: &str) -> Option<u8> {
    let number = match name.strip_prefix("RTMIN") {
        Some("") => RTMIN,
        Some(above) => RTMIN.checked_add(above.strip_prefix('+')?.parse().ok()?)?,
        None => match name.strip_prefix("RTMAX")? {
            "" => LAST,
            below => LAST.checked_sub(below.strip_prefix('-')?.parse().ok()?)?,
        },
    };
    (RTMIN..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let table = [
            ("QUIT", Some((3, "SIGQUIT"))),
            ("sigquit", Some((3, "SIGQUIT"))),
            ("3", Some((3, "SIGQUIT"))),
            ("TERM", Some((15, "SIGTERM"))),
            ("SIGRTMIN+3", Some((37, "SIGRTMIN+3"))),
            ("rtmin", Some((34, "SIGRTMIN"))),
            ("RTMAX-1", Some((63, "SIGRTMIN+29"))),
            ("64", Some((64, "SIGRTMIN+30"))),
            ("", None),
            ("0", None),
            ("32", None),
            ("65", None),
            ("RTMIN+31", None),
            ("RTMAX+1", None),
            ("SIG", None),
            ("HALT", None),
            ("KILL", None),
            ("9", None),
            ("STOP", None),
            ("CHLD", None),
        ];
        for (text, expected) in table {
            let read = text.parse::<StopSignal>().ok();
            let read = read.map(|signal| (signal.number(), signal.to_string()));
            let expected = expected.map(|(number, name)| (number, name.to_owned()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
