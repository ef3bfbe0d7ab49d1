//! How each worker ended last, and what it wrote before.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_sys::log_file;

use crate::control::client;

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

/// An instance whose output goes to the log file.
#[derive(Debug)]
struct LoggedInstance {
    /// Size of the file when it started.
    size: u64,
    was_ready: bool,
}

#[derive(Debug, Default)]
pub(crate) struct WorkerEnds {
    /// The log file (`--log`).
    log: Option<PathBuf>,
    logged: BTreeMap<InstanceId, LoggedInstance>,
    last: BTreeMap<u16, WorkerEnd>,
    /// Why instances were asked to end, if they were not ready in time.
    not_ready: BTreeMap<InstanceId, String>,
    /// The last lines of workers that ended badly.
    output: BTreeMap<u16, Vec<String>>,
}

impl WorkerEnds {
    pub(crate) fn new(log: Option<PathBuf>) -> Self {
        Self { log, ..Self::default() }
    }

    /// Opens the log file for an instance: a rotated file is replaced at the next start.
    pub(crate) fn open_log(&mut self, start: InstanceId) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.log else { return Ok(None) };
        let (file, size) = log_file::open(path)?;
        self.logged.insert(start, LoggedInstance { size, was_ready: false });
        Ok(Some(file))
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
        let Some(path) = &self.log else { return };
        // After a `reexec` the size is not known: the worker was ready.
        let unknown = LoggedInstance { size: 0, was_ready: true };
        let LoggedInstance { size, was_ready } = self.logged.remove(&start).unwrap_or(unknown);
        if was_told && was_ready {
            return;
        }
        let lines = log_file::last_lines(path, size, LINES, BYTES);
        // Without its output, `status` still has how it ended.
        self.output.insert(ordinal, lines.unwrap_or_default());
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
