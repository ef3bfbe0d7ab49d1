//! The three interposers behind one face: what a worker is started with, what is done beside it, and
//! what is known at the end.

pub(crate) mod cgroup;
pub(crate) mod preload;
pub(crate) mod seccomp;

use std::io;

use sameport_sys::process::SpawnOptions;
use sameport_sys::seccomp::NotifyListener;

use crate::bind_options::OptionUsage;
use crate::error::RunError;
use crate::plan::{InterposerKind, RunPlan};
use crate::pool::WorkerSockets;
use crate::report::Reporter;
use cgroup::CgroupInterposer;
use preload::PreloadInterposer;
use seccomp::SeccompInterposer;
use seccomp::pending::KeptSockets;

/// The one that was taken.
#[derive(Debug)]
pub(crate) enum Interposer {
    Seccomp(SeccompInterposer),
    Preload(PreloadInterposer),
    Cgroup(Box<CgroupInterposer>),
}

impl Interposer {
    /// Makes it ready, so that workers can be started.
    pub(crate) fn new(
        via: InterposerKind,
        plan: &RunPlan,
        used: OptionUsage,
    ) -> Result<Self, RunError> {
        match via {
            InterposerKind::Seccomp => SeccompInterposer::new(plan, used).map(Self::Seccomp),
            InterposerKind::Preload => PreloadInterposer::new(plan, used).map(Self::Preload),
            InterposerKind::Cgroup => {
                CgroupInterposer::new(plan, used).map(Box::new).map(Self::Cgroup)
            }
        }
    }

    pub(crate) fn setting(&self) -> SpawnOptions<'_> {
        match self {
            Self::Seccomp(seccomp) => seccomp.setting(),
            Self::Preload(preload) => preload.setting(),
            Self::Cgroup(cgroup) => cgroup.setting(),
        }
    }

    /// Does its work beside the workers, which have just been started, and tells of it.
    pub(crate) fn attend(
        &mut self,
        pids: Vec<i32>,
        listeners: Vec<NotifyListener>,
        beside: Reporter,
    ) -> Result<(), RunError> {
        match self {
            Self::Seccomp(seccomp) => {
                let failed = |error| RunError::System("start answering", error);
                seccomp.attend(&beside.sender).map_err(failed)?;
                let mut answer = |listener| seccomp.answer(listener, None).map_err(failed);
                listeners.into_iter().try_for_each(&mut answer)
            }
            Self::Preload(preload) => preload.attend(&pids, beside),
            Self::Cgroup(cgroup) => cgroup.attend(beside),
        }
    }

    /// Sees to one more worker.
    pub(crate) fn answer(
        &self,
        listener: NotifyListener,
        holding: Option<WorkerSockets>,
    ) -> io::Result<()> {
        match self {
            Self::Seccomp(seccomp) => seccomp.answer(listener, holding),
            Self::Preload(_) | Self::Cgroup(_) => Ok(()),
        }
    }

    /// Whether workers wait for our answers, so that nothing they bind escapes us.
    pub(crate) fn answers(&self) -> bool {
        matches!(self, Self::Seccomp(_))
    }

    /// Leaves the workers' calls to whoever comes after us; `false` if that cannot be.
    pub(crate) fn stop(&mut self) -> bool {
        match self {
            Self::Seccomp(seccomp) => {
                seccomp.stop();
                true
            }
            Self::Preload(_) | Self::Cgroup(_) => false,
        }
    }

    /// There will be no other worker.
    pub(crate) fn no_more(&mut self) {
        if let Self::Seccomp(seccomp) = self {
            seccomp.no_more();
        }
    }

    /// As the user calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Seccomp(_) => "seccomp",
            Self::Preload(_) => "preload",
            Self::Cgroup(_) => "cgroup",
        }
    }

    /// The sockets whose bind is followed, if there are any.
    pub(crate) fn bound(&self) -> KeptSockets {
        match self {
            Self::Seccomp(seccomp) => seccomp.bound(),
            Self::Preload(_) | Self::Cgroup(_) => KeptSockets::default(),
        }
    }

    /// Every process has ended: marks what was used, and leaves nothing.
    pub(crate) fn finish(self) {
        match self {
            Self::Seccomp(_) | Self::Preload(_) => {}
            Self::Cgroup(cgroup) => cgroup.finish(),
        }
    }
}
