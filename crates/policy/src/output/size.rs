//! Sizes of files on the command line.

/// The least size of a file: a file holds some records of the greatest length.
const LEAST: u64 = 64 * 1024;

/// Parses a whole number of bytes with the unit K, M or G (1024, 1024² or 1024³ bytes), from 64K to 1024G.
///
/// # Errors
///
/// A message with the expected form.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "write a number and K, M or G, such as 10M, from 64K to 1024G";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "m" | "MiB" => 20,
        "G" | "g" | "GiB" => 30,
        _ => return Err(EXPECTED),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    size.filter(|size| (LEAST..=1 << 40).contains(size)).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, expected) in [
            ("10M", Some(10 << 20)),
            ("64K", Some(64 << 10)),
            ("64k", Some(64 << 10)),
            ("1G", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("65536", Some(65_536)),
            ("1024G", Some(1 << 40)),
            ("63K", None),
            ("0", None),
            ("1025G", None),
            ("", None),
            ("M", None),
            ("1.5M", None),
            ("-1M", None),
            ("10MB", None),
            ("99999999999999999999G", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
