//! Entries of the journal, from journalctl.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use sameport_policy::holder::{Manager, Unit};
use serde::Deserialize;
use serde_json::Value;

use super::model::LogsError;

/// The fields of an entry that matter here. All are text; a message that is not UTF-8 is a list of bytes.
#[derive(Deserialize)]
struct EntryFields {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    microseconds: String,
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "_PID")]
    pid: Option<String>,
    #[serde(rename = "_COMM")]
    command: Option<String>,
}

/// An entry.
pub(super) struct JournalEntry {
    message: Value,
    /// Since 1970.
    pub(super) microseconds: u64,
    /// Its place in the journal.
    pub(super) cursor: String,
    pub(super) pid: Option<i32>,
    /// The name of the process, as the kernel has it.
    pub(super) command: Option<String>,
}

impl JournalEntry {
    fn parse(line: &str) -> Option<Self> {
        let fields: EntryFields = serde_json::from_str(line).ok()?;
        Some(Self {
            message: fields.message,
            microseconds: fields.microseconds.parse().ok()?,
            cursor: fields.cursor,
            pid: fields.pid.and_then(|pid| pid.parse().ok()),
            command: fields.command,
        })
    }

    pub(super) fn text(&self) -> Vec<u8> {
        match &self.message {
            Value::String(text) => text.clone().into_bytes(),
            Value::Array(bytes) => {
                let byte = |it: &Value| it.as_u64().and_then(|it| u8::try_from(it).ok());
                bytes.iter().filter_map(byte).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What a wait for an entry gives.
pub(super) enum NextEntry {
    Entry(JournalEntry),
    /// None has come within the time.
    None,
    /// journalctl has ended.
    End,
}

/// A journalctl that runs; ends it when dropped.
pub(super) struct JournalReader {
    child: Child,
    lines: Receiver<String>,
    unit: String,
    any: bool,
}

impl JournalReader {
    /// Asks for the messages of a unit's processes. `choose` adds to the command line.
    pub(super) fn start(unit: &Unit, choose: impl FnOnce(&mut Command)) -> Result<Self, LogsError> {
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--no-pager", "--quiet", "--all"]);
        command.arg("--output-fields=MESSAGE,_PID,_COMM");
        // Messages of the service manager about the unit are not the run's.
        match unit.manager {
            Manager::System => command.arg(format!("_SYSTEMD_UNIT={}", unit.name)),
            Manager::User(uid) => {
                command.arg(format!("_SYSTEMD_USER_UNIT={}", unit.name)).arg(format!("_UID={uid}"))
            }
        };
        choose(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error| LogsError::Journal(format!("journalctl: {error}"), unit.name.clone());
        let mut child = command.spawn().map_err(failed)?;
        let lines = lines_of(&mut child);
        Ok(Self { child, lines, unit: unit.name.clone(), any: false })
    }

    pub(super) fn next(&mut self, wait: Duration) -> NextEntry {
        match self.lines.recv_timeout(wait) {
            Ok(line) => {
                self.any = true;
                JournalEntry::parse(&line).map_or(NextEntry::None, NextEntry::Entry)
            }
            Err(RecvTimeoutError::Timeout) => NextEntry::None,
            Err(RecvTimeoutError::Disconnected) => NextEntry::End,
        }
    }

    /// What journalctl complained about before its end, if it had no entry.
    pub(super) fn end(&mut self) -> Result<(), LogsError> {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.by_ref().take(4096).read_to_string(&mut text);
        }
        match text.lines().next().filter(|line| !line.is_empty() && !self.any) {
            Some(why) => Err(LogsError::Journal(why.to_owned(), self.unit.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that the child prints, read by a thread: this one waits with a limit.
fn lines_of(child: &mut Child) -> Receiver<String> {
    const QUEUE: usize = 1024;
    let (sender, lines) = sync_channel(QUEUE);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if !line.is_ok_and(|line| sender.send(line).is_ok()) {
                    return;
                }
            }
        });
    }
    lines
}
