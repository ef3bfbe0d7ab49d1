//! The answers as one line of JSON. Version 1: fields may be added, none changes its meaning.

use sameport_policy::model::{Address, SocketState};
use sameport_policy::predict::{
    Conflict, Missing, PredictedRefusal, PredictedResult, Remedy, ReuseFlag, TrafficOutcome,
    Uncertainty, UnknownFact,
};
use serde::Serialize;

use crate::operations::why::{PresentSocket, WhyAnswer};
use crate::output::text::seconds_rounded_up as seconds;
use crate::output::{guard, json as json_line};

pub(crate) fn json(answers: &[WhyAnswer]) -> String {
    let told = Told { version: 1, answers: answers.iter().map(ToldAnswer::new).collect() };
    json_line::line(&told)
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    answers: Vec<ToldAnswer<'a>>,
}

#[derive(Serialize)]
struct ToldAnswer<'a> {
    proto: &'static str,
    address: String,
    v6only: bool,
    device: Option<&'a str>,
    uid: u32,
    reuse_address: bool,
    reuse_port: bool,
    /// Null when it depends on what cannot be seen.
    granted: Option<bool>,
    /// The call that fails, and its error.
    call: Option<&'static str>,
    error: Option<&'static str>,
    /// Whom the guard allows that refuses it; null where none does.
    guarded_for: Option<Vec<String>>,
    /// Everything on the port that has a part in the answer.
    sockets: Vec<ToldSocket<'a>>,
    remedies: Vec<ToldRemedy>,
}

#[derive(Serialize)]
struct ToldSocket<'a> {
    address: String,
    device: Option<&'a str>,
    /// `waiting`, `bound`, `connected` or `time-wait`.
    state: &'static str,
    pids: Vec<i32>,
    program: Option<&'a str>,
    /// Null for `time-wait`, which has no owner.
    uid: Option<u32>,
    /// Null where they can be neither read nor inferred.
    reuse_address: Option<bool>,
    reuse_port: Option<bool>,
    /// Seconds until it is gone; null for what does not go by itself.
    ends_in: Option<u64>,
    /// It is in the way: what sharing lacks, and what reuse lacks (null: that never helps).
    conflict: Option<ToldConflict>,
    /// It decides, by what is not known: `granted_if` one of these holds.
    granted_if: Option<Vec<&'static str>>,
    /// What becomes of traffic that both could take: `shared`, `taken` from it, `kept`, `unclear`;
    /// `race`: whoever of the two listens first has it.
    traffic: Vec<ToldEffect>,
}

#[derive(Serialize)]
struct ToldConflict {
    share_lacks: Vec<&'static str>,
    reuse_lacks: Option<Vec<&'static str>>,
}

#[derive(Serialize)]
struct ToldEffect {
    on: String,
    outcome: &'static str,
}

#[derive(Serialize)]
struct ToldRemedy {
    /// `reuse-address`, `join`, `share`, `as-user`, `without`, `part` or `port`.
    kind: &'static str,
    uid: Option<u32>,
    address: Option<String>,
    port: Option<u16>,
    /// The processes that it is about.
    pids: Vec<i32>,
}

impl<'a> ToldAnswer<'a> {
    fn new(answer: &'a WhyAnswer) -> Self {
        let wish = &answer.wish;
        let refused = match (&answer.guard, &answer.prediction.result) {
            (Some(_), _) => Some(("bind", "EPERM")),
            (None, PredictedResult::Refused(refused)) => Some(refused.error()),
            _ => None,
        };
        Self {
            proto: wish.address.protocol.name(),
            address: wish.address.socket.to_string(),
            v6only: wish.address.v6only,
            device: wish.address.device.as_deref(),
            uid: wish.uid,
            reuse_address: wish.reuse_address,
            reuse_port: wish.reuse_port,
            granted: answer.granted(),
            call: refused.map(|(call, _)| call),
            error: refused.map(|(_, error)| error),
            guarded_for: answer.guard.as_ref().map(guard::allowed),
            sockets: (0..answer.there.len()).filter_map(|at| ToldSocket::new(answer, at)).collect(),
            remedies: answer
                .remedies
                .iter()
                .map(|remedy| ToldRemedy::new(answer, remedy))
                .collect(),
        }
    }
}

impl<'a> ToldSocket<'a> {
    /// Nothing for a socket that has no part in the answer.
    fn new(answer: &'a WhyAnswer, at: usize) -> Option<Self> {
        let (mut conflict, mut granted_if) = (None, None);
        match &answer.prediction.result {
            PredictedResult::Refused(PredictedRefusal::InUse(conflicts)) => {
                conflict = conflicts.iter().find(|conflict| conflict.index == at).map(lacks);
            }
            PredictedResult::Uncertain(doubts) => {
                granted_if = doubts.iter().find(|doubt| doubt.index == at).map(condition);
            }
            _ => {}
        }
        let effects = answer.prediction.effects.iter().filter(|effect| effect.index == at);
        let traffic: Vec<_> = effects
            .map(|effect| ToldEffect {
                on: effect.address.to_string(),
                outcome: word(effect.outcome),
            })
            .collect();
        if conflict.is_none() && granted_if.is_none() && traffic.is_empty() {
            return None;
        }
        let told = |address: &'a Address| (address.socket.to_string(), address.device.as_deref());
        Some(match &answer.there[at] {
            PresentSocket::Socket(member) => {
                let (address, device) = told(&member.socket.address);
                let known = &answer.known[at];
                Self {
                    address,
                    device,
                    state: match member.socket.state {
                        SocketState::Waiting => "waiting",
                        SocketState::Bound => "bound",
                        SocketState::Connected => "connected",
                    },
                    pids: member.processes.iter().map(|process| process.pid).collect(),
                    program: member.processes.first().map(|process| &*process.program),
                    uid: Some(member.socket.uid),
                    reuse_address: known.reuse_address,
                    reuse_port: known.reuse_port,
                    ends_in: None,
                    conflict,
                    granted_if,
                    traffic,
                }
            }
            PresentSocket::Left(left) => {
                let (address, device) = told(&left.address);
                Self {
                    address,
                    device,
                    state: "time-wait",
                    pids: vec![],
                    program: None,
                    uid: None,
                    reuse_address: None,
                    reuse_port: None,
                    ends_in: Some(seconds(left.ends_in)),
                    conflict,
                    granted_if,
                    traffic,
                }
            }
        })
    }
}

fn lacks(conflict: &Conflict) -> ToldConflict {
    let words = |missing: &Missing| {
        let all =
            [("ours", missing.ours), ("theirs", missing.theirs), ("same-user", missing.same_user)];
        all.into_iter().filter_map(|(word, lacks)| lacks.then_some(word)).collect()
    };
    ToldConflict {
        share_lacks: words(&conflict.share_lacks),
        reuse_lacks: conflict.reuse_lacks.as_ref().map(words),
    }
}

fn condition(doubt: &Uncertainty) -> Vec<&'static str> {
    let flags = |flags: &[ReuseFlag]| {
        let word = |flag: &ReuseFlag| match flag {
            ReuseFlag::ReuseAddress => "reuse_address",
            ReuseFlag::ReusePort => "reuse_port",
        };
        flags.iter().map(word).collect::<Vec<_>>()
    };
    match &doubt.unknown {
        UnknownFact::AnySet(set) => flags(set),
        UnknownFact::V6onlyOrAnySet(set) => [flags(set), vec!["v6only"]].concat(),
        UnknownFact::LookupOrder => vec!["first"],
    }
}

fn word(outcome: TrafficOutcome) -> &'static str {
    match outcome {
        TrafficOutcome::Shared => "shared",
        TrafficOutcome::Taken => "taken",
        TrafficOutcome::Kept => "kept",
        TrafficOutcome::Unclear => "unclear",
        TrafficOutcome::Race => "race",
    }
}

impl ToldRemedy {
    fn new(answer: &WhyAnswer, remedy: &Remedy) -> Self {
        let pids = |with: &[usize]| {
            let processes = with.iter().flat_map(|at| match &answer.there[*at] {
                PresentSocket::Socket(member) => &member.processes[..],
                PresentSocket::Left(_) => &[],
            });
            let mut pids: Vec<_> = processes.map(|process| process.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            pids
        };
        let plain = |kind| Self { kind, uid: None, address: None, port: None, pids: vec![] };
        match remedy {
            Remedy::ReuseAddress => plain("reuse-address"),
            Remedy::Join(with) => Self { pids: pids(with), ..plain("join") },
            Remedy::Share(with) => Self { pids: pids(with), ..plain("share") },
            Remedy::AsUser { uid, restart } => {
                Self { uid: Some(*uid), pids: pids(restart), ..plain("as-user") }
            }
            Remedy::Remove(with) => Self { pids: pids(with), ..plain("without") },
            Remedy::OneFamily(address) => {
                Self { address: Some(address.to_string()), ..plain("part") }
            }
            Remedy::OtherPort(port) => Self { port: Some(*port), ..plain("port") },
        }
    }
}
