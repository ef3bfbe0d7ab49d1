//! Lines of a service, from the journal (`journalctl(1)`).

use std::time::{Duration, Instant};

use sameport_policy::holder::Unit;
use sameport_policy::output::{LineEnding, rfc3339};

use super::files::ended_text;
use super::journal_reader::{JournalEntry, JournalReader, NextEntry};
use super::journal_workers::JournalWorkers;
use super::model::{Each, LogEvent, LogLine, LogQuery, LogsError};
use super::source::FoundLog;

/// Interval at which the run and the reader are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Reads the lines of a unit.
pub(super) fn read(
    query: &LogQuery,
    found: &FoundLog,
    unit: &Unit,
    each: Each<'_>,
) -> Result<(), LogsError> {
    let mut workers = JournalWorkers::of(found, query, unit)?;
    let mut cursor = None;
    if let Some(most) = query.last() {
        let last = last_lines(query, unit, &mut workers, most)?;
        cursor = last.newest;
        for entry in last.entries.iter().rev() {
            if !pass(query, entry, workers.worker(entry), &workers, each) {
                return Ok(());
            }
        }
        if !query.follow {
            return Ok(());
        }
    }
    let mut reader = JournalReader::start(unit, |command| {
        command.arg("--lines=all");
        match (&cursor, query.since) {
            (Some(cursor), _) => _ = command.arg(format!("--after-cursor={cursor}")),
            (None, Some(since)) => _ = command.arg(since_argument(since)),
            // The journal had nothing.
            (None, None) => {}
        }
        if query.follow {
            command.arg("--follow");
        }
    })?;
    let mut looked = Instant::now();
    loop {
        let next = reader.next(INTERVAL);
        if query.follow && looked.elapsed() >= INTERVAL {
            looked = Instant::now();
            workers.look(found, query);
        }
        let goes_on = match next {
            NextEntry::Entry(entry) => {
                workers.learn(&entry);
                let worker = match workers.worker(&entry) {
                    // A worker that has started since.
                    None if query.follow && !workers.is_supervisor(&entry) => {
                        workers.look(found, query);
                        workers.worker(&entry)
                    }
                    worker => worker,
                };
                pass(query, &entry, worker, &workers, each)
            }
            NextEntry::None if query.follow => match found.end(&query.name) {
                Some(error) => {
                    each(LogEvent::Note(ended_text(query, &error)));
                    return Ok(());
                }
                None => each(LogEvent::Pause(Duration::ZERO)),
            },
            NextEntry::None => each(LogEvent::Pause(Duration::ZERO)),
            NextEntry::End => return reader.end(),
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// The last lines that are wanted.
struct LastLines {
    /// The newest first.
    entries: Vec<JournalEntry>,
    /// The place of the newest entry, wanted or not.
    newest: Option<String>,
}

/// Reads back from the newest entry, so that lines of other workers do not count.
fn last_lines(
    query: &LogQuery,
    unit: &Unit,
    workers: &mut JournalWorkers,
    most: usize,
) -> Result<LastLines, LogsError> {
    let mut reader = JournalReader::start(unit, |command| {
        command.args(["--reverse", "--lines=all"]);
        if let Some(since) = query.since {
            command.arg(since_argument(since));
        }
    })?;
    let mut last = LastLines { entries: Vec::new(), newest: None };
    loop {
        match reader.next(INTERVAL) {
            NextEntry::Entry(entry) => {
                last.newest.get_or_insert_with(|| entry.cursor.clone());
                if last.entries.len() == most {
                    return Ok(last);
                }
                if query.worker.is_none() || query.worker == workers.worker(&entry) {
                    last.entries.push(entry);
                }
            }
            NextEntry::None => {}
            NextEntry::End => return reader.end().map(|()| last),
        }
    }
}

/// The journal takes a time with a fraction of a second.
fn since_argument(since: u64) -> String {
    format!("--since=@{}.{:03}", since / 1000, since % 1000)
}

fn pass(
    query: &LogQuery,
    entry: &JournalEntry,
    worker: Option<u16>,
    workers: &JournalWorkers,
    each: Each<'_>,
) -> bool {
    if query.worker.is_some() && query.worker != worker {
        return true;
    }
    let name = &query.name;
    let label = match worker {
        Some(worker) => format!("{name}.{worker}"),
        None if workers.is_supervisor(entry) => name.to_string(),
        // A process below a worker, and the worker has ended.
        None => format!("{name}.?"),
    };
    let (time, text) = (rfc3339(entry.microseconds / 1000), entry.text());
    let (time, label) = (Some(time.as_str()), Some(label.as_str()));
    let (ending, pid) = (LineEnding::Newline, entry.pid);
    each(LogEvent::Line(LogLine { time, label, worker, ending, text: &text, pid }))
}
