//! Who came to a port, who went, and who changed: a line each.

use sameport_policy::diff::{SocketChange, changes};
use sameport_policy::model::Member;
use serde::Serialize;

use super::json::{ToldAddress, ToldMember};
use super::table::{belongs_to, options, pids, programs, some, user};
use crate::operations::list::Listing;
use crate::output::json::line;
use crate::output::text::printable;

/// How many pids or names a line has; the rest are counted.
const NAMED: usize = 16;

/// What was told last; then what has changed since.
#[derive(Default)]
pub(crate) struct ChangeLines {
    last: Option<Vec<Member>>,
}

impl ChangeLines {
    /// A line for everybody who is there, the first time; then one for everything that happened
    /// between the last look and this one. Nothing for nothing.
    pub(crate) fn lines(&mut self, listing: Listing, json: bool) -> String {
        let tell = |event: ChangeEvent, member: &Member, from: Option<&Member>| match json {
            true => line(&Told {
                version: 1,
                at: listing.at.as_secs(),
                event: event.name(),
                on: ToldAddress::new(&member.socket.address),
                member: ToldMember::new(member, &listing),
                was: from.map(|from| ToldMember::new(from, &listing)),
            }),
            false => words(event, member, from),
        };
        let text = match &self.last {
            None => {
                listing.members().map(|member| tell(ChangeEvent::There, member, None)).collect()
            }
            Some(last) => {
                let now: Vec<Member> = listing.members().cloned().collect();
                let happened = changes(last, &now);
                let told = happened.into_iter().map(|coming| match coming {
                    SocketChange::Came(member) => tell(ChangeEvent::Came, member, None),
                    SocketChange::Went(member) => tell(ChangeEvent::Went, member, None),
                    SocketChange::Changed { from, to } => {
                        tell(ChangeEvent::Changed, to, Some(from))
                    }
                });
                told.collect()
            }
        };
        self.last = Some(listing.groups.into_iter().flat_map(|group| group.members).collect());
        text
    }
}

#[derive(Debug, Clone, Copy)]
enum ChangeEvent {
    There,
    Came,
    Went,
    Changed,
}

impl ChangeEvent {
    fn name(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Came => "came",
            Self::Went => "went",
            Self::Changed => "changed",
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    /// Seconds since 1970: when it was seen, at most a second or one look after it happened.
    at: u64,
    event: &'static str,
    #[serde(flatten)]
    on: ToldAddress<'a>,
    member: ToldMember<'a>,
    /// Of what changed, how it was.
    was: Option<ToldMember<'a>>,
}

/// `changed  tcp 127.0.0.1:80 waiting, pid 7 (nginx), user ann, api.service: limit 5 -> 128`.
fn words(event: ChangeEvent, member: &Member, from: Option<&Member>) -> String {
    let socket = &member.socket;
    let mut text = format!(
        "{:7}  {} {} {}, {}, user {}",
        event.name(),
        socket.address.protocol,
        socket.address,
        socket.state.name(),
        processes(member),
        user(member),
    );
    if let Some(unit) = belongs_to(member) {
        text.push_str(&format!(", {unit}"));
    }
    if let Some(from) = from {
        text.push_str(&format!(": {}", differences(from, member).join(", ")));
    }
    printable(&text) + "\n"
}

fn processes(member: &Member) -> String {
    match member.processes.len() {
        0 => "pid unknown".to_owned(),
        _ => {
            let names = some(programs(&member.processes), NAMED);
            format!("pid {} ({names})", some(pids(member), NAMED))
        }
    }
}

fn differences(from: &Member, to: &Member) -> Vec<String> {
    let number = |fact: Option<u32>| fact.map_or_else(|| "unknown".into(), |n| n.to_string());
    let shared = |member: &Member| match member.shared {
        Some(true) => "shared".to_owned(),
        Some(false) => "not shared".to_owned(),
        None => "unknown".to_owned(),
    };
    let facts: [(&str, [String; 2]); 8] = [
        ("address", [from, to].map(|it| it.socket.address.to_string())),
        ("state", [from, to].map(|it| it.socket.state.name().to_owned())),
        ("owner", [from, to].map(user)),
        ("limit", [from, to].map(|it| it.socket.backlog.to_string())),
        ("drops", [from, to].map(|it| number(it.socket.drops))),
        ("sharing", [from, to].map(shared)),
        ("options", [from, to].map(options)),
        ("pids", [from, to].map(|it| some(pids(it), NAMED))),
    ];
    let different = facts.into_iter().filter(|(_, [from, to])| from != to);
    different.map(|(name, [from, to])| format!("{name} {from} -> {to}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sameport_policy::model::group_by_address;
    use sameport_policy::model::{Address, Process, Protocol, Socket, SocketState};

    use super::*;

    fn member(cookie: u64) -> Member {
        let address = Address::new(Protocol::Tcp, ([127, 0, 0, 1], 80).into());
        let socket = Socket { cookie, backlog: 5, ..Socket::new(address, 7, 1000) };
        Member {
            processes: vec![Process::new(7, "web\u{1b}")],
            user: Some("ann".into()),
            cgroup: Some("/system.slice/api.service".into()),
            ..Member::new(socket)
        }
    }

    fn seen(members: Vec<Member>) -> Listing {
        Listing {
            groups: group_by_address(members),
            complete: true,
            bound: true,
            iterated: false,
            nameless: None,
            connected: false,
            attached: None,
            at: Duration::from_millis(5500),
        }
    }

    #[test]
    fn what_is_there_and_then_what_happens() {
        let mut comings = ChangeLines::default();
        let mut say = |members| comings.lines(seen(members), false);
        let who = "tcp 127.0.0.1:80 waiting, pid 7 (web\\u{1b}), user ann, api.service";
        assert_eq!(say(vec![member(1)]), format!("there    {who}\n"));
        assert_eq!(say(vec![member(1)]), "");
        let mut other = member(1);
        other.socket.state = SocketState::Bound;
        other.socket.backlog = 0;
        other.processes.push(Process::new(8, "web"));
        let changed = "changed  tcp 127.0.0.1:80 bound, pid 7,8 (web\\u{1b},web), user ann, \
                       api.service: state waiting -> bound, limit 5 -> 0, pids 7 -> 7,8\n";
        assert_eq!(say(vec![other.clone()]), changed);
        let mut unseen = member(2);
        unseen.processes.clear();
        unseen.cgroup = None;
        assert_eq!(
            say(vec![other, unseen.clone()]),
            "came     tcp 127.0.0.1:80 waiting, pid unknown, user ann\n"
        );
        assert!(say(vec![unseen]).starts_with("went     tcp 127.0.0.1:80 bound, "));
        assert!(say(vec![]).starts_with("went     "));
        assert_eq!(say(vec![]), "");
    }

    #[test]
    fn programs_get_a_line_of_json_each() {
        let mut comings = ChangeLines::default();
        let mut say = |members| -> Vec<serde_json::Value> {
            let text = comings.lines(seen(members), true);
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let there = say(vec![member(1), member(2)]);
        assert_eq!(there.len(), 2);
        assert_eq!(there[0]["version"], 1);
        assert_eq!((&there[0]["event"], &there[0]["at"]), (&"there".into(), &5.into()));
        assert_eq!(
            (&there[0]["proto"], &there[0]["address"]),
            (&"tcp".into(), &"127.0.0.1:80".into())
        );
        assert_eq!((&there[0]["member"]["cookie"], &there[0]["was"]), (&1.into(), &().into()));
        let mut grown = member(2);
        grown.socket.backlog = 9;
        let happened = say(vec![grown]);
        let events: Vec<_> = happened.iter().map(|told| told["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["went", "changed"]);
        assert_eq!(happened[1]["was"]["backlog"], 5);
        assert_eq!(happened[1]["member"]["backlog"], 9);
    }
}
