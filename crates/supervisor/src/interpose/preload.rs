//! The preload interposer: workers load the library, which sends reports.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use sameport_policy::model::Address;
use sameport_sys::Errno;
use sameport_sys::fd::poll::wait_readable;
use sameport_sys::preload;
use sameport_sys::preload::{
    ChildrenMode, LibraryFile, LibraryOptions, LibraryReport, Loadable, ReceivedReport,
    ReportSocket, SharedBy,
};
use sameport_sys::process::signals;
use sameport_sys::process::{SpawnOptions, ThreadState, thread_state};
use sameport_sys::seccomp::NotifyListener;
use tokio::sync::mpsc::Sender;

use super::interposer::Interposer;
use crate::bind_options::{BindOptions, OptionUsage};
use crate::conflict_report::{RefusedBind, why_refused_at};
use crate::error::RunError;
use crate::event::{OutOfReach, Remark};
use crate::plan::RunPlan;
use crate::report::{Report, Reporter};

/// The limit of rules in the library.
const MOST_RULES: usize = 1024;

/// How long a worker may take to report that the library is loaded: the dynamic linker does it
/// before the program's first instruction.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest wait for a report; the end of the run is noticed that late.
const STEP: Duration = Duration::from_millis(20);

/// The limit of reports that one inspection explains together.
const AT_ONCE: usize = 4096;

/// The library's file and the socket of its reports.
#[derive(Debug)]
pub(crate) struct PreloadInterposer {
    placed: LibraryFile,
    /// The name of the socket of reports.
    report: String,
    inbox: Option<ReportSocket>,
    children: ChildrenMode,
    /// LD_PRELOAD of before.
    preloaded: Option<OsString>,
    options: BindOptions,
    usage: OptionUsage,
    /// See `run_files::runtime_dir`.
    runtime: Option<OsString>,
}

impl PreloadInterposer {
    pub(super) fn new(plan: &RunPlan, usage: OptionUsage) -> Result<Self, RunError> {
        let library = plan.preload.library.map_err(RunError::NoLibrary)?;
        let options = &plan.bind_options;
        if options.rules.len() + options.each.len() > MOST_RULES {
            return Err(RunError::TooManyRules(MOST_RULES));
        }
        if let Some(program) = plan.locate()
            && let Loadable::No { file, obstacle } =
                preload::check_program(&program, plan.environment.search_path.as_deref())
        {
            return Err(RunError::NotLoadable(file, obstacle));
        }
        let runtime = plan.environment.runtime_dir.as_deref().map(Path::new);
        let placed =
            preload::install(library, &preload::folders(runtime)).map_err(RunError::PreloadDir)?;
        let inbox =
            ReportSocket::open().map_err(|errno| RunError::System("socket", errno.into()))?;
        Ok(Self {
            placed,
            report: inbox.name().to_owned(),
            inbox: Some(inbox),
            children: plan.preload.children,
            preloaded: plan.environment.ld_preload.clone(),
            options: options.clone(),
            usage,
            runtime: plan.environment.runtime_dir.clone(),
        })
    }

    /// The changes of a worker's environment.
    fn environment(&self, ordinal: u16) -> Vec<(OsString, Option<OsString>)> {
        let options = self.options.of_worker(ordinal);
        let library = LibraryOptions {
            share: Some(&options.ports),
            map: &options.rules,
            source: options.source,
            transparent: options.transparent,
            freebind: options.freebind,
            report: &self.report,
            children: self.children,
        };
        let set = library.variables(self.placed.path(), self.preloaded.as_deref());
        let removed = LibraryOptions::UNSET.iter().map(|name| ((*name).into(), None));
        let set = set.into_iter().map(|(name, value)| (name.into(), Some(value)));
        removed.chain(set).collect()
    }
}

impl Interposer for PreloadInterposer {
    fn name(&self) -> &'static str {
        "preload"
    }

    fn spawn_options(&self, ordinal: u16) -> SpawnOptions<'_> {
        SpawnOptions { environment: self.environment(ordinal), ..SpawnOptions::default() }
    }

    /// Waits until every worker has reported that the library is loaded, or the run ends, then passes
    /// reports on.
    fn start(
        &mut self,
        pids: &[i32],
        _listeners: Vec<NotifyListener>,
        reporter: Reporter,
    ) -> Result<(), RunError> {
        let Some(mut inbox) = self.inbox.take() else { return Ok(()) };
        let reporting = PreloadReports {
            options: self.options.clone(),
            usage: self.usage.clone(),
            runtime: self.runtime.clone(),
        };
        let mut silent: BTreeSet<i32> = pids.iter().copied().collect();
        let mut reports = Vec::new();
        let until = Instant::now() + PATIENCE;
        while !silent.is_empty() && !signals::termination_is_pending() {
            if Instant::now() > until {
                let placed = self.placed.path().to_owned();
                return Err(RunError::LibraryNotLoaded(placed, self.placed.exists()));
            }
            wait_readable(&inbox, STEP);
            for received in inbox.take() {
                silent.remove(&received.pid);
                reports.push(received);
            }
        }
        reporter
            .repeat(move |sender| {
                wait_readable(&inbox, STEP);
                // Every waiting report: the kernel queues some thousands only, and the last call
                // must leave none.
                loop {
                    let some = inbox.take();
                    let is_last = some.is_empty();
                    reports.extend(some);
                    if is_last || reports.len() >= AT_ONCE {
                        reporting.pass_on(&reports, sender);
                        silent.retain(|pid| reports.iter().all(|report| report.pid != *pid));
                        reports.clear();
                    }
                    if is_last {
                        break;
                    }
                }
                if Instant::now() > until {
                    // Stopped before their report, and neither ended nor reported since.
                    let unreached = std::mem::take(&mut silent).into_iter();
                    for pid in unreached.filter(|pid| thread_state(*pid) != ThreadState::Gone) {
                        let report = Report::OutOfReach(pid, OutOfReach::LibraryNotLoaded);
                        drop(sender.blocking_send(report));
                    }
                }
            })
            .map_err(|error| RunError::System("start listening to reports", error))
    }
}

/// Turns reports of the library into reports to the supervisor.
struct PreloadReports {
    options: BindOptions,
    usage: OptionUsage,
    /// See `run_files::runtime_dir`.
    runtime: Option<OsString>,
}

impl PreloadReports {
    fn pass_on(&self, received: &[ReceivedReport], sender: &Sender<Report>) {
        let mut refused = Vec::new();
        for received in received {
            for item in self.read(received, &mut refused) {
                drop(sender.blocking_send(item));
            }
        }
        for event in why_refused_at(refused, self.runtime.as_deref()) {
            drop(sender.blocking_send(Report::Refused(event)));
        }
    }

    /// Reads one report. A refusal is put aside, to be explained together with others.
    fn read(&self, received: &ReceivedReport, refused: &mut Vec<RefusedBind>) -> Vec<Report> {
        if received.report != LibraryReport::Loaded {
            // The library sets IP_TRANSPARENT and IP_FREEBIND before any other option.
            self.usage.transparent();
            self.usage.freebind();
        }
        let (protocol, bound, asked, rule, sharing, errno) = match &received.report {
            LibraryReport::Loaded => return Vec::new(),
            LibraryReport::Source { .. } => {
                self.usage.source();
                return Vec::new();
            }
            LibraryReport::Bound { protocol, address, asked, rule, sharing, errno } => {
                (*protocol, *address, *asked, *rule, *sharing, *errno)
            }
        };
        let rule = rule.inspect(|rule| self.usage.rule(*rule));
        let rule = rule.and_then(|rule| self.options.rules.get(rule).copied());
        let (address, shared) = (Address::new(protocol, bound), sharing != SharedBy::NotShared);
        let mut reports = Vec::new();
        match (errno, rule) {
            (Some(Errno::AFNOSUPPORT), Some(rule)) => {
                let asked = asked.unwrap_or(bound);
                reports.push(Report::Remark(Remark::OtherFamily { asked, rule }));
            }
            (Some(_), _) => refused.push(RefusedBind { address, pid: received.pid, shared }),
            (None, _) if shared => reports.push(Report::Bound(address)),
            (None, _) => {}
        }
        let remark = rule.zip(asked).and_then(|(rule, asked)| Remark::moved(rule, asked, bound));
        reports.extend(remark.map(Report::Remark));
        reports
    }
}
