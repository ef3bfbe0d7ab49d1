//! The record in the state of a port: the rules of a user, and the drained sockets. Supervisors and the verbs
//! `steer` and `drain` read and write the same one.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::traffic::{MemberSelector, TrafficFacts, TrafficRules};
use serde::{Deserialize, Serialize};

/// The rules of a port, with the drained sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficRecord {
    /// The rules.
    #[serde(flatten)]
    pub rules: TrafficRules,
    /// The cookies of sockets that get no new connections.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained: BTreeSet<u64>,
    /// The pids of values, by the cookie of a socket that outlives the process: a reload gives it to another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<u64, i32>,
}

impl TrafficRecord {
    /// The rules and drains of a port. `outlives`: the cookies of sockets that several processes have open.
    #[must_use]
    pub fn new(rules: TrafficRules, facts: &TrafficFacts, outlives: &BTreeSet<u64>) -> Self {
        let mut record = Self { rules, drained: BTreeSet::new(), owners: BTreeMap::new() };
        for member in &facts.members {
            let Some(cookie) = member.socket.cookie else { continue };
            if !member.admitted {
                record.drained.insert(cookie);
            }
            if !outlives.contains(&cookie) {
                continue;
            }
            let named = record.rules.values.iter().find_map(|value| match value.selector {
                MemberSelector::Pid(pid) if member.is_served_by(pid) => Some(pid),
                _ => None,
            });
            record.owners.extend(named.map(|pid| (cookie, pid)));
        }
        record
    }

    /// Lets a value by pid hold for the socket that had the pid, although another process has it now.
    pub fn name_earlier_owners(&self, facts: &mut TrafficFacts) {
        let present: BTreeSet<i32> = facts.members.iter().filter_map(|member| member.pid).collect();
        for member in &mut facts.members {
            let earlier = member.socket.cookie.and_then(|cookie| self.owners.get(&cookie));
            member.others.extend(earlier.filter(|pid| !present.contains(pid)));
        }
    }

    /// `None` if the text is not a record.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// One line of JSON.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings, numbers and lists are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}
