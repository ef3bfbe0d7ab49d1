//! Text that a terminal can show, and the short forms of lists and times.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

/// Replaces the characters that would control a terminal by their escapes. Programs choose their own
/// names.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    push_printable(&mut printed, text);
    printed
}

/// Appends what [`printable`] returns.
pub(crate) fn push_printable(to: &mut String, text: &str) {
    // Nearly every string is printable ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        to.push_str(text);
        return;
    }
    for c in text.chars() {
        if controls_terminal(c) {
            to.extend(c.escape_default());
        } else {
            to.push(c);
        }
    }
}

/// Whether a terminal executes this character, or reorders the text around it.
pub(super) fn controls_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(to: &mut String, mut number: u64) {
    // As many digits as u64::MAX has.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

/// Appends a socket address. IPv4, which nearly all are, without the formatting machinery.
pub(crate) fn push_socket(to: &mut String, socket: SocketAddr) {
    let SocketAddr::V4(v4) = socket else {
        // Writing to a string does not fail.
        let _ = write!(to, "{socket}");
        return;
    };
    for (at, byte) in v4.ip().octets().into_iter().enumerate() {
        if at > 0 {
            to.push('.');
        }
        push_decimal(to, byte.into());
    }
    to.push(':');
    push_decimal(to, v4.port().into());
}

/// The text in at most `width` characters; `…` ends a text that was cut.
pub(crate) fn truncate(text: &str, width: usize) -> Cow<'_, str> {
    if text.len() <= width {
        return text.into();
    }
    match text.char_indices().nth(width) {
        None => text.into(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// At most 200 characters of an argument, for a message of one line. An argument can have 128 KiB.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 200;
    match text.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

/// A name or path of unknown origin in a message of one line.
pub(crate) fn quotable(text: &str) -> String {
    shorten(&text.escape_debug().to_string())
}

/// ` (pid 4711)` behind the name of a program or run, if the pid is known.
pub(crate) fn pid_remark(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A list in a sentence: `a, b and 3 more`.
pub(crate) fn sentence_list<T: Display>(
    items: impl IntoIterator<Item = T>,
    limit: usize,
) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.len().checked_sub(limit) {
        None | Some(0) => items.join(", "),
        Some(more) => format!("{} and {more} more", items[..limit].join(", ")),
    }
}

/// A list in a table: `a b +3`, with this separator; `-` without items.
pub(crate) fn cell_list<T: Display>(
    items: impl IntoIterator<Item = T>,
    separator: &str,
    limit: usize,
) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.len().checked_sub(limit) {
        _ if items.is_empty() => "-".to_owned(),
        None | Some(0) => items.join(separator),
        Some(more) => format!("{}{separator}+{more}", items[..limit].join(separator)),
    }
}

/// The time between two moments in milliseconds since 1970. Zero if the clock was set back.
pub(crate) fn elapsed(since: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(since))
}

/// A duration in its largest whole unit: `3 d`, `2 h`, `5 min`, `7 s`.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86400, seconds / 3600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

/// Seconds, rounded up.
pub(crate) fn seconds_rounded_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_in_the_largest_whole_unit() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (86399, "23 h"),
            (86400, "1 d"),
            (86400 * 400, "400 d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn numbers_and_addresses_are_as_std_writes_them() {
        for number in [0, 7, 10, 99, 65_535, u64::MAX] {
            let mut text = String::new();
            push_decimal(&mut text, number);
            assert_eq!(text, number.to_string());
        }
        for address in ["0.0.0.0:0", "127.0.0.1:8080", "255.255.255.255:65535", "[fe80::1%2]:80"] {
            let mut text = String::new();
            push_socket(&mut text, address.parse().expect("an address"));
            assert_eq!(text, address);
        }
    }

    #[test]
    fn long_lists_are_counted() {
        assert_eq!(sentence_list([1, 2], 2), "1, 2");
        assert_eq!(sentence_list([1, 2, 3, 4], 2), "1, 2 and 2 more");
        assert_eq!(cell_list([1, 2], ",", 2), "1,2");
        assert_eq!(cell_list([1, 2, 3], " ", 2), "1 2 +1");
        assert_eq!(cell_list([""; 0], " ", 2), "-");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}é"), "a\\u{1b}[2J\\u{202e}é");
        assert_eq!(truncate("abcdef", 4), "abc…");
        assert_eq!(truncate("éé", 2), "éé");
    }
}
