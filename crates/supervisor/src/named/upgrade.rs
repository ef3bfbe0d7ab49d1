//! Upgrades, also to a canary: requests, the canary's traffic, its end.

use std::ffi::OsString;
use std::time::Duration;

use sameport_policy::lifecycle::{CanaryEnd, CanaryOutcome, QueueMode, RunRequest};
use sameport_policy::traffic::CanaryShare;

use super::NamedRun;
use crate::control::command;
use crate::control::protocol::{ControlReply, ControlRequest, FaultKind, UpgradedLaunch};
use crate::event::RunEvent;
use crate::workers::WorkerCommand;

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

    /// What a client wants of the lifecycle. The error is the reply to one that cannot have it.
    pub(super) fn upgrade_request(
        &mut self,
        request: ControlRequest,
    ) -> Result<RunRequest, ControlReply> {
        let upgrade = |command| RunRequest::Upgrade { command };
        match request {
            ControlRequest::Upgrade { command } => self
                .add_command(UpgradedLaunch { command, ..UpgradedLaunch::default() })
                .map(upgrade),
            ControlRequest::UpgradeWith { command, directory, environment } => {
                self.add_command(UpgradedLaunch { command, directory, environment }).map(upgrade)
            }
            ControlRequest::Canary { launch, share, promotes_after } => {
                self.canary_request(launch, share, promotes_after)
            }
            ControlRequest::RollBack => Ok(RunRequest::RollBack),
            _ => Ok(RunRequest::Promote),
        }
    }

    /// Adds the command of an upgrade, and returns its number. The error is the reply to a client
    /// whose command cannot start. What the client does not name stays as it is.
    fn add_command(&mut self, new: UpgradedLaunch) -> Result<usize, ControlReply> {
        let UpgradedLaunch { command: words, directory, environment } = new;
        let present = self.present_command().or(self.workers.commands.first());
        let before = present.cloned().unwrap_or_default();
        let words = if words.is_empty() { before.words } else { words };
        let launch = before.launch.changed(directory.map(Into::into), environment);
        let search_path = launch.variable("PATH").or(self.plan.environment.search_path.as_ref());
        let directory = launch.directory.as_ref().unwrap_or(&self.options.directory);
        let refusal = command::directory_refusal(directory)
            .or_else(|| command::refusal(&words, search_path.map(OsString::as_os_str), directory));
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        self.workers.commands.push(WorkerCommand { words, launch });
        Ok(self.workers.commands.len() - 1)
    }

    /// The request of a client that wants a canary. The error is the reply to one that cannot have it.
    fn canary_request(
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

    /// Replaces a worker of the run if a canary has ended and left a queue: the replacement gets it.
    pub(super) fn serve_left_queue(&mut self, now: Duration) {
        let Some(CanaryOutcome::Failed(ordinal, _)) =
            self.lifecycle.canary_end().map(|end| &end.outcome)
        else {
            return;
        };
        if self.lifecycle.is_settled() && self.pool.has_left_queue() {
            let actions = self.lifecycle.replace_worker(*ordinal, now);
            self.execute(actions, now);
        }
    }
}
