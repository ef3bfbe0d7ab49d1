//! The three interposers behind one face: what a worker is started with, what is done beside it, and
//! what is known at the end.

pub(crate) mod cgroup;
pub(crate) mod preload;
pub(crate) mod seccomp;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_sys::process::Setting;
use sameport_sys::seccomp::Listener;
use tokio::sync::mpsc::Sender;

use super::monitor::News;
use super::named::Holding;
use super::{Error, Plan, Used, Via};
use cgroup::Cgroup;
use preload::Preload;
use seccomp::Seccomp;
use seccomp::pending::Bound;

/// The one that was taken.
#[derive(Debug)]
pub(crate) enum Interposer {
    Seccomp(Seccomp),
    Preload(Preload),
    Cgroup(Box<Cgroup>),
}

impl Interposer {
    /// Makes it ready, so that workers can be started.
    pub(crate) fn new(via: Via, plan: &Plan, used: Used) -> Result<Self, Error> {
        match via {
            Via::Seccomp => Seccomp::new(plan, used).map(Self::Seccomp),
            Via::Preload => Preload::new(plan, used).map(Self::Preload),
            Via::Cgroup => Cgroup::new(plan, used).map(Box::new).map(Self::Cgroup),
        }
    }

    pub(crate) fn setting(&self) -> Setting<'_> {
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
        listeners: Vec<Listener>,
        beside: Beside,
    ) -> Result<(), Error> {
        match self {
            Self::Seccomp(seccomp) => {
                let failed = |error| Error::System("start answering", error);
                seccomp.attend(&beside.news).map_err(failed)?;
                let mut answer = |listener| seccomp.answer(listener, None).map_err(failed);
                listeners.into_iter().try_for_each(&mut answer)
            }
            Self::Preload(preload) => preload.attend(&pids, beside),
            Self::Cgroup(cgroup) => cgroup.attend(beside),
        }
    }

    /// Sees to one more worker.
    pub(crate) fn answer(&self, listener: Listener, holding: Option<Holding>) -> io::Result<()> {
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
    pub(crate) fn bound(&self) -> Bound {
        match self {
            Self::Seccomp(seccomp) => seccomp.bound(),
            Self::Preload(_) | Self::Cgroup(_) => Bound::default(),
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

/// What a thread beside the supervisor has of it.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    pub(crate) news: Sender<News>,
    over: Arc<AtomicBool>,
}

impl Beside {
    pub(crate) fn new(news: Sender<News>) -> Self {
        Self { news, over: Arc::default() }
    }

    /// Every process has ended.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Does `work` again and again on a thread of its own, and once more when all is over.
    pub(crate) fn repeat(
        self,
        mut work: impl FnMut(&Sender<News>) + Send + 'static,
    ) -> io::Result<()> {
        let repeating = move || {
            while !self.over.load(Ordering::Acquire) {
                work(&self.news);
            }
            work(&self.news);
        };
        std::thread::Builder::new().name("reports".into()).spawn(repeating).map(drop)
    }
}
