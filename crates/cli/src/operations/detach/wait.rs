//! The wait for every worker of a run that was started in the background.

use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{
    ControlRequest, RunStatus, WorkerPhase, WorkerStatus, WorkerUpdate,
};
use sameport_sys::process::start_messages::MessageReceiver;

use super::report::{StartMessage, receive};
use super::starting::{DetachError, DetachProgress, DetachedRun, StartingRun};
use crate::operations::runtime_dir::runtime_dir;

/// Time limit for the last messages of a supervisor that ends.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

/// Interval at which the end of a supervisor is looked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// What the threads of a wait hear.
enum Heard {
    Message(StartMessage),
    /// The supervisor has ended.
    NoMoreMessages,
    Worker(WorkerUpdate),
    Followed(Result<(), ClientError>),
}

/// Waits until every worker is ready. On failure the run is stopped, unless it has taken over workers, which
/// serve.
pub(super) fn until_ready(
    run: StartingRun,
    limit: Duration,
    taken_over: &[i32],
    progress: &mut dyn FnMut(DetachProgress<'_>),
) -> Result<DetachedRun, DetachError> {
    let StartingRun { name, mut child, messages } = run;
    let pid = child.id();
    progress(DetachProgress::Begun(pid));
    let until = Instant::now() + limit;
    let client = Client::new(runtime_dir());
    let heard = listen(&client, &name, messages);
    let failed = loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Heard::Message(StartMessage::Line(line))) => progress(DetachProgress::Line(&line)),
            Ok(Heard::Message(_) | Heard::NoMoreMessages) => {}
            Ok(Heard::Worker(update)) => progress(DetachProgress::Worker(&update)),
            Ok(Heard::Followed(Ok(()))) => match client.status(&name) {
                Ok(status) => match missing(&status, taken_over) {
                    None => return Ok(DetachedRun { pid, status }),
                    Some(why) => break Failed::NotReady(why),
                },
                Err(error) => break Failed::Client(error),
            },
            Ok(Heard::Followed(Err(error))) => break Failed::of(error),
            Err(RecvTimeoutError::Timeout) => {
                let missing =
                    client.status(&name).ok().and_then(|status| missing(&status, taken_over));
                let missing = missing.unwrap_or_else(|| "not every worker is ready".to_owned());
                break Failed::NotReady(format!("{missing}, after {} s", limit.as_secs_f32()));
            }
            // Both threads have panicked.
            Err(RecvTimeoutError::Disconnected) => {
                break Failed::NotReady("not every worker is ready".to_owned());
            }
        }
    };
    if taken_over.is_empty() {
        let stopped = client.change(&name, ControlRequest::StopNow, &mut |update| {
            progress(DetachProgress::Worker(update));
        });
        match stopped {
            // The run ended while it was asked to.
            Err(ClientError::SupervisorEnded(_) | ClientError::Unreachable(_))
                if ends_by_itself(&mut child) => {}
            // The supervisor does not answer or was killed: its end is not waited for.
            Err(error) if !error.is_over() => return Err(DetachError::Client(error)),
            // A run that has ended by itself is as good.
            Ok(()) | Err(_) => {}
        }
        hear_last(&heard, progress);
        let _ = child.wait();
    }
    let end = client.status(&name).err();
    if let Some(ClientError::Ended(ended)) = &end {
        for worker in &ended.history.workers {
            let output = |line: &String| progress(DetachProgress::Output(worker.ordinal, line));
            worker.output.iter().for_each(output);
        }
    }
    Err(match failed {
        Failed::NotReady(why) => DetachError::NotReady { why, goes_on: !taken_over.is_empty() },
        Failed::Client(error) => DetachError::Client(end.unwrap_or(error)),
    })
}

/// Whether a supervisor that does not take requests any more ends as one that has stopped its run, not by a signal.
fn ends_by_itself(child: &mut Child) -> bool {
    let until = Instant::now() + LAST_MESSAGES;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => thread::sleep(INTERVAL),
            Ok(Some(status)) => return status.code().is_some(),
            Err(_) => return false,
        }
    }
    false
}

/// Why a wait ends.
enum Failed {
    NotReady(String),
    Client(ClientError),
}

impl Failed {
    fn of(error: ClientError) -> Self {
        match error {
            ClientError::Failed { error, .. } => Self::NotReady(error),
            error => Self::Client(error),
        }
    }
}

/// Receives the messages of the supervisor and the changes of its workers, each on a thread.
fn listen(client: &Client, name: &RunName, messages: MessageReceiver) -> Receiver<Heard> {
    let (sender, heard) = channel();
    let of_supervisor = sender.clone();
    thread::spawn(move || {
        while let Some(message) = receive(&messages) {
            send(&of_supervisor, Heard::Message(message));
        }
        send(&of_supervisor, Heard::NoMoreMessages);
    });
    let (client, name) = (client.clone(), name.clone());
    thread::spawn(move || {
        let mut hear = |update: &WorkerUpdate| send(&sender, Heard::Worker(update.clone()));
        let followed = client.change(&name, ControlRequest::Follow, &mut hear);
        send(&sender, Heard::Followed(followed));
    });
    heard
}

/// The wait may have ended.
fn send(to: &Sender<Heard>, heard: Heard) {
    let _ = to.send(heard);
}

/// Receives the last messages of the supervisor, up to its end.
fn hear_last(heard: &Receiver<Heard>, progress: &mut dyn FnMut(DetachProgress<'_>)) {
    let until = Instant::now() + LAST_MESSAGES;
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Heard::Message(StartMessage::Line(line))) => progress(DetachProgress::Line(&line)),
            Ok(Heard::NoMoreMessages) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first worker that is not ready, with the reason; `None` if every worker is ready. `taken_over`: those that
/// are to be replaced.
fn missing(status: &RunStatus, taken_over: &[i32]) -> Option<String> {
    let is_old = |worker: &&WorkerStatus| worker.pid.is_some_and(|pid| taken_over.contains(&pid));
    let is_ready = |worker: &&WorkerStatus| worker.state == WorkerPhase::Ready;
    if let Some(old) = status.workers.iter().filter(is_ready).find(is_old) {
        return Some(format!("worker {} was not replaced", old.ordinal));
    }
    let count = status.workers.iter().filter(is_ready).count();
    if count >= usize::from(status.copies) {
        return None;
    }
    let first = status.workers.iter().find(|worker| !is_ready(worker));
    Some(match first {
        Some(WorkerStatus { ordinal, why: Some(why), .. }) => {
            format!("worker {ordinal} is not ready: {why}")
        }
        Some(WorkerStatus { ordinal, .. }) => format!("worker {ordinal} is not ready"),
        None => format!("{count} of {} workers are ready", status.copies),
    })
}
