//! A change of a named run that is waited for no longer than the user wants. The run executes it in any case.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{ControlRequest, WorkerUpdate};

/// How long a change is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeWait {
    /// Until its end.
    Unlimited,
    /// Until its end, for this time at most.
    Limited(Duration),
    /// Until its first step.
    Begin,
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    Done,
    /// Its first step is done, and more was not waited for.
    Begun,
    /// It goes on after this time.
    GoesOn(Duration),
}

/// Sends a request, and waits as long as `wait` says. `hear` gets the updates.
///
/// # Errors
///
/// See [`ClientError`].
pub(crate) fn change(
    client: &Client,
    name: &RunName,
    request: ControlRequest,
    wait: ChangeWait,
    hear: &mut dyn FnMut(&WorkerUpdate),
) -> Result<Completion, ClientError> {
    let limit = match wait {
        ChangeWait::Unlimited => {
            return client.change(name, request, hear).map(|()| Completion::Done);
        }
        ChangeWait::Limited(limit) => Some(limit),
        ChangeWait::Begin => None,
    };
    let until = limit.map(|limit| (limit, Instant::now() + limit));
    let (sender, heard) = channel();
    let (client, name) = (client.clone(), name.clone());
    // The thread ends with the change or with this process.
    thread::spawn(move || {
        let mut tell =
            |update: &WorkerUpdate| drop(sender.send(ChangeStep::Update(update.clone())));
        let result = client.change(&name, request, &mut tell);
        let _ = sender.send(ChangeStep::End(result));
    });
    loop {
        let next = match until {
            Some((_, until)) => heard.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match (next, until) {
            (Ok(ChangeStep::Update(update)), _) => {
                hear(&update);
                if wait == ChangeWait::Begin {
                    return Ok(Completion::Begun);
                }
            }
            (Ok(ChangeStep::End(result)), _) => return result.map(|()| Completion::Done),
            (Err(RecvTimeoutError::Timeout), Some((limit, _))) => {
                return Ok(Completion::GoesOn(limit));
            }
            // The thread has panicked.
            (Err(_), _) => return Ok(Completion::Begun),
        }
    }
}

/// What the thread that waits for a change passes on.
enum ChangeStep {
    Update(WorkerUpdate),
    End(Result<(), ClientError>),
}
