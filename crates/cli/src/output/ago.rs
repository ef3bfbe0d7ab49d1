//! How long ago something was, in one word and its unit.

use std::time::Duration;

/// `3 d`, `2 h`, `5 min`, `7 s`.
pub(crate) fn ago(time: Duration) -> String {
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
    fn the_largest_whole_unit_is_told() {
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
        for (seconds, told) in cases {
            assert_eq!(ago(Duration::from_secs(seconds)), told);
        }
    }
}
