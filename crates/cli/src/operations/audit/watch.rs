//! What changes on ports, as it does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use sameport_policy::audit::{Finding, Party, TakeoverTracker, audit, parties};
use sameport_policy::model::{Address, Socket, SocketState};
use sameport_sys::inspect;
use sameport_sys::inspect::{SocketQuery, StateFilter};

use super::{AuditRequest, facts};

/// How often the sockets are listed, which costs a few milliseconds for thousands.
const LOOK: Duration = Duration::from_millis(250);

/// How often the processes are looked at, too, though the sockets are the same: one may have got
/// another's.
const CLOSER_LOOK: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortChange {
    /// Whoever is there from now on is told of.
    Began,
    /// Something is wrong that was not before.
    Found(Finding),
    /// It is no more.
    Gone(Finding),
    /// A socket waits, or is bound, that was not.
    Joined(Party),
    /// It does no more.
    Left(Party),
    /// For once it could not be looked.
    Blind(String),
}

/// Tells of changes until `tell` ends it; it is called with nothing at every look, too. What lives
/// shorter than the time between two looks is not seen.
///
/// # Errors
///
/// Those of `tell`, and of the first look: later ones are told and made again.
pub(crate) fn watch(
    request: &AuditRequest,
    tell: &mut dyn FnMut(Option<PortChange>) -> ControlFlow<io::Result<()>>,
) -> Result<io::Result<()>, inspect::InspectError> {
    let mut seen = AuditState::default();
    seen.look(request)?;
    seen.changes.clear();
    seen.changes.push(PortChange::Began);
    seen.changes.extend(seen.findings.iter().cloned().map(PortChange::Found));
    loop {
        for change in seen.changes.drain(..).map(Some).chain([None]) {
            if let ControlFlow::Break(end) = tell(change) {
                return Ok(end);
            }
        }
        std::thread::sleep(LOOK);
        let looked = match sockets(request) {
            Ok(sockets) if sockets == seen.sockets && seen.is_fresh() => Ok(()),
            Ok(_) => seen.look(request),
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            seen.changes.push(PortChange::Blind(error.to_string()));
        }
    }
}

/// What is compared from look to look.
type FindingKey = BTreeSet<(u64, Address, SocketState, u32)>;

/// All sockets, without a look at any process.
fn sockets(request: &AuditRequest) -> Result<FindingKey, inspect::InspectError> {
    let query = SocketQuery { port: request.port, ..SocketQuery::everything() };
    let listed = inspect::list_without_owners(&query.in_states(StateFilter::Unconnected))?;
    Ok(listed.iter().map(known).collect())
}

fn known(socket: &Socket) -> (u64, Address, SocketState, u32) {
    (socket.cookie, socket.address.clone(), socket.state, socket.uid)
}

/// What was seen last, and what has changed since then.
#[derive(Default)]
struct AuditState {
    sockets: FindingKey,
    parties: BTreeMap<u64, Party>,
    findings: Vec<Finding>,
    /// Seen once, and told if seen again.
    perhaps: Vec<Finding>,
    succession: TakeoverTracker,
    looked: Option<Instant>,
    changes: Vec<PortChange>,
}

impl AuditState {
    /// What was found only once so far is looked at again soon.
    fn is_fresh(&self) -> bool {
        let fresh = |at: Instant| at.elapsed() < CLOSER_LOOK;
        self.perhaps.is_empty() && self.looked.is_some_and(fresh)
    }

    fn look(&mut self, request: &AuditRequest) -> Result<(), inspect::InspectError> {
        let (facts, _) = facts(request)?;
        let first = self.looked.is_none();
        self.looked = Some(Instant::now());
        let waits = |socket: &&Socket| socket.state != SocketState::Connected;
        let sockets = facts.members.iter().map(|member| &member.socket).filter(waits);
        self.sockets = sockets.map(known).collect();
        self.compare_parties(parties(&facts));
        let mut found = audit(&facts);
        if first {
            std::thread::sleep(super::PASSING);
            let again = audit(&super::facts(request)?.0);
            found.retain(|finding| again.iter().any(|other| other.is_same(finding)));
        }
        self.compare_findings(found, first);
        let taken = self.succession.update(&facts).into_iter();
        self.changes.extend(taken.map(PortChange::Found));
        Ok(())
    }

    fn compare_parties(&mut self, now: BTreeMap<u64, Party>) {
        let came = now.iter().filter(|(cookie, _)| !self.parties.contains_key(cookie));
        self.changes.extend(came.map(|(_, party)| PortChange::Joined(party.clone())));
        let left = self.parties.iter().filter(|(cookie, _)| !now.contains_key(cookie));
        self.changes.extend(left.map(|(_, party)| PortChange::Left(party.clone())));
        self.parties = now;
    }

    fn compare_findings(&mut self, found: Vec<Finding>, at_once: bool) {
        let has = |list: &[Finding], finding: &Finding| list.iter().any(|it| it.is_same(finding));
        let (known, new): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|finding| has(&self.findings, finding));
        let gone = self.findings.iter().filter(|finding| !has(&known, finding));
        self.changes.extend(gone.cloned().map(PortChange::Gone));
        let (sure, perhaps): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|finding| at_once || has(&self.perhaps, finding));
        self.changes.extend(sure.iter().cloned().map(PortChange::Found));
        self.findings = known.into_iter().chain(sure).collect();
        self.perhaps = perhaps;
    }
}
