//! Reading back what a worker wrote last.

use std::path::Path;

use sameport_policy::output::time::parse_rfc3339;
use sameport_policy::output::{LineEnding, Record};
use sameport_sys::kept_log::{LogDirectory, LogFollower};

/// Records that are looked at, of all workers.
const SEARCHED: usize = 2_000;

/// The last lines of a worker in its run's files since a time in milliseconds since 1970, at most `most`. Invalid UTF-8
/// is replaced.
pub(crate) fn last_lines(directory: &Path, ordinal: u16, since: u64, most: usize) -> Vec<String> {
    let owner = sameport_sys::effective_user();
    let Ok(directory) = LogDirectory::open(directory, owner) else { return Vec::new() };
    let mut searched = 0;
    let mut wanted = |line: &[u8]| {
        searched += 1;
        if searched > SEARCHED {
            return None;
        }
        let is_wanted = |record: Record<'_>| {
            let is_since = parse_rfc3339(record.time).is_some_and(|time| time >= since);
            record.worker() == Some(ordinal) && is_since
        };
        Some(Record::parse(line).is_some_and(is_wanted))
    };
    let found = LogFollower::of_directory(directory).last(most, &mut wanted);
    let text = |line: &Vec<u8>| {
        let record = Record::parse(line)?;
        let open = if record.ending == LineEnding::Open { "…" } else { "" };
        Some(format!("{}{open}", String::from_utf8_lossy(record.text)))
    };
    found.unwrap_or_default().iter().filter_map(text).collect()
}
