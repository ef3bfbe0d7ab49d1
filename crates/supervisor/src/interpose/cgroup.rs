//! The cgroup interposer: workers in a cgroup of their own, and eBPF programs at it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use sameport_policy::model::Address;
use sameport_sys::bpf::cgroup_bind;
use sameport_sys::bpf::cgroup_bind::{
    AttachSettings, Attachment, BindAction, BindEvent, BindEvents, SourceOutcome,
};
use sameport_sys::cgroup;
use sameport_sys::cgroup::PrivateCgroup;
use sameport_sys::fd::poll::wait_readable;
use sameport_sys::netns;
use sameport_sys::process::SpawnOptions;
use sameport_sys::seccomp::NotifyListener;
use tokio::sync::mpsc::Sender;

use super::interposer::Interposer;
use crate::bind_options::{BindOptions, OptionUsage};
use crate::error::RunError;
use crate::event::Remark;
use crate::plan::RunPlan;
use crate::report::{Report, Reporter};

/// The longest wait for an event; the end of the run is noticed that late.
const STEP: Duration = Duration::from_millis(20);

/// A cgroup, its programs and their events. If the supervisor is killed, the kernel removes the
/// programs, and the next start removes the cgroup.
#[derive(Debug)]
pub(crate) struct CgroupInterposer {
    attachment: Attachment,
    events: Option<BindEvents>,
    procs: File,
    private: PrivateCgroup,
    options: BindOptions,
    usage: OptionUsage,
}

impl CgroupInterposer {
    pub(super) fn new(plan: &RunPlan, usage: OptionUsage) -> Result<Self, RunError> {
        let options = plan.bind_options.clone();
        if options.transparent {
            return Err(RunError::CgroupCannotSet("IP_TRANSPARENT"));
        }
        if options.freebind {
            return Err(RunError::CgroupCannotSet("IP_FREEBIND"));
        }
        if !options.each.is_empty() {
            return Err(RunError::CgroupNotEach);
        }
        // A cgroup of an earlier run that cannot be removed does not concern this run.
        let _ = cgroup::sweep();
        let private = PrivateCgroup::create().map_err(RunError::Cgroup)?;
        let procs =
            private.procs().map_err(|error| RunError::System("open cgroup.procs", error))?;
        let settings = AttachSettings {
            ports: options.ports.clone(),
            rules: options.rules.clone(),
            source: options.source,
            network: netns::own_cookie().ok(),
        };
        let mut attachment =
            cgroup_bind::attach(private.cgroup(), &settings).map_err(RunError::Attach)?;
        let events = attachment.events().map_err(RunError::Attach)?;
        Ok(Self { attachment, events, procs, private, options, usage })
    }
}

impl Interposer for CgroupInterposer {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn spawn_options(&self, _ordinal: u16) -> SpawnOptions<'_> {
        SpawnOptions { cgroup: Some(self.procs.as_fd()), ..SpawnOptions::default() }
    }

    fn start(
        &mut self,
        _pids: &[i32],
        _listeners: Vec<NotifyListener>,
        reporter: Reporter,
    ) -> Result<(), RunError> {
        let Some(mut events) = self.events.take() else { return Ok(()) };
        let options = self.options.clone();
        reporter
            .repeat(move |reports| {
                wait_readable(&events, STEP);
                events.by_ref().for_each(|event| pass_on(&event, &options, reports));
            })
            .map_err(|error| RunError::System("start listening to events", error))
    }

    fn finish(self: Box<Self>) {
        let Self { attachment, private, usage, .. } = *self;
        for (rule, _) in attachment.hits().iter().enumerate().filter(|(_, hits)| **hits > 0) {
            usage.rule(rule);
        }
        if attachment.sourced() != SourceOutcome::default() {
            usage.source();
        }
        drop(attachment);
        // No process is left in it. The next start removes what stays all the same.
        let _ = private.remove();
    }
}

fn pass_on(event: &BindEvent, options: &BindOptions, reports: &Sender<Report>) {
    let rule = event.rule.and_then(|rule| options.rules.get(rule).copied());
    let remark = match event.happened {
        BindAction::OtherFamily => {
            rule.map(|rule| Remark::OtherFamily { asked: event.asked, rule })
        }
        BindAction::Given { address, shared } => {
            if shared {
                // Unless the kernel refuses the bind, which the program cannot see.
                let joined = Report::Bound(Address::new(event.protocol, address));
                drop(reports.blocking_send(joined));
            }
            rule.and_then(|rule| Remark::moved(rule, event.asked, address))
        }
    };
    if let Some(remark) = remark {
        drop(reports.blocking_send(Report::Remark(remark)));
    }
}
