//! Reports of one answering thread that wait to be sent together: one wakes the supervisor as well as
//! many.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::interpose::kept::KeptSockets;
use crate::report::Report;

#[derive(Debug)]
pub(super) struct Outbox {
    sender: Sender<Report>,
    kept: KeptSockets,
    reports: Vec<Report>,
    since: Instant,
}

impl Outbox {
    /// How long a report waits for others.
    const DELAY: Duration = Duration::from_millis(1);
    /// How many reports wait.
    const MOST: usize = 256;

    /// Sends reports to `sender`, and gives up following a socket of `kept` where the channel is full.
    pub(super) fn new(sender: Sender<Report>, kept: KeptSockets) -> Self {
        Self { sender, kept, reports: Vec::new(), since: Instant::now() }
    }

    pub(super) fn push(&mut self, report: Report) {
        if self.reports.is_empty() {
            self.since = Instant::now();
        }
        self.reports.push(report);
    }

    /// How long the thread may wait for the next call.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.reports.is_empty()).then(|| Self::DELAY.saturating_sub(self.since.elapsed()))
    }

    pub(super) fn flush_due(&mut self) {
        let is_due = self.reports.len() >= Self::MOST || self.since.elapsed() >= Self::DELAY;
        if is_due {
            self.flush();
        }
    }

    /// A full channel loses a report, never an answer; the socket is not followed then.
    pub(super) fn flush(&mut self) {
        for report in self.reports.drain(..) {
            if let Err(lost) = self.sender.try_send(report)
                && let Report::CallAnswered(call) = lost.into_inner()
            {
                self.kept.lose(call.inode);
            }
        }
    }
}
