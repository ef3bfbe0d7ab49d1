//! The pipes of workers, and the process that reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::fd::inherit;
use sameport_sys::kept_log::{
    LogDirectory, LogWriterProcess, OutputPipe, inode_of, is_hung_up, read_end_of,
};
use sameport_sys::{Errno, ProcessIdentity, process};
use serde::{Deserialize, Serialize};

use super::{LAST_OUTPUT, LOG_WRITER};
use crate::error::RunError;
use crate::plan::{PROGRAM, RunPlan, WorkerOutput};
use crate::termination::SIGKILL;

/// The standard output and error of a worker that is about to start.
#[derive(Debug)]
pub(crate) struct WorkerStreams {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl WorkerStreams {
    /// For the options of a start.
    pub(crate) fn borrowed(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.stdout.as_fd(), self.stderr.as_fd())
    }
}

/// The supervisor's side of the output of workers.
#[derive(Debug)]
pub(crate) struct OutputPipes {
    output: WorkerOutput,
    /// In front of every line; a worker's number follows.
    label: String,
    /// The user of the workers, if it is another one.
    owner: Option<u32>,
    writer: Option<LogWriterProcess>,
    readers: Vec<OutputReader>,
}

/// The end to read of a pipe. The log writer has it too.
#[derive(Debug)]
struct OutputReader {
    /// `None`: the supervisor's own output.
    start: Option<InstanceId>,
    label: String,
    fd: OwnedFd,
    /// Whether the log writer that lives has got it.
    passed: bool,
}

/// The part of the record for the next supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedOutput {
    /// The identity of the log writer.
    pub log_writer: Option<String>,
    /// The inode of the pipe of each worker.
    pub pipes: BTreeMap<InstanceId, u64>,
}

/// The state that `reexec` passes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverOutput {
    log_writer: i32,
    /// The arguments that it was started with.
    arguments: Vec<OsString>,
    channel: RawFd,
    readers: Vec<(Option<InstanceId>, String, RawFd)>,
}

impl OutputPipes {
    /// Checks the directory, if output is kept, before a worker is started.
    pub(crate) fn check(output: &WorkerOutput) -> Result<(), RunError> {
        let WorkerOutput::Kept(log) = output else { return Ok(()) };
        let directory = LogDirectory::create(&log.directory).map_err(RunError::LogDirectory)?;
        directory.try_write(&log.directory).map_err(RunError::LogDirectory)
    }

    /// Starts the log writer, if the plan needs one.
    pub(crate) fn start(plan: &RunPlan) -> Result<Self, RunError> {
        let mut pipes = Self::without_writer(plan);
        if pipes.is_used() {
            let failed = |error| RunError::System("start the log writer", error);
            pipes.writer = Some(pipes.start_writer().map_err(failed)?);
        }
        Ok(pipes)
    }

    /// No log writer yet: that of the program before an `exec` follows.
    fn without_writer(plan: &RunPlan) -> Self {
        let name = plan.named.as_ref().map(|named| named.name.as_str().to_owned());
        let program = || {
            let program = plan.command.first().map(Path::new).and_then(Path::file_name);
            program.map_or_else(String::new, |name| name.to_string_lossy().replace(' ', "_"))
        };
        Self {
            output: plan.output.clone(),
            label: name.unwrap_or_else(program),
            owner: plan.launch.user.as_ref().map(crate::launch::WorkerUser::uid),
            writer: None,
            readers: Vec::new(),
        }
    }

    fn is_used(&self) -> bool {
        matches!(self.output, WorkerOutput::Kept(_) | WorkerOutput::Prefixed { .. })
    }

    fn writer_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![LOG_WRITER.into(), self.label.clone().into()];
        match &self.output {
            WorkerOutput::Kept(log) => {
                arguments.extend(["--directory".into(), log.directory.clone().into()]);
                arguments.extend(["--log-size".into(), log.max_size.to_string().into()]);
                arguments.extend(["--log-files".into(), log.files.to_string().into()]);
            }
            WorkerOutput::Prefixed { color } => {
                arguments.extend(color.then(|| "--color".into()));
            }
            WorkerOutput::Inherited | WorkerOutput::File(_) => {}
        }
        arguments
    }

    fn start_writer(&self) -> io::Result<LogWriterProcess> {
        let to_stdout = matches!(self.output, WorkerOutput::Prefixed { .. });
        LogWriterProcess::start(PROGRAM, &self.writer_arguments(), to_stdout)
    }

    /// Opens the pipe of a worker that is about to start. `None`: its output goes elsewhere.
    pub(crate) fn open(
        &mut self,
        start: InstanceId,
        ordinal: u16,
    ) -> io::Result<Option<WorkerStreams>> {
        if !self.is_used() {
            return Ok(None);
        }
        let label = format!("{}.{ordinal}", self.label);
        self.open_labelled(Some(start), label).map(Some)
    }

    fn open_labelled(
        &mut self,
        start: Option<InstanceId>,
        label: String,
    ) -> io::Result<WorkerStreams> {
        let OutputPipe { reader, stdout, stderr } = OutputPipe::open(self.owner)?;
        self.readers.push(OutputReader { start, label, fd: reader, passed: false });
        self.pass();
        Ok(WorkerStreams { stdout, stderr })
    }

    /// Lets the supervisor's own output go to the files too, if the output is kept.
    pub(crate) fn redirect_own(&mut self) -> io::Result<()> {
        let is_own = self.readers.iter().any(|it| it.start.is_none());
        if is_own || !matches!(self.output, WorkerOutput::Kept(_)) {
            return Ok(());
        }
        let WorkerStreams { stdout, stderr } = self.open_labelled(None, self.label.clone())?;
        process::replace_output(&stdout, &stderr)?;
        Ok(())
    }

    /// Passes pipes to the log writer.
    fn pass(&mut self) {
        let Some(writer) = &self.writer else { return };
        for reader in self.readers.iter_mut().filter(|reader| !reader.passed) {
            // The next round tries again.
            reader.passed = writer.pipes.send(&reader.label, reader.fd.as_fd()).is_ok();
        }
    }

    /// A child has ended. A log writer is started again, and reads on.
    pub(crate) fn child_ended(&mut self, pid: i32) {
        if self.writer.as_ref().is_some_and(|writer| writer.pid == pid) {
            self.writer = None;
            self.restart();
        }
    }

    fn restart(&mut self) {
        if !self.is_used() {
            return;
        }
        self.readers.iter_mut().for_each(|reader| reader.passed = false);
        // The next round tries again.
        self.writer = self.start_writer().ok();
        self.pass();
    }

    /// Starts a log writer with other options. The one before has written everything that it has read.
    fn replace_writer(&mut self) {
        self.finish(LAST_OUTPUT);
        if let Some(writer) = self.writer.take() {
            // A child that ended and is not reaped ignores it.
            let _ = process::signal(writer.pid, SIGKILL);
        }
        self.restart();
    }

    /// Closes pipes that have no writer, and does what has failed before.
    pub(crate) fn attend(&mut self) {
        if self.writer.is_none() && self.is_used() {
            self.restart();
        }
        self.pass();
        // The log writer reads the rest.
        self.readers.retain(|reader| !(reader.passed && is_hung_up(&reader.fd)));
    }

    /// Waits until what the workers have written is in the files, at most `limit`.
    pub(crate) fn finish(&mut self, limit: Duration) {
        if let Some(writer) = &self.writer {
            writer.pipes.finish(limit);
        }
    }

    /// Reads on where the log writer of a killed supervisor has ended too. `pids`: processes that may have the pipe
    /// open.
    pub(crate) fn take_over(&mut self, start: InstanceId, ordinal: u16, inode: u64, pids: &[i32]) {
        let below = process::descendants_of(pids).into_iter().map(|found| found.pid);
        let pids: Vec<i32> = pids.iter().copied().chain(below).collect();
        if !self.is_used() {
            return;
        }
        if let Some(fd) = read_end_of(inode, &pids) {
            let label = format!("{}.{ordinal}", self.label);
            self.readers.push(OutputReader { start: Some(start), label, fd, passed: false });
            self.pass();
        }
    }

    /// What the record says, for the next supervisor.
    pub(crate) fn record(&self) -> RecordedOutput {
        let identity = |pid: i32| ProcessIdentity::of(u32::try_from(pid).ok()?).ok();
        let writer = self.writer.as_ref().and_then(|writer| identity(writer.pid));
        let pipe = |reader: &OutputReader| Some((reader.start?, inode_of(&reader.fd)?));
        RecordedOutput {
            log_writer: writer.map(|it| it.to_string()),
            pipes: self.readers.iter().filter_map(pipe).collect(),
        }
    }

    /// The state for the next program. The descriptors in it survive `exec`.
    pub(crate) fn keep_on_exec(&self) -> Result<Option<HandoverOutput>, Errno> {
        let Some(writer) = &self.writer else { return Ok(None) };
        let reader =
            |it: &OutputReader| Ok((it.start, it.label.clone(), inherit::keep_on_exec(&it.fd)?));
        Ok(Some(HandoverOutput {
            log_writer: writer.pid,
            arguments: self.writer_arguments(),
            channel: inherit::keep_on_exec(writer.pipes.fd())?,
            readers: self.readers.iter().map(reader).collect::<Result<_, Errno>>()?,
        }))
    }

    /// Undoes [`Self::keep_on_exec`].
    pub(crate) fn close_on_exec(&self) -> Result<(), Errno> {
        if let Some(writer) = &self.writer {
            inherit::close_on_exec(writer.pipes.fd())?;
        }
        self.readers.iter().try_for_each(|reader| inherit::close_on_exec(&reader.fd))
    }

    /// Continues after an `exec`. Without a state, a log writer is started: an earlier build had none.
    pub(crate) fn resume(plan: &RunPlan, state: Option<HandoverOutput>) -> Result<Self, RunError> {
        let Some(HandoverOutput { log_writer, arguments, channel, readers }) = state else {
            return Self::start(plan);
        };
        let failed = |errno: Errno| RunError::System("go on with the run", errno.into());
        let mut pipes = Self::without_writer(plan);
        let channel = inherit::take(channel).map_err(failed)?;
        pipes.writer = Some(LogWriterProcess::inherited(log_writer, channel));
        for (start, label, fd) in readers {
            let fd = inherit::take(fd).map_err(failed)?;
            pipes.readers.push(OutputReader { start, label, fd, passed: true });
        }
        if pipes.is_used() && arguments != pipes.writer_arguments() {
            pipes.replace_writer();
        }
        Ok(pipes)
    }
}

impl RecordedOutput {
    /// Whether the log writer of a killed supervisor reads on.
    pub(crate) fn is_read(&self) -> bool {
        let identity = self.log_writer.as_ref().and_then(|text| text.parse().ok());
        identity.is_some_and(|identity: ProcessIdentity| !identity.is_gone())
    }
}
