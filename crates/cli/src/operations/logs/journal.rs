//! Lines of a service, from the journal (`journalctl(1)`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use sameport_policy::holder::{Manager, Unit};
use sameport_policy::output::{LineEnding, rfc3339};
use sameport_sys::process;
use serde::Deserialize;
use serde_json::Value;

use super::files::ended_text;
use super::model::{Each, LogEvent, LogLine, LogQuery, LogsError};
use super::source::FoundLog;

/// Interval at which the run and the reader are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// The fields of an entry that matter here: all are text, a message that is not UTF-8 is a list of bytes.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    microseconds: String,
    #[serde(rename = "_PID")]
    pid: Option<String>,
}

impl Entry {
    fn text(&self) -> Vec<u8> {
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

/// The workers of pids: the first processes, and what is found below them.
struct Workers {
    supervisor: Option<i32>,
    first: BTreeMap<i32, u16>,
    known: BTreeMap<i32, Option<u16>>,
}

impl Workers {
    fn of(found: &FoundLog, query: &LogQuery) -> Self {
        let status = found.runs.status(&query.name).ok();
        let pairs = status.iter().flat_map(|it| &it.workers);
        let first: BTreeMap<i32, u16> =
            pairs.filter_map(|it| Some((it.pid?, it.ordinal))).collect();
        Self { supervisor: status.map(|it| it.pid), first, known: BTreeMap::new() }
    }

    fn worker(&mut self, pid: i32) -> Option<u16> {
        let first = &self.first;
        *self.known.entry(pid).or_insert_with(|| {
            let mut next = Some(pid);
            for _ in 0..32 {
                let pid = next?;
                if let Some(worker) = first.get(&pid) {
                    return Some(*worker);
                }
                next = process::parent_of(pid).filter(|parent| *parent > 1);
            }
            None
        })
    }
}

/// Reads the lines of a unit.
pub(super) fn read(
    query: &LogQuery,
    found: &FoundLog,
    unit: &Unit,
    each: Each<'_>,
) -> Result<(), LogsError> {
    let failed = |why: String| LogsError::Journal(why, unit.name.clone());
    let mut child = start(query, unit).map_err(|error| failed(format!("journalctl: {error}")))?;
    let lines = lines_of(&mut child);
    let mut workers = Workers::of(found, query);
    let pass = |line: &str, workers: &mut Workers, each: Each<'_>| {
        let Ok(entry) = serde_json::from_str::<Entry>(line) else { return true };
        let pid: Option<i32> = entry.pid.as_deref().and_then(|pid| pid.parse().ok());
        let worker = pid.and_then(|pid| workers.worker(pid));
        if query.worker.is_some() && query.worker != worker {
            return true;
        }
        let name = &query.name;
        let label = match worker {
            Some(worker) => format!("{name}.{worker}"),
            None if pid == workers.supervisor => name.to_string(),
            // A worker that has ended, or a process that it left.
            None => format!("{name}.?"),
        };
        let microseconds: u64 = entry.microseconds.parse().unwrap_or(0);
        let (time, text) = (rfc3339(microseconds / 1000), entry.text());
        let (time, label) = (Some(time.as_str()), Some(label.as_str()));
        let ending = LineEnding::Newline;
        each(LogEvent::Line(LogLine { time, label, worker, ending, text: &text, pid }))
    };
    let mut looked = Instant::now();
    let mut any = false;
    let result = loop {
        match lines.recv_timeout(INTERVAL) {
            Ok(line) => {
                any = true;
                if !pass(&line, &mut workers, each) {
                    break Ok(());
                }
            }
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                if !each(LogEvent::Pause(Duration::ZERO)) {
                    break Ok(());
                }
                if query.follow && looked.elapsed() >= INTERVAL {
                    looked = Instant::now();
                    workers = Workers::of(found, query);
                    if let Some(error) = found.end(&query.name) {
                        each(LogEvent::Note(ended_text(query, &error)));
                        break Ok(());
                    }
                }
            }
        }
    };
    let error = end(child);
    match (any, error) {
        (false, Some(error)) => Err(failed(error)),
        _ => result,
    }
}

fn start(query: &LogQuery, unit: &Unit) -> std::io::Result<Child> {
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--no-pager", "--quiet", "--all"]);
    // Messages of the service manager about the unit are not the run's.
    match unit.manager {
        Manager::System => command.arg(format!("_SYSTEMD_UNIT={}", unit.name)),
        Manager::User(uid) => {
            command.arg(format!("_SYSTEMD_USER_UNIT={}", unit.name)).arg(format!("_UID={uid}"))
        }
    };
    if query.follow {
        command.arg("--follow");
    }
    // Lines of one worker are chosen here, so that -n counts those of all workers.
    match query.last() {
        Some(lines) => command.arg(format!("--lines={lines}")),
        None => command.arg("--lines=all"),
    };
    if let Some(since) = query.since {
        command.arg(format!("--since=@{}", since / 1000));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
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

/// Ends journalctl, and returns what it complained about.
fn end(mut child: Child) -> Option<String> {
    // It may have ended.
    let _ = child.kill();
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.by_ref().take(4096).read_to_string(&mut text);
    }
    let _ = child.wait();
    let first = text.lines().next().map(str::to_owned);
    first.filter(|line| !line.is_empty())
}
