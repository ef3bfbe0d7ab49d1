//! The output of `why --json`. Version 1: fields may be added, none changes its meaning.

use serde::Serialize;

use sameport_policy::model::Process;
use sameport_policy::predict::{PredictedRefusal, PredictedResult, Remedy};

use super::remedies;
use crate::operations::why::{PortUser, WhyAnswer};
use crate::output::guard;
use crate::output::json::{line, object};
use crate::output::text::seconds_rounded_up;

pub(crate) fn json(answers: &[WhyAnswer]) -> String {
    let answers: Vec<_> = answers.iter().map(answer_view).collect();
    line(&object! { version: 1, answers: answers })
}

/// `granted` is null where it depends on facts that cannot be seen; `call` and `error` are those of the
/// call that fails; `guarded_for` lists what a guard allows that refuses this bind.
fn answer_view(answer: &WhyAnswer) -> impl Serialize + '_ {
    let request = &answer.request;
    let refused = match (&answer.guard, &answer.prediction.result) {
        (Some(_), _) => Some(("bind", "EPERM")),
        (None, PredictedResult::Refused(refused)) => Some(refused.error()),
        _ => None,
    };
    let sockets: Vec<_> =
        (0..answer.sockets.len()).filter_map(|index| socket_view(answer, index)).collect();
    let with_privilege = answer.privileged.iter().flat_map(|(_, remedies)| remedies);
    let remedies: Vec<_> = answer
        .remedies
        .iter()
        .chain(with_privilege)
        .map(|remedy| remedy_view(answer, remedy))
        .collect();
    object! {
        proto: request.address.protocol,
        address: request.address.socket,
        v6only: request.address.v6only,
        device: &request.address.device,
        uid: request.uid,
        reuse_address: request.reuse_address,
        reuse_port: request.reuse_port,
        granted: answer.granted(),
        call: refused.map(|(call, _)| call),
        error: refused.map(|(_, error)| error),
        guarded_for: answer.guard.as_ref().map(guard::allowed),
        sockets: sockets,
        remedies: remedies,
    }
}

/// A socket that the answer depends on. `uid` is null for `time-wait`; `ends_in` is in seconds;
/// `conflict` lists what sharing and what reuse lacks (null: reuse never helps); `granted_if` lists
/// unknown facts, one of which suffices; `traffic` says what becomes of traffic that both could take;
/// `sibling`: it has the address of the other family. For a low port without the privilege, the conflicts are
/// those that remain with it.
fn socket_view(answer: &WhyAnswer, index: usize) -> Option<impl Serialize + '_> {
    let (mut conflict, mut granted_if) = (None, None);
    let prediction = answer.privileged.as_ref().map_or(&answer.prediction, |(next, _)| next);
    match &prediction.result {
        PredictedResult::Refused(PredictedRefusal::InUse(conflicts)) => {
            conflict = conflicts.iter().find(|conflict| conflict.index == index);
        }
        PredictedResult::Uncertain(doubts) => {
            granted_if = doubts.iter().find(|doubt| doubt.index == index);
        }
        _ => {}
    }
    let effects = answer.prediction.effects.iter().filter(|effect| effect.index == index);
    let traffic: Vec<_> = effects.collect();
    let is_sibling = answer.siblings.contains(&index);
    if conflict.is_none() && granted_if.is_none() && traffic.is_empty() && !is_sibling {
        return None;
    }
    let (address, member) = match &answer.sockets[index] {
        PortUser::Socket(member) => (&member.socket.address, Some(member)),
        PortUser::TimeWait(closed) => (&closed.address, None),
    };
    let known = member.map(|_| &answer.known[index]);
    Some(object! {
        address: address.socket,
        device: &address.device,
        state: member.map_or("time-wait", |member| member.socket.state.name()),
        pids: member.map_or(vec![], |member| pids(&member.processes)),
        program: member.and_then(|member| member.processes.first()).map(|it| &it.program),
        uid: member.map(|member| member.socket.uid),
        reuse_address: known.and_then(|known| known.reuse_address),
        reuse_port: known.and_then(|known| known.reuse_port),
        ends_in: match &answer.sockets[index] {
            PortUser::TimeWait(closed) => Some(seconds_rounded_up(closed.ends_in)),
            PortUser::Socket(_) => None,
        },
        holder: &answer.holders[index],
        conflict: conflict,
        granted_if: granted_if,
        traffic: traffic,
        sibling: is_sibling,
    })
}

fn pids(processes: &[Process]) -> Vec<i32> {
    processes.iter().map(|process| process.pid).collect()
}

/// `pids` are the processes that hold the sockets which the remedy ends or restarts; `text` is the line of the
/// text output, null if there is none.
fn remedy_view(answer: &WhyAnswer, remedy: &Remedy) -> impl Serialize + use<> {
    let pids = |indices: &[usize]| {
        let processes = indices.iter().flat_map(|index| match &answer.sockets[*index] {
            PortUser::Socket(member) => &member.processes[..],
            PortUser::TimeWait(_) => &[],
        });
        let mut pids: Vec<i32> = processes.map(|process| process.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    let none = &[][..];
    let text = remedies::line(answer, remedy);
    let addresses: Vec<String> = match remedy {
        Remedy::Specific(addresses) => addresses.iter().map(ToString::to_string).collect(),
        _ => vec![],
    };
    let (kind, uid, address, port, with) = match remedy {
        Remedy::ReuseAddress => ("reuse-address", None, None, None, none),
        Remedy::Join(with) => ("join", None, None, None, &with[..]),
        Remedy::Share(with) => ("share", None, None, None, &with[..]),
        Remedy::AsUser { uid, restart } => ("as-user", Some(*uid), None, None, &restart[..]),
        Remedy::Remove(with) => ("without", None, None, None, &with[..]),
        Remedy::OneFamily(address) => ("part", None, Some(address.to_string()), None, none),
        Remedy::Specific(_) => ("addresses", None, None, None, none),
        Remedy::Freebind => ("freebind", None, None, None, none),
        Remedy::Transparent => ("transparent", None, None, None, none),
        Remedy::OtherPort(port) => ("port", None, None, Some(*port), none),
    };
    let pids = pids(with);
    object! {
        kind: kind, uid: uid, address: address, addresses: addresses, port: port, pids: pids, text: text,
    }
}
