//! The preload interposer: workers that load our library, and its reports.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use sameport_policy::model::Address;
use sameport_sys::Errno;
use sameport_sys::fd::poll::wait_readable;
use sameport_sys::preload;
use sameport_sys::preload::{
    LibraryFile, LibraryOptions, LibraryReport, Loadable, ReceivedReport, ReportSocket, SharedBy,
};
use sameport_sys::process::signals;
use sameport_sys::process::{SpawnOptions, ThreadState, thread_state};
use tokio::sync::mpsc::Sender;

use crate::bind_options::{BindOptions, OptionUsage};
use crate::conflict_report::{RefusedBind, why_refused_at};
use crate::error::RunError;
use crate::event::{OutOfReach, Remark};
use crate::plan::RunPlan;
use crate::report::{Report, Reporter};

/// How many rules the library has room for.
const MOST_RULES: usize = 1024;

/// How long a worker may take to report that the library is loaded: the dynamic linker does it
/// before the program's first instruction.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the reports are looked for when none comes: the end of the run is noticed as late.
const STEP: Duration = Duration::from_millis(20);

/// How many reports are passed on together, with one look at who is in the way of all.
const AT_ONCE: usize = 4096;

/// The library in its place, and where its reports arrive.
#[derive(Debug)]
pub(crate) struct PreloadInterposer {
    placed: LibraryFile,
    inbox: Option<ReportSocket>,
    environment: Vec<(OsString, Option<OsString>)>,
    wishes: BindOptions,
    used: OptionUsage,
}

impl PreloadInterposer {
    pub(crate) fn new(plan: &RunPlan, used: OptionUsage) -> Result<Self, RunError> {
        let library = plan.preload_library.map_err(RunError::NoLibrary)?;
        let wishes = &plan.bind_options;
        if wishes.rules.len() > MOST_RULES {
            return Err(RunError::TooManyRules(MOST_RULES));
        }
        if let Some(program) = plan.locate()
            && let Loadable::No { file, obstacle } =
                preload::check_program(&program, plan.search_path.as_deref())
        {
            return Err(RunError::NotLoadable(file, obstacle));
        }
        let runtime = plan.environment.runtime_dir.as_deref().map(Path::new);
        let placed =
            preload::install(library, &preload::folders(runtime)).map_err(RunError::PreloadDir)?;
        let inbox =
            ReportSocket::open().map_err(|errno| RunError::System("socket", errno.into()))?;
        let orders = LibraryOptions {
            share: Some(&wishes.ports),
            map: &wishes.rules,
            source: wishes.source,
            transparent: wishes.transparent,
            report: inbox.name(),
            children: plan.child_policy,
        };
        let already = plan.environment.ld_preload.as_deref();
        let set = orders.variables(placed.path(), already);
        let removed = LibraryOptions::UNSET.iter().map(|name| ((*name).into(), None));
        let set = set.into_iter().map(|(name, value)| (name.into(), Some(value)));
        let environment = removed.chain(set).collect();
        Ok(Self { placed, inbox: Some(inbox), environment, wishes: wishes.clone(), used })
    }

    pub(crate) fn setting(&self) -> SpawnOptions<'_> {
        SpawnOptions { environment: self.environment.clone(), ..SpawnOptions::default() }
    }

    /// Waits until every worker has reported that the library is loaded, or all are to stop, then
    /// passes on what they report.
    pub(crate) fn attend(&mut self, pids: &[i32], beside: Reporter) -> Result<(), RunError> {
        let Some(mut inbox) = self.inbox.take() else { return Ok(()) };
        let reporting = PreloadReports { wishes: self.wishes.clone(), used: self.used.clone() };
        let mut silent: BTreeSet<i32> = pids.iter().copied().collect();
        // Nobody hears us before that.
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
        beside
            .repeat(move |news| {
                wait_readable(&inbox, STEP);
                // All that is there, and to the last: the kernel has room for some thousands only, and
                // after the end nobody comes back for more.
                loop {
                    let some = inbox.take();
                    let is_last = some.is_empty();
                    reports.extend(some);
                    if is_last || reports.len() >= AT_ONCE {
                        reporting.pass_on(&reports, news);
                        silent.retain(|pid| reports.iter().all(|report| report.pid != *pid));
                        reports.clear();
                    }
                    if is_last {
                        break;
                    }
                }
                if Instant::now() > until {
                    // Told to stop before they had reported, and they have done neither since.
                    let unreached = std::mem::take(&mut silent).into_iter();
                    for pid in unreached.filter(|pid| thread_state(*pid) != ThreadState::Gone) {
                        drop(
                            news.blocking_send(Report::OutOfReach(
                                pid,
                                OutOfReach::LibraryNotLoaded,
                            )),
                        );
                    }
                }
            })
            .map_err(|error| RunError::System("start listening to reports", error))
    }
}

/// What becomes of reports.
struct PreloadReports {
    wishes: BindOptions,
    used: OptionUsage,
}

impl PreloadReports {
    fn pass_on(&self, received: &[ReceivedReport], news: &Sender<Report>) {
        let mut refused = Vec::new();
        for received in received {
            for item in self.understand(received, &mut refused) {
                drop(news.blocking_send(item));
            }
        }
        for event in why_refused_at(refused) {
            drop(news.blocking_send(Report::Refused(event)));
        }
    }

    /// What a report means; a refusal is put aside, to be explained together with others.
    fn understand(&self, received: &ReceivedReport, refused: &mut Vec<RefusedBind>) -> Vec<Report> {
        if received.report != LibraryReport::Loaded {
            // It is set before anything else is done to a socket.
            self.used.transparent();
        }
        let (protocol, address, asked, rule, sharing, errno) = match &received.report {
            LibraryReport::Loaded => return Vec::new(),
            LibraryReport::Source { .. } => {
                self.used.source();
                return Vec::new();
            }
            LibraryReport::Bound { protocol, address, asked, rule, sharing, errno } => {
                (*protocol, *address, *asked, *rule, *sharing, *errno)
            }
        };
        let rule = rule.inspect(|rule| self.used.rule(*rule));
        let rule = rule.and_then(|rule| self.wishes.rules.get(rule).copied());
        let (told, shared) = (Address::new(protocol, address), sharing != SharedBy::NotShared);
        let mut news = Vec::new();
        match (errno, rule) {
            (Some(Errno::AFNOSUPPORT), Some(rule)) => {
                let asked = asked.unwrap_or(address);
                news.push(Report::Remark(Remark::OtherFamily { asked, rule }));
            }
            (Some(_), _) => {
                refused.push(RefusedBind { address: told, pid: received.pid, shared });
            }
            (None, _) if shared => news.push(Report::Joined(told)),
            (None, _) => {}
        }
        let remark = asked.and_then(|asked| Remark::one_family(asked, address));
        news.extend(remark.map(Report::Remark));
        news
    }
}
