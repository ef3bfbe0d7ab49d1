//! The cgroup interposer: workers in a cgroup of their own, and eBPF programs at it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use sameport_policy::model::Address;
use sameport_sys::bpf::cgroup_bind;
use sameport_sys::bpf::cgroup_bind::{
    AttachSettings, Attachment, BindAction, BindEvent as Seen, BindEvents, SourceOutcome,
};
use sameport_sys::cgroup;
use sameport_sys::cgroup::PrivateCgroup;
use sameport_sys::fd::poll::wait_readable;
use sameport_sys::netns;
use sameport_sys::process::SpawnOptions;
use tokio::sync::mpsc::Sender;

use crate::bind_options::{BindOptions, OptionUsage};
use crate::error::RunError;
use crate::event::Remark;
use crate::plan::RunPlan;
use crate::report::{Report, Reporter};

/// How often events are looked for when none comes: the end of the run is noticed as late.
const STEP: Duration = Duration::from_millis(20);

/// A cgroup, the programs at it, and what they tell. Should we be killed, the kernel removes the
/// programs, and the next start the cgroup.
#[derive(Debug)]
pub(crate) struct CgroupInterposer {
    attachment: Attachment,
    events: Option<BindEvents>,
    procs: File,
    private: PrivateCgroup,
    wishes: BindOptions,
    used: OptionUsage,
}

impl CgroupInterposer {
    pub(crate) fn new(plan: &RunPlan, used: OptionUsage) -> Result<Self, RunError> {
        let wishes = plan.bind_options.clone();
        if wishes.transparent {
            return Err(RunError::CgroupNotTransparent);
        }
        // What is left of earlier runs is none of this run's trouble.
        let _ = cgroup::sweep();
        let private = PrivateCgroup::create().map_err(RunError::Cgroup)?;
        let procs =
            private.procs().map_err(|error| RunError::System("open cgroup.procs", error))?;
        let settings = AttachSettings {
            ports: wishes.ports.clone(),
            rules: wishes.rules.clone(),
            source: wishes.source,
            network: netns::own_cookie().ok(),
        };
        let mut attachment =
            cgroup_bind::attach(private.cgroup(), &settings).map_err(RunError::Attach)?;
        let events = attachment.events().map_err(RunError::Attach)?;
        Ok(Self { attachment, events, procs, private, wishes, used })
    }

    pub(crate) fn setting(&self) -> SpawnOptions<'_> {
        SpawnOptions { cgroup: Some(self.procs.as_fd()), ..SpawnOptions::default() }
    }

    pub(crate) fn attend(&mut self, beside: Reporter) -> Result<(), RunError> {
        let Some(mut events) = self.events.take() else { return Ok(()) };
        let wishes = self.wishes.clone();
        beside
            .repeat(move |news| {
                wait_readable(&events, STEP);
                events.by_ref().for_each(|seen| pass_on(&seen, &wishes, news));
            })
            .map_err(|error| RunError::System("start listening to events", error))
    }

    pub(crate) fn finish(self) {
        for (rule, _) in self.attachment.hits().iter().enumerate().filter(|(_, hits)| **hits > 0) {
            self.used.rule(rule);
        }
        if self.attachment.sourced() != SourceOutcome::default() {
            self.used.source();
        }
        drop(self.attachment);
        // Everybody has ended, so it goes; what does not is swept by the next start.
        let _ = self.private.remove();
    }
}

fn pass_on(seen: &Seen, wishes: &BindOptions, news: &Sender<Report>) {
    let rule = seen.rule.and_then(|rule| wishes.rules.get(rule).copied());
    let said = match seen.happened {
        BindAction::OtherFamily => rule.map(|rule| Remark::OtherFamily { asked: seen.asked, rule }),
        BindAction::Given { address, shared } => {
            if shared {
                // Unless the kernel refuses it, which nothing tells.
                let joined = Report::Joined(Address::new(seen.protocol, address));
                drop(news.blocking_send(joined));
            }
            Remark::one_family(seen.asked, address)
        }
    };
    if let Some(remark) = said {
        drop(news.blocking_send(Report::Remark(remark)));
    }
}
