//! What is kept with the state of a port: the rules of a user, and the sockets that are drained.

use std::collections::BTreeSet;

use sameport_policy::traffic::TrafficRules;
use serde::{Deserialize, Serialize};

/// The rules, as every reader of the record knows them, and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrafficRecord {
    #[serde(flatten)]
    pub(super) rules: TrafficRules,
    /// The cookies of sockets that get no new connections.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) drained: BTreeSet<u64>,
}

impl TrafficRecord {
    /// `None` if the text is not a record.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn text(&self) -> String {
        // Strings, numbers and lists are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}
