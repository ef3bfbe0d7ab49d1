//! The preload interposer: workers that load our library, and its reports.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use sameport_linux::Errno;
use sameport_linux::preload::{self, Inbox, Loadable, Orders, Placed, Received, Report, Sharing};
use sameport_linux::waiting::readable;
use sameport_linux::worker::Setting;
use sameport_rules::sockets::Address;
use tokio::sync::mpsc::Sender;

use super::interposer::Beside;
use super::looking::why_refused_at;
use super::supervisor::News;
use super::{Error, Plan, Remark, Used, Wishes};

/// How many rules the library has room for.
const MOST_RULES: usize = 1024;

/// How long a worker may take to report that the library is loaded: the dynamic linker does it
/// before the program's first instruction.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the reports are looked for when none comes: the end of the run is noticed as late.
const STEP: Duration = Duration::from_millis(20);

/// The library in its place, and where its reports arrive.
#[derive(Debug)]
pub(super) struct Preload {
    placed: Placed,
    inbox: Option<Inbox>,
    environment: Vec<(OsString, Option<OsString>)>,
    wishes: Wishes,
    used: Used,
}

impl Preload {
    pub(super) fn new(plan: &Plan, used: Used) -> Result<Self, Error> {
        let library =
            sameport_preload::LIBRARY.ok_or(Error::NoLibrary(sameport_preload::WHY_NOT))?;
        let wishes = &plan.wishes;
        if wishes.rules.len() > MOST_RULES {
            return Err(Error::TooManyRules(MOST_RULES));
        }
        if let Some(program) = plan.locate()
            && let Loadable::No { file, obstacle } =
                preload::check(&program, plan.search_path.as_deref())
        {
            return Err(Error::NotLoadable(file, obstacle));
        }
        let runtime = plan.environment.runtime_folder.as_deref().map(Path::new);
        let placed = preload::place(library, &preload::folders(runtime)).map_err(Error::Place)?;
        let inbox = Inbox::open().map_err(|errno| Error::System("socket", errno.into()))?;
        let orders = Orders {
            share: Some(&wishes.ports),
            map: &wishes.rules,
            source: wishes.source,
            transparent: wishes.transparent,
            report: inbox.name(),
            children: plan.children,
        };
        let already = plan.environment.preloaded.as_deref();
        let set = orders.variables(placed.path(), already);
        let removed = Orders::UNSET.iter().map(|name| ((*name).into(), None));
        let set = set.into_iter().map(|(name, value)| (name.into(), Some(value)));
        let environment = removed.chain(set).collect();
        Ok(Self { placed, inbox: Some(inbox), environment, wishes: wishes.clone(), used })
    }

    pub(super) fn setting(&self) -> Setting<'_> {
        Setting { environment: self.environment.clone(), ..Setting::default() }
    }

    /// Waits until every worker has reported that the library is loaded, then passes on what they
    /// report.
    pub(super) fn attend(&mut self, pids: &[i32], beside: Beside) -> Result<(), Error> {
        let Some(mut inbox) = self.inbox.take() else { return Ok(()) };
        let reporting = Reporting { wishes: self.wishes.clone(), used: self.used.clone() };
        let mut silent: BTreeSet<i32> = pids.iter().copied().collect();
        let until = Instant::now() + PATIENCE;
        while !silent.is_empty() {
            if Instant::now() > until {
                let placed = self.placed.path().to_owned();
                return Err(Error::HookNotLoaded(placed, self.placed.is_there()));
            }
            readable(&inbox, STEP);
            for received in inbox.take() {
                silent.remove(&received.pid);
                reporting.pass_on(&received, &beside.news);
            }
        }
        beside
            .repeat(move |news| {
                readable(&inbox, STEP);
                inbox.take().iter().for_each(|received| reporting.pass_on(received, news));
            })
            .map_err(|error| Error::System("start listening to reports", error))
    }
}

/// What becomes of reports.
struct Reporting {
    wishes: Wishes,
    used: Used,
}

impl Reporting {
    fn pass_on(&self, received: &Received, news: &Sender<News>) {
        match &received.report {
            Report::Loaded => {}
            Report::Source { .. } => self.used.source(),
            Report::Bound { protocol, address, asked, rule, sharing, errno } => {
                let rule = rule.inspect(|rule| self.used.rule(*rule));
                let rule = rule.and_then(|rule| self.wishes.rules.get(rule).copied());
                let told = Address::new(*protocol, *address);
                let event = match (errno, rule) {
                    (Some(Errno::AFNOSUPPORT), Some(rule)) => {
                        let asked = asked.unwrap_or(*address);
                        Some(News::Say(Remark::OtherFamily { asked, rule }))
                    }
                    (Some(_), _) => {
                        let shared = *sharing != Sharing::Alone;
                        why_refused_at(told, received.pid, shared).map(News::Refused)
                    }
                    (None, _) if *sharing != Sharing::Alone => Some(News::Joined(told)),
                    (None, _) => None,
                };
                let remark = asked.and_then(|asked| Remark::one_family(asked, *address));
                for news_item in event.into_iter().chain(remark.map(News::Say)) {
                    // A full channel loses a report, nothing else.
                    drop(news.try_send(news_item));
                }
            }
        }
    }
}

impl Remark {
    /// A program that asked for both families, and got an IPv4 address.
    pub(super) fn one_family(asked: SocketAddr, target: SocketAddr) -> Option<Self> {
        let both = asked.is_ipv6() && asked.ip().is_unspecified();
        (both && target.ip().to_canonical().is_ipv4()).then_some(Self::OneFamily { asked, target })
    }
}
