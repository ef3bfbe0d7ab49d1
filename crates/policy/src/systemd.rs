//! The protocol between a run and its service manager (systemd or a compatible one): passed sockets,
//! stored sockets and notifications.
//!
//! Sources: `sd_listen_fds(3)`, `sd_notify(3)`, `sd_pid_notify_with_fds(3)`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The environment variables of socket activation. A value that is not UTF-8 is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activation {
    /// LISTEN_PID: the process that receives the sockets.
    pub pid: Option<String>,
    /// LISTEN_FDS: the number of sockets.
    pub count: Option<String>,
    /// LISTEN_FDNAMES: the names, separated by `:`.
    pub names: Option<String>,
}

/// A malformed variable and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationError(pub &'static str, pub String);

/// The limit of passed sockets.
const MAX_SOCKETS: usize = 4096;

impl Activation {
    /// The names of the sockets passed to this process as descriptors 3, 4, …; empty if there is no
    /// socket, or if the variables are meant for another process.
    ///
    /// # Errors
    ///
    /// If the number of sockets, or the number of names, is malformed.
    pub fn socket_names(&self, own_pid: u32) -> Result<Vec<String>, ActivationError> {
        let (Some(pid), Some(count)) = (&self.pid, &self.count) else { return Ok(Vec::new()) };
        if *pid != own_pid.to_string() {
            return Ok(Vec::new());
        }
        let number = count.parse().ok().filter(|number| *number <= MAX_SOCKETS);
        let number = number.ok_or_else(|| ActivationError("LISTEN_FDS", count.clone()))?;
        match &self.names {
            None => Ok(vec!["unknown".to_owned(); number]),
            Some(names) if number == 0 && names.is_empty() => Ok(Vec::new()),
            Some(names) => {
                let all: Vec<String> = names.split(':').map(str::to_owned).collect();
                let fits = all.len() == number;
                fits.then_some(all).ok_or_else(|| ActivationError("LISTEN_FDNAMES", names.clone()))
            }
        }
    }
}

/// The name of a stored socket (FDNAME). It contains the facts that the socket itself does not show.
///
/// Names are unique, because sockets are removed by name, and do not change over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredName {
    /// The inode of the socket.
    pub inode: u64,
    /// The index in the kernel's reuseport group, for a TCP socket whose index is known.
    pub index: Option<usize>,
}

impl fmt::Display for StoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "sameport-{}-{index}", self.inode),
            None => write!(f, "sameport-{}", self.inode),
        }
    }
}

impl FromStr for StoredName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let rest = name.strip_prefix("sameport-").ok_or(())?;
        let (inode, index) = match rest.split_once('-') {
            Some((inode, index)) => (inode, Some(index.parse().map_err(drop)?)),
            None => (rest, None),
        };
        Ok(Self { inode: inode.parse().map_err(drop)?, index })
    }
}

/// The members of a group in the kernel's order, from the names of the stored sockets; `None` if two
/// indices are missing, or one occurs twice. The index of a single member does not matter.
///
/// One index is missing if the supervisor was killed after the manager had closed a socket, and before
/// the last member had its new name. The kernel has moved the last member to that index.
#[must_use]
pub fn group_order(stored: &[StoredName]) -> Option<Vec<u64>> {
    if let [one] = stored {
        return Some(vec![one.inode]);
    }
    let mut places = BTreeMap::new();
    for one in stored {
        places.insert(one.index?, one.inode);
    }
    if places.len() != stored.len() {
        return None;
    }
    if let Some(missing) = (0..stored.len()).find(|index| !places.contains_key(index)) {
        let (last, inode) = places.pop_last()?;
        if last != stored.len() {
            return None;
        }
        places.insert(missing, inode);
    }
    Some(places.into_values().collect())
}

/// The notification that stores a socket. Without FDPOLL=0, systemd removes a socket that polls as
/// hung up.
#[must_use]
pub fn store_message(stored: StoredName) -> String {
    format!("FDSTORE=1\nFDNAME={stored}\nFDPOLL=0\n")
}

/// The notification that removes a stored socket.
#[must_use]
pub fn remove_message(stored: StoredName) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={stored}\n")
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The number of workers that serve.
    pub ready: usize,
    /// The number of workers in the settings.
    pub wanted: usize,
    /// Whether the run is ending.
    pub stopping: bool,
    /// Why a worker is not ready.
    pub reason: Option<String>,
}

/// The state that the service manager knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportedState {
    ready: bool,
    stopping: bool,
    status: String,
}

impl ReportedState {
    /// The notification about changes, if any: READY=1 once, when all workers are ready at the same
    /// time; STOPPING=1 once; STATUS.
    pub fn update(&mut self, facts: ServiceFacts) -> Option<String> {
        let ServiceFacts { ready, wanted, stopping, reason } = facts;
        let mut message = String::new();
        if ready >= wanted && !stopping && !std::mem::replace(&mut self.ready, true) {
            message.push_str("READY=1\n");
        }
        if stopping && !std::mem::replace(&mut self.stopping, true) {
            message.push_str("STOPPING=1\n");
        }
        let status = match stopping {
            true => "stopping".to_owned(),
            false => {
                // A line break would begin another assignment.
                let reason = reason.map(|why| format!("; {}", why.replace(char::is_control, " ")));
                format!("{ready} of {wanted} workers ready{}", reason.unwrap_or_default())
            }
        };
        if status != self.status {
            message.push_str(&format!("STATUS={status}\n"));
            self.status = status;
        }
        (!message.is_empty()).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(pid: &str, count: &str, names: Option<&str>) -> Activation {
        let some = |text: &str| Some(text.to_owned());
        Activation { pid: some(pid), count: some(count), names: names.and_then(some) }
    }

    #[test]
    fn sockets_belong_to_the_process_of_listen_pid() {
        let names = |names: &[&str]| Ok(names.iter().copied().map(str::to_owned).collect());
        let wrong = |variable, value: &str| Err(ActivationError(variable, value.to_owned()));
        let cases = [
            (activation("7", "2", Some("web.socket:sameport-3-0")), {
                names(&["web.socket", "sameport-3-0"])
            }),
            (activation("7", "1", None), names(&["unknown"])),
            (activation("7", "1", Some("")), names(&[""])),
            (activation("7", "0", Some("")), names(&[])),
            (activation("8", "2", None), names(&[])),
            (activation("07", "2", None), names(&[])),
            (activation("", "2", None), names(&[])),
            (activation("8", "x", None), names(&[])),
            (Activation::default(), names(&[])),
            (Activation { pid: None, ..activation("", "1", None) }, names(&[])),
            (Activation { count: None, ..activation("7", "", None) }, names(&[])),
            (activation("7", "x", None), wrong("LISTEN_FDS", "x")),
            (activation("7", "-1", None), wrong("LISTEN_FDS", "-1")),
            (activation("7", "4097", None), wrong("LISTEN_FDS", "4097")),
            (activation("7", "2", Some("a")), wrong("LISTEN_FDNAMES", "a")),
            (activation("7", "0", Some("a")), wrong("LISTEN_FDNAMES", "a")),
        ];
        for (activation, expected) in cases {
            assert_eq!(activation.socket_names(7), expected, "{activation:?}");
        }
    }

    #[test]
    fn names_contain_inode_and_index() {
        for stored in
            [StoredName { inode: 41, index: None }, StoredName { inode: 41, index: Some(3) }]
        {
            assert_eq!(stored.to_string().parse(), Ok(stored));
        }
        for name in
            ["", "web.socket", "sameport", "sameport-", "sameport-a", "sameport-1-", "stored"]
        {
            assert_eq!(name.parse::<StoredName>(), Err(()), "{name}");
        }
    }

    #[test]
    fn an_order_needs_all_indices_but_one() {
        type Name = (u64, Option<usize>);
        let stored = |all: &[Name]| -> Vec<StoredName> {
            all.iter().map(|(inode, index)| StoredName { inode: *inode, index: *index }).collect()
        };
        let cases: &[(&[Name], Option<&[u64]>)] = &[
            (&[(9, Some(1)), (8, Some(0)), (7, Some(2))], Some(&[8, 9, 7])),
            (&[(9, Some(4))], Some(&[9])),
            (&[(9, None)], Some(&[9])),
            (&[], Some(&[])),
            (&[(9, Some(0)), (8, None)], None),
            (&[(9, Some(0)), (8, Some(2))], Some(&[9, 8])),
            (&[(9, Some(1)), (8, Some(2))], Some(&[8, 9])),
            (&[(9, Some(1)), (8, Some(2)), (7, Some(3))], Some(&[7, 9, 8])),
            (&[(9, Some(0)), (8, Some(3)), (7, Some(1))], Some(&[9, 7, 8])),
            (&[(9, Some(2)), (8, Some(3))], None),
            (&[(9, Some(0)), (8, Some(3))], None),
            (&[(9, Some(0)), (8, Some(2)), (7, Some(2))], None),
            (&[(9, Some(0)), (8, Some(0))], None),
        ];
        for (names, expected) in cases {
            assert_eq!(group_order(&stored(names)).as_deref(), *expected, "{names:?}");
        }
    }

    #[test]
    fn each_change_is_notified_once() {
        let facts =
            |ready, wanted, stopping| ServiceFacts { ready, wanted, stopping, reason: None };
        let mut reported = ReportedState::default();
        let cases = [
            (facts(0, 2, false), Some("STATUS=0 of 2 workers ready\n")),
            (facts(0, 2, false), None),
            (facts(2, 2, false), Some("READY=1\nSTATUS=2 of 2 workers ready\n")),
            (facts(1, 2, false), Some("STATUS=1 of 2 workers ready\n")),
            (
                ServiceFacts { reason: Some("worker 2: a\nREADY=1".into()), ..facts(1, 2, false) },
                Some("STATUS=1 of 2 workers ready; worker 2: a READY=1\n"),
            ),
            (facts(2, 2, false), Some("STATUS=2 of 2 workers ready\n")),
            (facts(0, 2, true), Some("STOPPING=1\nSTATUS=stopping\n")),
            (facts(0, 2, true), None),
        ];
        for (facts, expected) in cases {
            assert_eq!(reported.update(facts.clone()).as_deref(), expected, "{facts:?}");
        }
        let ended_early = ReportedState::default().update(facts(0, 0, true));
        assert_eq!(ended_early.as_deref(), Some("STOPPING=1\nSTATUS=stopping\n"));
    }
}
