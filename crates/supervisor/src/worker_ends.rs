//! How each worker ended last, and what it wrote before.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_sys::log_file;

use crate::control::client;
use crate::output;
use crate::plan::WorkerOutput;

/// The limits of the output that is kept of one worker.
const LINES: usize = 10;
const BYTES: u64 = 4096;

/// The most workers whose output is kept.
const MOST_OUTPUTS: usize = 16;

/// The last end of a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerEnd {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) how: String,
}

/// An instance whose output is kept.
#[derive(Debug)]
struct LoggedInstance {
    /// Size of the log file when it started.
    size: u64,
    /// When it started, in milliseconds since 1970.
    since: u64,
    was_ready: bool,
}

#[derive(Debug, Default)]
pub(crate) struct WorkerEnds {
    /// Where the output of workers goes.
    log: WorkerOutput,
    logged: BTreeMap<InstanceId, LoggedInstance>,
    last: BTreeMap<u16, WorkerEnd>,
    /// Why instances were asked to end, if they were not ready in time.
    not_ready: BTreeMap<InstanceId, String>,
    /// The last lines of workers that ended badly.
    output: BTreeMap<u16, Vec<String>>,
    /// Workers that ended badly whose last lines the log writer may not have written yet, with the start of their
    /// instance.
    unread: BTreeMap<u16, u64>,
}

impl WorkerEnds {
    pub(crate) fn new(log: WorkerOutput) -> Self {
        Self { log, ..Self::default() }
    }

    /// Opens the log file for an instance: a rotated file is replaced at the next start.
    pub(crate) fn open_log(&mut self, start: InstanceId) -> io::Result<Option<OwnedFd>> {
        let (file, size) = match &self.log {
            WorkerOutput::Inherited | WorkerOutput::Prefixed { .. } => return Ok(None),
            WorkerOutput::File(path) => {
                log_file::open(path).map(|(file, size)| (Some(file), size))?
            }
            WorkerOutput::Kept(_) => (None, 0),
        };
        let since = client::now();
        self.logged.insert(start, LoggedInstance { size, since, was_ready: false });
        Ok(file)
    }

    pub(crate) fn ready(&mut self, start: InstanceId) {
        if let Some(instance) = self.logged.get_mut(&start) {
            instance.was_ready = true;
        }
    }

    /// The instance was not ready in time, and is asked to end.
    pub(crate) fn not_ready(&mut self, start: InstanceId, why: String) {
        self.not_ready.insert(start, why);
    }

    /// The instance ended. `was_told`: the supervisor had asked it to end.
    pub(crate) fn ended(&mut self, start: InstanceId, ordinal: u16, exit: Exit, was_told: bool) {
        let how = self.not_ready.remove(&start).unwrap_or_else(|| exit.to_string());
        self.last.insert(ordinal, WorkerEnd { at: client::now(), how });
        if matches!(self.log, WorkerOutput::Inherited | WorkerOutput::Prefixed { .. }) {
            return;
        }
        // After a `reexec` the beginning is not known: the worker was ready.
        let unknown = LoggedInstance { size: 0, since: 0, was_ready: true };
        let logged = self.logged.remove(&start).unwrap_or(unknown);
        if was_told && logged.was_ready {
            return;
        }
        let lines = match &self.log {
            // Without its output, `status` still has how it ended.
            WorkerOutput::File(path) => log_file::last_lines(path, logged.size, LINES, BYTES),
            _ => {
                self.unread.insert(ordinal, logged.since);
                return;
            }
        };
        self.keep(ordinal, lines.unwrap_or_default());
    }

    /// Reads what workers that ended badly wrote last, where a log writer writes it.
    pub(crate) fn read_output(&mut self) {
        let WorkerOutput::Kept(log) = &self.log else { return };
        let directory = log.directory.clone();
        for (ordinal, since) in std::mem::take(&mut self.unread) {
            let lines = output::last_lines(&directory, ordinal, since, LINES);
            self.keep(ordinal, lines);
        }
    }

    fn keep(&mut self, ordinal: u16, lines: Vec<String>) {
        self.output.insert(ordinal, lines);
        if self.output.len() > MOST_OUTPUTS {
            let ended = |ordinal: &u16| self.last.get(ordinal).map_or(0, |end| end.at);
            let oldest = self.output.keys().copied().min_by_key(ended);
            oldest.map(|ordinal| self.output.remove(&ordinal));
        }
    }

    /// The last end of a worker.
    pub(crate) fn last(&self, ordinal: u16) -> Option<&WorkerEnd> {
        self.last.get(&ordinal)
    }

    /// The last lines of a worker that ended badly.
    pub(crate) fn output(&self, ordinal: u16) -> &[String] {
        self.output.get(&ordinal).map_or(&[], Vec::as_slice)
    }
}
