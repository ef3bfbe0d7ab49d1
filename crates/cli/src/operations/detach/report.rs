//! What a supervisor in the background reports to the process that started it.

use std::env;

use sameport_supervisor::{DETACHED, START_FD};
use sameport_sys::Errno;
use sameport_sys::process::leads_session;
use sameport_sys::process::start_messages::{LONGEST, MessageReceiver, MessageSender};
use serde::{Deserialize, Serialize};

/// The error of a supervisor, as it passes to the process that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartFailure {
    /// The exit code.
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A message of a supervisor to the process that started it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StartMessage {
    /// The control socket takes requests. These workers of a killed supervisor are taken over.
    Begun(Vec<i32>),
    /// The run does not start.
    Failed(StartFailure),
    /// A line for the user.
    Line(String),
}

/// The side of the supervisor. Every message is sent without waiting, and one that cannot be sent is lost: the
/// run does not depend on the process that started it.
#[derive(Debug)]
pub(crate) struct StartReport(Option<MessageSender>);

impl StartReport {
    /// The connection to the process that started this one; none in the foreground, and after a `reexec`.
    pub(crate) fn of_environment() -> Self {
        let number = env::var(START_FD).ok().filter(|_| leads_session());
        let number = number.and_then(|number| number.parse().ok());
        Self(number.and_then(|number| MessageSender::inherited(number).ok()))
    }

    /// `taken_over`: first processes of workers of a killed supervisor.
    pub(crate) fn begun(&mut self, taken_over: Vec<i32>) {
        self.send(&StartMessage::Begun(taken_over));
    }

    pub(crate) fn failed(&mut self, failure: StartFailure) {
        self.send(&StartMessage::Failed(failure));
    }

    pub(crate) fn line(&mut self, line: String) {
        self.send(&StartMessage::Line(line));
    }

    fn send(&mut self, message: &StartMessage) {
        let Some(sender) = &self.0 else { return };
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        if bytes.len() <= LONGEST && sender.send(&bytes) == Err(Errno::PIPE) {
            // The other process has heard enough.
            self.0 = None;
        }
    }
}

/// Whether this process is a supervisor in the background.
pub(crate) fn is_detached() -> bool {
    env::var_os(DETACHED).is_some() && leads_session()
}

/// The next message; `None`: the supervisor has ended.
pub(super) fn receive(messages: &MessageReceiver) -> Option<StartMessage> {
    let bytes = messages.receive().ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}
