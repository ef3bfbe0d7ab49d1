//! `audit --watch`: changes on ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use sameport_policy::audit::{Finding, Party, TakeoverTracker, parties};
use sameport_policy::model::{Address, Socket, SocketState};
use sameport_sys::inspect;
use sameport_sys::inspect::{SocketQuery, StateFilter};

use super::{AuditRequest, Error, facts};

/// The interval of listing the sockets, which takes a few milliseconds for thousands.
const SOCKETS_INTERVAL: Duration = Duration::from_millis(250);

/// The interval of inspecting the processes while the sockets stay the same: a socket can pass to another
/// process.
const PROCESSES_INTERVAL: Duration = Duration::from_secs(5);

/// An event of the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortChange {
    /// The watch began: later events are complete.
    Began,
    /// A new finding.
    Found(Finding),
    /// A finding has gone.
    Gone(Finding),
    /// A socket listens or is bound.
    Joined(Party),
    /// A socket was closed.
    Left(Party),
    /// An inspection failed.
    Blind(String),
}

/// Passes changes to `report` until it breaks; after each inspection it is called with `None`. A socket
/// that lives shorter than the interval may be missed.
///
/// # Errors
///
/// Those of `report` and of the first inspection; later ones are events.
pub(crate) fn watch(
    request: &AuditRequest,
    report: &mut dyn FnMut(Option<PortChange>) -> ControlFlow<io::Result<()>>,
) -> Result<io::Result<()>, Error> {
    let mut state = AuditState::default();
    state.inspect(request)?;
    state.changes.clear();
    state.changes.push(PortChange::Began);
    state.changes.extend(state.findings.iter().cloned().map(PortChange::Found));
    loop {
        for change in state.changes.drain(..).map(Some).chain([None]) {
            if let ControlFlow::Break(end) = report(change) {
                return Ok(end);
            }
        }
        std::thread::sleep(SOCKETS_INTERVAL);
        let inspected = match sockets(request) {
            Ok(sockets) if sockets == state.sockets && state.is_fresh() => Ok(()),
            Ok(_) => state.inspect(request),
            Err(error) => Err(error),
        };
        if let Err(error) = inspected {
            state.changes.push(PortChange::Blind(error.to_string()));
        }
    }
}

/// The sockets, as they are compared between inspections.
type SocketKeys = BTreeSet<(u64, Address, SocketState, u32)>;

/// All sockets, without their processes.
fn sockets(request: &AuditRequest) -> Result<SocketKeys, inspect::InspectError> {
    let query = SocketQuery { port: request.port(), ..SocketQuery::everything() };
    let listed = inspect::list_without_owners(&query.in_states(StateFilter::Unconnected))?;
    let listed = listed.iter().filter(|socket| request.includes(&socket.address));
    Ok(listed.map(socket_key).collect())
}

fn socket_key(socket: &Socket) -> (u64, Address, SocketState, u32) {
    (socket.cookie, socket.address.clone(), socket.state, socket.uid)
}

/// The result of the last inspection and the changes since the one before.
#[derive(Default)]
struct AuditState {
    sockets: SocketKeys,
    parties: BTreeMap<u64, Party>,
    findings: Vec<Finding>,
    /// Found once, and reported if found again.
    unconfirmed: Vec<Finding>,
    takeovers: TakeoverTracker,
    inspected: Option<Instant>,
    changes: Vec<PortChange>,
}

impl AuditState {
    /// False while a finding needs confirmation.
    fn is_fresh(&self) -> bool {
        let fresh = |at: Instant| at.elapsed() < PROCESSES_INTERVAL;
        self.unconfirmed.is_empty() && self.inspected.is_some_and(fresh)
    }

    fn inspect(&mut self, request: &AuditRequest) -> Result<(), inspect::InspectError> {
        let (facts, _) = facts(request, true)?;
        let first = self.inspected.is_none();
        self.inspected = Some(Instant::now());
        let waits = |socket: &&Socket| {
            socket.state != SocketState::Connected && request.includes(&socket.address)
        };
        let sockets = facts.members.iter().map(|member| &member.socket).filter(waits);
        self.sockets = sockets.map(socket_key).collect();
        let mut parties = parties(&facts);
        parties.retain(|_, party| request.includes(&party.address));
        self.compare_parties(parties);
        let mut found = request.findings(&facts);
        if first {
            std::thread::sleep(super::TRANSIENT);
            let again = request.findings(&super::facts(request, true)?.0);
            found.retain(|finding| again.iter().any(|other| other.is_same(finding)));
        }
        self.compare_findings(found, first);
        let taken = self.takeovers.update(&facts).into_iter();
        let taken = taken.filter(|finding| request.includes_finding(finding));
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
        let (sure, unconfirmed): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|finding| at_once || has(&self.unconfirmed, finding));
        self.changes.extend(sure.iter().cloned().map(PortChange::Found));
        self.findings = known.into_iter().chain(sure).collect();
        self.unconfirmed = unconfirmed;
    }
}
