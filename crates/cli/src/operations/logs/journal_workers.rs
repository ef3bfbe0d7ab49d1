//! The workers of the processes that wrote to the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::holder::Unit;
use sameport_policy::output::{WorkerPids, worker_of_message};
use sameport_sys::process;

use super::journal_reader::{JournalEntry, JournalReader, NextEntry};
use super::model::{LogQuery, LogsError};
use super::source::FoundLog;

/// Messages of supervisors that are read, the newest ones.
const MESSAGES: usize = 100_000;

/// The name of a supervisor's process.
const COMMAND: &str = "sameport";

/// What is known of the processes of a unit: who they are now, and what supervisors wrote about earlier ones.
pub(super) struct JournalWorkers {
    supervisor: Option<i32>,
    /// The first processes of the present workers.
    first: BTreeMap<i32, u16>,
    /// These, and what was found below them.
    known: BTreeMap<i32, Option<u16>>,
    earlier: WorkerPids,
}

impl JournalWorkers {
    pub(super) fn of(found: &FoundLog, query: &LogQuery, unit: &Unit) -> Result<Self, LogsError> {
        let (first, known, earlier) = Default::default();
        let mut workers = Self { supervisor: None, first, known, earlier };
        workers.look(found, query);
        let mut reader = JournalReader::start(unit, |command| {
            command.arg(format!("--lines={MESSAGES}")).arg(format!("_COMM={COMMAND}"));
        })?;
        loop {
            match reader.next(Duration::from_secs(1)) {
                NextEntry::Entry(entry) => workers.learn(&entry),
                NextEntry::None => {}
                NextEntry::End => return reader.end().map(|()| workers),
            }
        }
    }

    /// Asks the run for its present workers.
    pub(super) fn look(&mut self, found: &FoundLog, query: &LogQuery) {
        let Ok(status) = found.runs.status(&query.name) else { return };
        self.supervisor = Some(status.pid);
        let pairs = status.workers.iter().filter_map(|it| Some((it.pid?, it.ordinal)));
        self.first = pairs.collect();
        self.known.clear();
    }

    /// Remembers what a supervisor says about a worker.
    pub(super) fn learn(&mut self, entry: &JournalEntry) {
        if !self.is_supervisor(entry) {
            return;
        }
        let text = entry.text();
        let named = std::str::from_utf8(&text).ok().and_then(worker_of_message);
        if let Some((worker, pid)) = named {
            self.earlier.add(entry.microseconds, pid, worker);
        }
    }

    /// Whether a supervisor wrote the entry. A worker may be called so, too: it then names its own lines only.
    pub(super) fn is_supervisor(&self, entry: &JournalEntry) -> bool {
        let is_worker = entry.pid.is_some_and(|pid| self.first.contains_key(&pid));
        let is_known = entry.pid.is_some() && entry.pid == self.supervisor;
        is_known || (!is_worker && entry.command.as_deref() == Some(COMMAND))
    }

    /// The worker that wrote the entry, or below which the process is that did.
    pub(super) fn worker(&mut self, entry: &JournalEntry) -> Option<u16> {
        let pid = entry.pid?;
        let first = &self.first;
        let now = *self.known.entry(pid).or_insert_with(|| {
            let mut next = Some(pid);
            for _ in 0..32 {
                let pid = next?;
                if let Some(worker) = first.get(&pid) {
                    return Some(*worker);
                }
                next = process::parent_of(pid).filter(|parent| *parent > 1);
            }
            None
        });
        self.earlier.worker(entry.microseconds, pid, now)
    }
}
