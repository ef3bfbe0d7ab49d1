//! Lines from files.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sameport_policy::output::record::{LineEnding, Record};
use sameport_policy::output::time::parse_rfc3339;
use sameport_supervisor::control::client::ClientError;
use sameport_sys::kept_log::{LogDirectory, LogFollower};

use super::model::{Each, LogEvent, LogLine, LogQuery, LogsError};
use super::source::FoundLog;

/// Interval at which a file is looked at for new lines.
const INTERVAL: Duration = Duration::from_millis(100);

/// Interval at which the run is looked at.
const RUN_INTERVAL: Duration = Duration::from_millis(500);

/// Lines of the files of a run in the background.
pub(super) fn read_kept(
    query: &LogQuery,
    found: &FoundLog,
    directory: &Path,
    each: Each<'_>,
) -> Result<(), LogsError> {
    let failed = |error| LogsError::Read(directory.to_owned(), error);
    let files = LogDirectory::open(directory, found.uid).map_err(failed)?;
    let follower = LogFollower::of_directory(files);
    read(query, found, follower, LineSelection::new(query), each).map_err(failed)
}

/// Lines of the file of `--log`, which have neither a time nor a worker.
pub(super) fn read_file(
    query: &LogQuery,
    found: &FoundLog,
    path: &Path,
    each: Each<'_>,
) -> Result<(), LogsError> {
    let needs = [(query.worker.is_some(), "--worker"), (query.since.is_some(), "--since")];
    if let Some((_, option)) = needs.iter().find(|(given, _)| *given) {
        return Err(LogsError::PlainFile(path.to_owned(), option));
    }
    let failed = |error| LogsError::Read(path.to_owned(), error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    // The path is what another user's supervisor says.
    if query.user.is_some() && metadata.uid() != found.uid {
        return Err(LogsError::NotTheRuns(path.to_owned()));
    }
    let follower = LogFollower::of_file(path.to_owned());
    read(query, found, follower, LineSelection::all(), each).map_err(failed)
}

/// The lines that are wanted.
struct LineSelection {
    worker: Option<u16>,
    /// Until a line of this time or later has come. The lines after it are wanted, whatever the clock did.
    since: Option<u64>,
    /// Whether lines are records.
    has_records: bool,
}

impl LineSelection {
    fn new(query: &LogQuery) -> Self {
        Self { worker: query.worker, since: query.since, has_records: true }
    }

    fn all() -> Self {
        Self { worker: None, since: None, has_records: false }
    }

    fn parse<'a>(&self, line: &'a [u8]) -> LogLine<'a> {
        let record = if self.has_records { Record::parse(line) } else { None };
        match record {
            Some(record) => LogLine {
                time: Some(record.time),
                label: Some(record.label),
                worker: record.worker(),
                ending: record.ending,
                text: record.text,
                pid: None,
            },
            None => LogLine {
                time: None,
                label: None,
                worker: None,
                ending: LineEnding::Newline,
                text: line,
                pid: None,
            },
        }
    }

    fn is_wanted(&self, line: &LogLine<'_>) -> bool {
        self.worker.is_none_or(|worker| line.worker == Some(worker))
    }

    fn is_since(&self, line: &LogLine<'_>) -> bool {
        let Some(since) = self.since else { return true };
        line.time.and_then(parse_rfc3339).is_some_and(|time| time >= since)
    }
}

/// Passes lines on. `false`: the reader has enough.
fn pass(lines: &[u8], selection: &mut LineSelection, each: Each<'_>) -> bool {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let line = selection.parse(line.strip_suffix(b"\n").unwrap_or(line));
        if selection.is_since(&line) {
            selection.since = None;
        }
        let wanted = selection.since.is_none() && selection.is_wanted(&line);
        if wanted && !each(LogEvent::Line(line)) {
            return false;
        }
    }
    true
}

fn read(
    query: &LogQuery,
    found: &FoundLog,
    mut follower: LogFollower,
    mut selection: LineSelection,
    each: Each<'_>,
) -> std::io::Result<()> {
    if let Some(most) = query.last() {
        let mut is_wanted = |line: &[u8]| {
            let line = selection.parse(line);
            Some(selection.is_wanted(&line) && selection.is_since(&line))
        };
        for line in follower.last(most, &mut is_wanted)? {
            if !each(LogEvent::Line(selection.parse(&line))) {
                return Ok(());
            }
        }
        selection.since = None;
        if !query.follow {
            return Ok(());
        }
    }
    let mut lines = Vec::new();
    let mut looked = Instant::now();
    let mut end: Option<ClientError> = None;
    loop {
        lines.clear();
        let more = follower.read(&mut lines)?;
        if follower.take_missed() && !each(LogEvent::Note(MISSED.to_owned())) {
            return Ok(());
        }
        if !pass(&lines, &mut selection, each) {
            return Ok(());
        }
        if more {
            continue;
        }
        // Everything that was written before the end was seen has been read.
        if let Some(error) = end {
            each(LogEvent::Note(ended_text(query, &error)));
            return Ok(());
        }
        if !query.follow || !each(LogEvent::Pause(INTERVAL)) {
            return Ok(());
        }
        if looked.elapsed() >= RUN_INTERVAL {
            looked = Instant::now();
            end = found.end(&query.name).filter(|_| !follower.has_writer());
        }
    }
}

const MISSED: &str =
    "lines are missing here: their file was removed before it was read (--log-files)";

/// Why `--follow` ends.
pub(super) fn ended_text(query: &LogQuery, error: &ClientError) -> String {
    let name = &query.name;
    match error.cause() {
        ClientError::Ended(ended) => format!("{name} has ended: {}", ended.why),
        ClientError::SupervisorDead(_) => {
            format!("{name} has ended: its supervisor was killed, and no worker is left")
        }
        _ => format!("{name} does not run"),
    }
}
