//! The options of verbs that change a run, about their wait.

use std::time::Duration;

use crate::args::parse_duration;

/// How long the verb waits for the change.
#[derive(clap::Args)]
pub(crate) struct WaitArgs {
    /// Return when the change is done, as without this option, and with TIME after that time at the latest, with
    /// exit code 1; the change goes on
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          value_parser = parse_duration)]
    wait: Option<Option<Duration>>,
    /// Return when the change has begun; `sameport status NAME` shows its progress
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

#[cfg(target_os = "linux")]
impl WaitArgs {
    pub(super) fn wait(&self) -> crate::operations::wait::ChangeWait {
        use crate::operations::wait::ChangeWait;

        match (self.no_wait, self.wait.flatten()) {
            (true, _) => ChangeWait::Begin,
            (false, Some(limit)) => ChangeWait::Limited(limit),
            (false, None) => ChangeWait::Unlimited,
        }
    }
}
