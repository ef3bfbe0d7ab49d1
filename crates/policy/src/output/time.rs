//! Times of records, and of `--since`.

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// A time in milliseconds since 1970 as RFC 3339 in UTC: `2026-11-30T21:55:25.123Z`.
#[must_use]
pub fn rfc3339(milliseconds: u64) -> String {
    let (year, month, day) = civil(milliseconds / DAY);
    let time = milliseconds % DAY;
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, millisecond) = (time / 1_000 % 60, time % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The date of a day since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin on 1 March here, so that the leap day is the last day of a year; eras have 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

/// The day since 1970 of a date from 1970 on.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

/// Milliseconds since 1970 of a time of RFC 3339: `2026-11-30T21:55:25Z`, with a fraction of a second or an offset
/// such as `+01:00`. `None`: the text is something else.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then(|| text.get(from..to)?.parse().ok())?
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !marks || hour > 23 || minute > 59 || second > 60 || day == 0 || !(1..=12).contains(&month) {
        return None;
    }
    let day_number = days(year, month, day).filter(|it| civil(*it) == (year, month, day))?;
    let mut at = 19;
    let mut fraction = 0;
    if is(at, b".") {
        let length = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let milliseconds = number(at + 1, at + 1 + length.min(3))?;
        fraction = milliseconds * [0, 100, 10, 1][length.min(3)];
        at += 1 + length;
    }
    let local = day_number * DAY + ((hour * 60 + minute) * 60 + second) * 1_000 + fraction;
    if is(at, b"Zz") && bytes.len() == at + 1 {
        return Some(local);
    }
    let offset = (number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?) * 60_000;
    if !is(at + 3, b":") || bytes.len() != at + 6 || offset >= DAY {
        return None;
    }
    match bytes[at] {
        b'+' => local.checked_sub(offset),
        b'-' => Some(local + offset),
        _ => None,
    }
}

/// Parses the time of `--since`: a duration before `now`, such as `10m`, or a time of RFC 3339. Both are in
/// milliseconds since 1970.
///
/// # Errors
///
/// A message with the expected form.
pub fn parse_since(text: &str, now: u64) -> Result<u64, &'static str> {
    const EXPECTED: &str =
        "write how long ago, such as 30s, 10m, 2h or 3d, or a time such as 2026-11-30T21:55:00Z";
    if let Some(time) = parse_rfc3339(text) {
        return Ok(time);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(EXPECTED),
    };
    let before = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    before.map(|before| now.saturating_sub(before)).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_796_075_725_123, "2026-11-30T21:55:25.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(milliseconds), text);
            assert_eq!(parse_rfc3339(text), Some(milliseconds));
        }
        for day in (0..200_000).step_by(13) {
            let milliseconds = day * DAY + 86_399_000;
            assert_eq!(parse_rfc3339(&rfc3339(milliseconds)), Some(milliseconds));
        }
    }

    #[test]
    fn fractions_and_offsets_are_read() {
        let at = Some(1_796_075_725_000);
        for (text, expected) in [
            ("2026-11-30T21:55:25Z", at),
            ("2026-11-30 21:55:25z", at),
            ("2026-11-30T22:55:25+01:00", at),
            ("2026-11-30T16:25:25-05:30", at),
            ("2026-11-30T21:55:25.1Z", at.map(|it| it + 100)),
            ("2026-11-30T21:55:25.123456789+00:00", at.map(|it| it + 123)),
            ("2026-02-30T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-11-00T00:00:00Z", None),
            ("2026-03-00T00:00:00Z", None),
            ("2026-11-30T24:00:00Z", None),
            ("2026-11-30T21:55:25", None),
            ("2026-11-30T21:55:25.Z", None),
            ("2026-11-30T21:55:25+1:00", None),
            ("2026-11-30T21:55:25+25:00", None),
            ("2026-11-30T21:55:25+01:00x", None),
            ("1969-12-31T23:59:59Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2026-11-30", None),
            ("ünf6-11-30T21:55:25Z", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text), expected, "{text}");
        }
    }

    #[test]
    fn since_is_relative_or_absolute() {
        let now = 1_796_075_725_123;
        for (text, expected) in [
            ("10m", Some(now - 600_000)),
            ("30s", Some(now - 30_000)),
            ("2h", Some(now - 7_200_000)),
            ("3d", Some(now - 3 * DAY)),
            ("1w", Some(now - 7 * DAY)),
            ("99999999w", Some(0)),
            ("2026-11-30T21:55:25Z", Some(1_796_075_725_000)),
            ("99999999999999999999w", None),
            ("10", None),
            ("m", None),
            ("-1m", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_since(text, now).ok(), expected, "{text}");
        }
    }
}
