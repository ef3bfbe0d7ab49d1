//! The log writer: reads the pipes of workers, and writes their lines.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sameport_policy::output::record::worker_of;
use sameport_policy::output::{LineEnding, LineSplitter, push_record};
use sameport_sys::Errno;
use sameport_sys::fd::inherit;
use sameport_sys::fd::poll::{wait_each, wait_writable};
use sameport_sys::kept_log::{LogFiles, PipeReceiver, ReceivedPipe, outlive_the_run, read_pipe};

use super::disk::{Disk, now};

/// Bytes of one read of a pipe.
const BLOCK: usize = 64 * 1024;

/// A begun line is written as it is when its worker has not gone on for this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Most rounds over the pipes after the supervisor has said that it ends.
const LAST_ROUNDS: usize = 1000;

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// To files that are rotated.
    Files {
        /// Their directory.
        directory: PathBuf,
        /// Size of each in bytes.
        max_size: u64,
        /// Their number.
        files: u32,
    },
    /// To the standard output.
    Stdout {
        /// Whether the label is coloured.
        color: bool,
    },
}

/// A pipe that has writers.
struct Pipe {
    label: String,
    fd: OwnedFd,
    splitter: LineSplitter,
    /// The last read that gave bytes.
    read: Instant,
}

/// Reads the pipes that arrive on the standard input, until the supervisor sends no more and no pipe has a writer.
/// `name`: the label of the log writer's own records.
///
/// # Errors
///
/// Errors of `sigprocmask(2)` and `poll(2)`.
pub fn run(name: &str, target: LogTarget) -> io::Result<()> {
    outlive_the_run()?;
    let mut control = Some(PipeReceiver::of_stdin()?);
    let mut lines = Lines::new(name, target);
    let mut pipes: Vec<Pipe> = Vec::new();
    let mut buffer = vec![0; BLOCK];
    while control.is_some() || !pipes.is_empty() {
        let pauses = pipes.iter().any(|pipe| pipe.splitter.is_open());
        let ready = {
            let fds = control.iter().map(|it| it.fd().as_fd());
            let fds: Vec<_> = fds.chain(pipes.iter().map(|it| it.fd.as_fd())).collect();
            wait_each(&fds, pauses.then_some(PAUSE))?
        };
        let of_control = usize::from(control.is_some());
        read_ready(&mut pipes, &ready[of_control..], &mut buffer, &mut lines);
        lines.pass_on();
        if let Some(receiver) = control.as_ref().filter(|_| ready[0])
            && !receive(receiver, &mut pipes)
        {
            finish(receiver, &mut pipes, &mut buffer, &mut lines)?;
            control = None;
        }
    }
    lines.end();
    Ok(())
}

/// Takes the pipes that have arrived. `false`: no more will.
fn receive(receiver: &PipeReceiver, pipes: &mut Vec<Pipe>) -> bool {
    loop {
        match receiver.receive() {
            ReceivedPipe::Nothing => return true,
            ReceivedPipe::End => return false,
            ReceivedPipe::Pipe(label, fd) => {
                let (splitter, read) = (LineSplitter::default(), Instant::now());
                pipes.push(Pipe { label, fd, splitter, read });
            }
        }
    }
}

/// Writes what is in the pipes, and tells the supervisor.
fn finish(
    receiver: &PipeReceiver,
    pipes: &mut Vec<Pipe>,
    buffer: &mut [u8],
    lines: &mut Lines,
) -> io::Result<()> {
    for _ in 0..LAST_ROUNDS {
        let ready = {
            let fds: Vec<_> = pipes.iter().map(|it| it.fd.as_fd()).collect();
            wait_each(&fds, Some(Duration::ZERO))?
        };
        if !ready.contains(&true) {
            break;
        }
        read_ready(pipes, &ready, buffer, lines);
        lines.pass_on();
    }
    // Another log writer may read on: what is begun is written as it is.
    for Pipe { label, splitter, .. } in pipes.iter_mut() {
        splitter.flush(&mut |ending, text| lines.add(label, ending, text));
    }
    lines.pass_on();
    lines.settle();
    receiver.finished();
    Ok(())
}

/// Reads the pipes that are ready, one block of each, and removes those without a writer.
fn read_ready(pipes: &mut Vec<Pipe>, ready: &[bool], buffer: &mut [u8], lines: &mut Lines) {
    lines.time = now();
    let mut place = 0;
    pipes.retain_mut(|pipe| {
        let is_ready = ready.get(place) == Some(&true);
        place += 1;
        let Pipe { label, fd, splitter, read } = pipe;
        let mut each = |ending, text: &[u8]| lines.add(label, ending, text);
        if !is_ready {
            if splitter.is_open() && read.elapsed() >= PAUSE {
                splitter.flush(&mut each);
            }
            return true;
        }
        match read_pipe(fd, buffer) {
            Ok(0) => {
                splitter.flush(&mut each);
                false
            }
            Ok(length) => {
                *read = Instant::now();
                splitter.push(&buffer[..length], &mut each);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    });
}

/// The records that are not passed on yet, and where they go.
struct Lines {
    time: String,
    records: Vec<u8>,
    sink: LineSink,
}

enum LineSink {
    Files(Disk),
    /// The standard output, until its reader has gone.
    Stdout {
        color: bool,
        stdout: Option<File>,
    },
}

impl Lines {
    fn new(name: &str, target: LogTarget) -> Self {
        let sink = match target {
            LogTarget::Stdout { color } => {
                LineSink::Stdout { color, stdout: inherit::own_stdout().ok() }
            }
            LogTarget::Files { directory, max_size, files } => {
                let mut files = LogFiles::new(directory, max_size, files);
                // The lock, for readers. An error is found again with the first line.
                let _ = files.open();
                LineSink::Files(Disk::start(files, name.to_owned()))
            }
        };
        Self { time: now(), records: Vec::new(), sink }
    }

    fn add(&mut self, label: &str, ending: LineEnding, text: &[u8]) {
        let records = &mut self.records;
        match &self.sink {
            LineSink::Files(_) => push_record(records, Some(&self.time), label, ending, text),
            LineSink::Stdout { color: false, .. } => {
                push_record(records, None, label, ending, text);
            }
            LineSink::Stdout { color: true, .. } => {
                let mark = if ending == LineEnding::Newline { '|' } else { '+' };
                let color = color_of(label);
                // A vector takes every write.
                let _ = write!(records, "\x1b[{color}m{label} {mark}\x1b[0m ");
                records.extend_from_slice(text);
                records.push(b'\n');
            }
        }
    }

    fn pass_on(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let records = std::mem::take(&mut self.records);
        match &mut self.sink {
            LineSink::Files(disk) => disk.push(records),
            LineSink::Stdout { stdout, .. } => {
                *stdout = stdout.take().filter(|stdout| write_stdout(stdout, &records));
            }
        }
    }

    fn settle(&self) {
        if let LineSink::Files(disk) = &self.sink {
            disk.settle();
        }
    }

    fn end(self) {
        if let LineSink::Files(disk) = self.sink {
            disk.finish();
        }
    }
}

/// Writes to the standard output, and waits for its reader as a worker would. `false`: it has no reader.
fn write_stdout(mut stdout: &File, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stdout.write(bytes) {
            Ok(0) => return false,
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program has made the description non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_writable(stdout) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// The colour of a label (SGR): one of six, by the number of the worker.
#[must_use]
pub fn color_of(label: &str) -> u16 {
    const COLORS: [u16; 6] = [36, 33, 32, 35, 34, 31];
    let number = worker_of(label).unwrap_or(1).saturating_sub(1);
    COLORS[usize::from(number) % COLORS.len()]
}
