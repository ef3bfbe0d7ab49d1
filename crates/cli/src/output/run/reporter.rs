//! Writes the lines of `run` to stderr, each with the prefix `sameport: `, because the workers write
//! there too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sameport_supervisor::RunEvent;
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};

use super::events::event_lines;
use crate::output::stderr;
use crate::output::stderr::Severity;
use crate::output::text::printable;

/// A line and how important it is.
type SeverityLine = (Severity, String);

/// Writes from a thread of its own: a stderr whose reader has stopped must not delay the binds of the
/// workers. Lines that find the queue full are dropped and counted.
///
/// The thread starts with the first line. By then the supervisor has blocked the signals that it waits
/// for; a thread with another mask would receive them.
pub(crate) struct StderrLines {
    quiet: bool,
    dropped: Arc<AtomicUsize>,
    writer: Option<(SyncSender<SeverityLine>, JoinHandle<()>)>,
}

impl StderrLines {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, dropped: Arc::default(), writer: None }
    }

    pub(crate) fn report(&mut self, event: &RunEvent) {
        const QUEUE: usize = 1024;
        if self.quiet {
            return;
        }
        let (sender, _) = self.writer.get_or_insert_with(|| {
            let (sender, lines) = sync_channel(QUEUE);
            let dropped = self.dropped.clone();
            (sender, std::thread::spawn(move || write_all(&lines, &dropped)))
        });
        let mut severity = severity(event);
        for line in event_lines(event) {
            // The next step of an error is as important as the error.
            if !line.starts_with("hint:") {
                severity = severity.min(Severity::of(&line));
            }
            if sender.try_send((severity, line)).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until the queue is written, at most a second.
    pub(crate) fn finish(self) {
        const TIMEOUT: Duration = Duration::from_secs(1);
        let Some((sender, writer)) = self.writer else { return };
        drop(sender);
        let deadline = Instant::now() + TIMEOUT;
        while !writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How important an event is, whatever its lines begin with.
fn severity(event: &RunEvent) -> Severity {
    match event {
        RunEvent::WorkerChanged(WorkerUpdate { state: WorkerPhase::Waiting, .. }) => {
            Severity::Warning
        }
        _ => Severity::Info,
    }
}

fn write_all(lines: &Receiver<SeverityLine>, dropped: &AtomicUsize) {
    // Names of programs, users and files are part of the lines, so control characters are escaped.
    let write = |severity, line: &str| {
        stderr::write(severity, &format!("sameport: {}", printable(line)));
    };
    while let Ok((severity, line)) = lines.recv() {
        write(severity, &line);
        lines.try_iter().for_each(|(severity, line)| write(severity, &line));
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            count => write(
                Severity::Warning,
                &format!("note: {count} more lines came faster than they were read"),
            ),
        }
    }
}
