//! Writing records to files on a thread of its own.
//!
//! A slow disk slows the workers, as it does if they write a file themselves: nothing is lost. A disk that takes
//! nothing for [`STALL`] or that refuses (full, read-only) loses records, which are counted. The count is written
//! as a record of its own as soon as the disk takes it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use sameport_policy::output::{LineEnding, push_record, rfc3339};
use sameport_sys::kept_log::LogFiles;

use super::LAST_OUTPUT;

/// Bytes that wait for the disk.
const LIMIT: usize = 4 * 1024 * 1024;

/// Time without progress after which the disk counts as one that takes nothing.
const STALL: Duration = Duration::from_secs(1);

/// Interval at which the disk is tried again after an error.
const RETRY: Duration = Duration::from_millis(500);

/// Records that were not written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Lost {
    lines: u64,
    bytes: u64,
}

impl Lost {
    fn add(&mut self, records: &[u8]) {
        self.lines += records.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += records.len() as u64;
    }
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread works on records that it has taken.
    writing: bool,
    /// Number of times that the thread has written.
    progress: u64,
    stalled: bool,
    closed: bool,
    lost: Lost,
}

/// The thread, and what it shares with the reader of the pipes.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most for `limit`.
    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, limit: Duration) -> MutexGuard<'a, Queue> {
        let waited = self.changed.wait_timeout(queue, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until `is_done`, while the thread makes progress at least every `stall`.
    fn wait_until<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        stall: Duration,
        is_done: impl Fn(&Queue) -> bool,
    ) -> (MutexGuard<'a, Queue>, bool) {
        let mut seen = (queue.progress, std::time::Instant::now());
        while !is_done(&queue) {
            if queue.progress != seen.0 {
                seen = (queue.progress, std::time::Instant::now());
            }
            let rest = stall.saturating_sub(seen.1.elapsed());
            if rest.is_zero() {
                return (queue, false);
            }
            queue = self.wait(queue, rest);
        }
        (queue, true)
    }
}

impl Disk {
    /// Starts the thread. `label`: in front of the record about lost lines.
    pub(super) fn start(files: LogFiles, label: String) -> Self {
        Self::with_sink(Box::new(Files { files }), label)
    }

    fn with_sink(sink: Box<dyn Sink>, label: String) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || write_all(&of_thread, sink, &label));
        Self { shared, thread: Some(thread) }
    }

    /// Passes records to the thread, or counts them as lost.
    pub(super) fn push(&self, records: Vec<u8>) {
        let has_room = |queue: &Queue| queue.bytes < LIMIT;
        let queue = self.shared.queue();
        let (mut queue, has_room) = match queue.stalled {
            true => {
                let has_room = has_room(&queue);
                (queue, has_room)
            }
            false => self.shared.wait_until(queue, STALL, has_room),
        };
        queue.stalled = !has_room;
        match has_room {
            true => {
                queue.bytes += records.len();
                queue.batches.push_back(records);
            }
            false => queue.lost.add(&records),
        }
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, or until the disk takes nothing for as long as the supervisor waits. A disk
    /// that others keep busy is slower than [`STALL`] now and then.
    pub(super) fn settle(&self) {
        let is_idle = |queue: &Queue| queue.batches.is_empty() && !queue.writing;
        let _ = self.shared.wait_until(self.shared.queue(), LAST_OUTPUT, is_idle);
    }

    /// Writes the rest, and ends the thread. Waits as long as the disk takes: nobody waits for this process any more,
    /// and its end would lose what the disk has not taken. A disk that refuses ends the thread.
    pub(super) fn finish(mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has panicked: nothing is left to do.
            let _ = thread.join();
        }
    }
}

/// Where records go. A trait, because a test needs a disk that takes nothing.
trait Sink: Send {
    /// Writes whole records. Returns the bytes that were taken, and why not all were.
    fn append(&mut self, records: &[u8]) -> (usize, Option<String>);
}

struct Files {
    files: LogFiles,
}

impl Sink for Files {
    fn append(&mut self, records: &[u8]) -> (usize, Option<String>) {
        let (written, refusal) = self.files.append(records);
        (written, refusal.map(|refusal| refusal.to_string()))
    }
}

fn write_all(shared: &Shared, mut sink: Box<dyn Sink>, label: &str) {
    let mut why = String::new();
    loop {
        let mut queue = shared.queue();
        while queue.batches.is_empty() && !queue.closed {
            if queue.lost == Lost::default() {
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue = shared.wait(queue, RETRY);
            if queue.batches.is_empty() {
                break;
            }
        }
        let (batches, lost, closed) =
            (std::mem::take(&mut queue.batches), std::mem::take(&mut queue.lost), queue.closed);
        queue.bytes = 0;
        queue.writing = true;
        drop(queue);
        shared.changed.notify_all();
        let left = write(&batches, lost, sink.as_mut(), &mut why, label, shared);
        let mut queue = shared.queue();
        queue.lost.lines += left.lines;
        queue.lost.bytes += left.bytes;
        queue.writing = false;
        drop(queue);
        shared.changed.notify_all();
        if closed {
            return;
        }
    }
}

/// Writes the record about lost ones, and then records. Returns what is lost.
fn write(
    batches: &VecDeque<Vec<u8>>,
    lost: Lost,
    sink: &mut dyn Sink,
    why: &mut String,
    label: &str,
    shared: &Shared,
) -> Lost {
    let mut left = lost;
    if lost != Lost::default() {
        let reason = if why.is_empty() { "the disk takes nothing" } else { why.as_str() };
        let text = format!("{} lines ({} bytes) are lost: {reason}", lost.lines, lost.bytes);
        let mut record = Vec::new();
        push_record(&mut record, Some(&now()), label, LineEnding::Newline, text.as_bytes());
        match sink.append(&record) {
            (_, None) => left = Lost::default(),
            (_, Some(error)) => *why = error,
        }
    }
    for batch in batches {
        // The records after a lost one are lost too, so that the count stands in their place.
        let taken = match left == Lost::default() {
            true => {
                let (taken, error) = sink.append(batch);
                if let Some(error) = error {
                    *why = error;
                }
                taken
            }
            false => 0,
        };
        left.add(&batch[taken..]);
        shared.queue().progress += 1;
        shared.changed.notify_all();
    }
    left
}

/// The present time, for a record.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(u64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A disk that takes records when the test says so, and reports them.
    struct Gate {
        answers: Receiver<Option<&'static str>>,
        written: Sender<String>,
    }

    impl Sink for Gate {
        fn append(&mut self, records: &[u8]) -> (usize, Option<String>) {
            match self.answers.recv() {
                Ok(None) | Err(_) => {
                    let text = String::from_utf8_lossy(&records[..records.len().min(200)]);
                    let _ = self.written.send(text.into_owned());
                    (records.len(), None)
                }
                Ok(Some(error)) => (0, Some(error.to_owned())),
            }
        }
    }

    fn gate() -> (Disk, Sender<Option<&'static str>>, Receiver<String>) {
        let ((answer, answers), (written, writes)) = (channel(), channel());
        (Disk::with_sink(Box::new(Gate { answers, written }), "web".to_owned()), answer, writes)
    }

    #[test]
    fn lost_records_are_counted_and_the_count_is_written() {
        let (disk, answer, writes) = gate();
        answer.send(Some("full")).unwrap();
        answer.send(None).unwrap();
        answer.send(None).unwrap();
        disk.push(b"one\ntwo\n".to_vec());
        let lost = writes.recv().unwrap();
        assert!(lost.ends_with("web | 2 lines (8 bytes) are lost: full\n"), "{lost}");
        disk.push(b"three\n".to_vec());
        assert_eq!(writes.recv().unwrap(), "three\n");
        drop(answer);
        disk.finish();
    }

    #[test]
    fn the_last_records_wait_for_a_slow_disk() {
        let (disk, answer, writes) = gate();
        disk.push(b"last\n".to_vec());
        let slow = std::thread::spawn(move || {
            std::thread::sleep(STALL + RETRY);
            drop(answer);
        });
        disk.finish();
        assert_eq!(writes.try_recv().as_deref(), Ok("last\n"));
        slow.join().unwrap();
        // A disk that refuses does not keep the process.
        let (disk, answer, _writes) = gate();
        answer.send(Some("full")).unwrap();
        answer.send(Some("full")).unwrap();
        disk.push(b"lost\n".to_vec());
        disk.finish();
    }

    #[test]
    fn a_disk_that_takes_nothing_delays_the_reader_once_and_then_no_more() {
        let (disk, answer, writes) = gate();
        let batch = || vec![b'\n'; LIMIT];
        disk.push(batch());
        // The first batch is with the disk, or about to be; the second fills the queue.
        while !disk.shared.queue().writing {
            std::thread::yield_now();
        }
        disk.push(batch());
        disk.push(batch());
        assert!(disk.shared.queue().stalled);
        for _ in 0..100 {
            disk.push(b"x\n".to_vec());
        }
        assert_eq!(disk.shared.queue().lost.lines, LIMIT as u64 + 100);
        // The disk works again.
        drop(answer);
        let lost = std::iter::from_fn(|| writes.recv().ok()).find(|it| it.contains("lost"));
        let lines = LIMIT + 100;
        assert!(lost.is_some_and(|it| it.contains(&format!("{lines} lines ("))));
        disk.push(b"y\n".to_vec());
        assert!(std::iter::from_fn(|| writes.recv().ok()).any(|it| it == "y\n"));
        disk.finish();
    }
}
