//! The canary of a run: its request, its traffic, its end.

use std::time::Duration;

use sameport_policy::lifecycle::{CanaryEnd, QueueMode, RunRequest};
use sameport_policy::traffic::CanaryShare;

use super::NamedRun;
use crate::control::protocol::{ControlReply, FaultKind, UpgradedLaunch};
use crate::event::RunEvent;

impl NamedRun<'_> {
    /// Gives new connections to the workers that serve, and to the canary its share.
    pub(super) fn steer(&self) {
        let serving = self.lifecycle.serving();
        let canary = self.lifecycle.canary().filter(|canary| canary.since.is_some());
        let share = canary.map(|canary| canary.share);
        let is_canary = |start: &_| self.lifecycle.is_canary(*start);
        self.pool.set_canary(share, serving.iter().copied().filter(is_canary).collect());
        self.pool.steer(serving);
    }

    /// The request of a client that wants a canary. The error is the reply to one that cannot have it.
    pub(super) fn canary_request(
        &mut self,
        launch: UpgradedLaunch,
        share: CanaryShare,
        promotes_after: Option<u64>,
    ) -> Result<RunRequest, ControlReply> {
        if let Some(refusal) = self.canary_refusal() {
            return Err(refusal);
        }
        let command = self.add_command(launch)?;
        let promotes_after = promotes_after.map(Duration::from_millis);
        Ok(RunRequest::Canary { command, share, promotes_after })
    }

    /// Why new connections cannot be divided between two commands.
    fn canary_refusal(&self) -> Option<ControlReply> {
        let no_canary = |why: String| format!("a canary cannot have a share: {why}");
        if self.options.queue == QueueMode::Shared {
            let error = no_canary("all workers accept from one queue (--queue shared)".into());
            let hint = "start the run without --queue shared, or give the canary a run of its own";
            return Some(ControlReply::failed(error, Some(hint)));
        }
        let obstacle = self.pool.canary_obstacle()?;
        Some(ControlReply::Failed {
            fault: match obstacle.is_of_tier {
                true => FaultKind::Unsupported,
                false => FaultKind::Other,
            },
            error: no_canary(obstacle.why),
            hint: Some(obstacle.hint.replace("NAME", self.options.name.as_str())),
        })
    }

    pub(super) fn canary_ended(&mut self, end: CanaryEnd) {
        let command = self.workers.commands.get(end.command);
        let command = command.map(|command| command.words.clone()).unwrap_or_default();
        self.events.push(RunEvent::CanaryEnded { command, outcome: end.outcome });
        self.control.record.changed();
    }
}
