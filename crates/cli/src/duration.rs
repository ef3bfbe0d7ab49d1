//! Parses durations of the command line: `500ms`, `30s`, `2m`.

use std::time::Duration;

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
    use super::parse_duration;

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
