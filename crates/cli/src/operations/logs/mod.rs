//! Reads what the workers of a run wrote: from the files of a run in the background, from the journal, or from the
//! file of `--log`.

mod files;
mod journal;
mod journal_reader;
mod journal_workers;
mod model;
mod source;

pub(crate) use model::{LogEvent, LogLine, LogQuery, LogsError, own_directory};

use model::Each;
use source::LogPlace;

/// Reads lines, the oldest first.
///
/// # Errors
///
/// See [`LogsError`].
pub(crate) fn read(query: &LogQuery, each: Each<'_>) -> Result<(), LogsError> {
    let found = source::find(query)?;
    match &found.place {
        LogPlace::Kept(directory) => files::read_kept(query, &found, directory, each),
        LogPlace::File(path) => files::read_file(query, &found, path, each),
        LogPlace::Journal(unit) => journal::read(query, &found, unit, each),
    }
}
