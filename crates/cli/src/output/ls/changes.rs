//! The changes that `ls --watch` prints: one line a socket.

use sameport_policy::diff::{SocketChange, changes};
use sameport_policy::model::Member;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::json::{MemberView, ServiceCache, address_fields};
use super::table::{options, pids, programs, unit_label};
use crate::operations::list::Listing;
use crate::output::json::line;
use crate::output::socket_owner::owner;
use crate::output::text::{cell_list, printable};

/// Pids or names in one line.
const LISTED: usize = 16;

/// Compares each listing with the one before it.
#[derive(Default)]
pub(crate) struct ChangeLines {
    last: Option<Vec<Member>>,
}

impl ChangeLines {
    /// A line for every socket of the first listing, then one for every change since the last listing.
    pub(crate) fn lines(&mut self, listing: Listing, json: bool) -> String {
        let print = |event: ChangeEvent, member: &Member, from: Option<&Member>| match json {
            true => line(&ChangeView { event, member, from, listing: &listing }),
            false => sentence(event, member, from),
        };
        let text = match &self.last {
            None => {
                listing.members().map(|member| print(ChangeEvent::There, member, None)).collect()
            }
            Some(last) => {
                let now: Vec<Member> = listing.members().cloned().collect();
                let lines = changes(last, &now).into_iter().map(|change| match change {
                    SocketChange::Came(member) => print(ChangeEvent::Came, member, None),
                    SocketChange::Went(member) => print(ChangeEvent::Went, member, None),
                    SocketChange::Changed { from, to } => {
                        print(ChangeEvent::Changed, to, Some(from))
                    }
                });
                lines.collect()
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

struct ChangeView<'a> {
    event: ChangeEvent,
    member: &'a Member,
    from: Option<&'a Member>,
    listing: &'a Listing,
}

impl Serialize for ChangeView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { event, member, from, listing } = *self;
        let mut fields = serializer.serialize_struct("Change", 9)?;
        fields.serialize_field("version", &1)?;
        // Seconds since 1970, at most one look after the change.
        fields.serialize_field("at", &listing.at.as_secs())?;
        fields.serialize_field("event", event.name())?;
        address_fields(&mut fields, &member.socket.address)?;
        let services = &ServiceCache::default();
        fields.serialize_field("member", &MemberView { member, listing, services })?;
        let was = from.map(|member| MemberView { member, listing, services });
        fields.serialize_field("was", &was)?;
        fields.end()
    }
}

/// `changed  tcp 127.0.0.1:80 waiting, pid 7 (nginx), user ann, api.service: limit 5 -> 128`.
fn sentence(event: ChangeEvent, member: &Member, from: Option<&Member>) -> String {
    let socket = &member.socket;
    let mut text = format!(
        "{:7}  {} {} {}, {}, user {}",
        event.name(),
        socket.address.protocol,
        socket.address,
        socket.state.name(),
        processes(member),
        owner(member),
    );
    if let Some(unit) = unit_label(member) {
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
            let names = cell_list(programs(&member.processes), ",", LISTED);
            format!("pid {} ({names})", cell_list(pids(member), ",", LISTED))
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
        ("owner", [from, to].map(owner)),
        ("limit", [from, to].map(|it| it.socket.backlog.to_string())),
        ("drops", [from, to].map(|it| number(it.socket.drops))),
        ("sharing", [from, to].map(shared)),
        ("options", [from, to].map(options)),
        ("pids", [from, to].map(|it| cell_list(pids(it), ",", LISTED))),
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

    fn listing(members: Vec<Member>) -> Listing {
        Listing {
            groups: group_by_address(members),
            complete: true,
            bound: true,
            iterated: false,
            nameless: None,
            connected: false,
            facts: sameport_policy::holder::HolderFacts::default(),
            attached: None,
            at: Duration::from_millis(5500),
        }
    }

    #[test]
    fn the_first_listing_then_its_changes() {
        let mut lines = ChangeLines::default();
        let mut print = |members| lines.lines(listing(members), false);
        let socket = "tcp 127.0.0.1:80 waiting, pid 7 (web\\u{1b}), user ann, api.service";
        assert_eq!(print(vec![member(1)]), format!("there    {socket}\n"));
        assert_eq!(print(vec![member(1)]), "");
        let mut other = member(1);
        other.socket.state = SocketState::Bound;
        other.socket.backlog = 0;
        other.processes.push(Process::new(8, "web"));
        let expected = "changed  tcp 127.0.0.1:80 bound, pid 7,8 (web\\u{1b},web), user ann, \
                       api.service: state waiting -> bound, limit 5 -> 0, pids 7 -> 7,8\n";
        assert_eq!(print(vec![other.clone()]), expected);
        let mut unseen = member(2);
        unseen.processes.clear();
        unseen.cgroup = None;
        assert_eq!(
            print(vec![other, unseen.clone()]),
            "came     tcp 127.0.0.1:80 waiting, pid unknown, user ann\n"
        );
        assert!(print(vec![unseen]).starts_with("went     tcp 127.0.0.1:80 bound, "));
        assert!(print(vec![]).starts_with("went     "));
        assert_eq!(print(vec![]), "");
    }

    #[test]
    fn each_change_is_a_line_of_json() {
        let mut lines = ChangeLines::default();
        let mut print = |members| -> Vec<serde_json::Value> {
            let text = lines.lines(listing(members), true);
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let there = print(vec![member(1), member(2)]);
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
        let changed = print(vec![grown]);
        let events: Vec<_> = changed.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["went", "changed"]);
        assert_eq!(changed[1]["was"]["backlog"], 5);
        assert_eq!(changed[1]["member"]["backlog"], 9);
    }
}
