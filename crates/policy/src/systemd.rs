//! The words between a run and its service manager (systemd, or one that speaks its protocol): what
//! sockets it passes on, under which names it keeps ours, and what it is told.
//!
//! Sources: `sd_listen_fds(3)`, `sd_notify(3)`, `sd_pid_notify_with_fds(3)`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES of our environment; what is not text is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activation {
    /// Whose sockets they are.
    pub pid: Option<String>,
    /// How many there are.
    pub count: Option<String>,
    /// Their names, with `:` between them.
    pub names: Option<String>,
}

/// What cannot be read of it: the variable, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationError(pub &'static str, pub String);

/// More than anybody keeps for one service.
const MAX_SOCKETS: usize = 4096;

impl Activation {
    /// The names of the sockets that were passed to the process with this id, as its descriptors 3,
    /// 4, …; none if there are none, or if they are another's.
    ///
    /// # Errors
    ///
    /// They are this process's, and it cannot be told how many, or which name is whose.
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

/// The name under which a socket of ours is kept. It says all that cannot be seen from the socket.
///
/// A name of its own each, as what is kept is removed by name; the same one after every restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredName {
    /// The socket.
    pub inode: u64,
    /// Its place in the kernel's array of the group, for a TCP socket whose place is known.
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

/// The members of a group in the kernel's order, from the names under which they were kept; `None`
/// if it is not certain: a place is missing, or claimed twice. One that is alone is in order.
#[must_use]
pub fn group_order(kept: &[StoredName]) -> Option<Vec<u64>> {
    if let [one] = kept {
        return Some(vec![one.inode]);
    }
    let mut places = BTreeMap::new();
    for one in kept {
        places.insert(one.index?, one.inode);
    }
    let complete = places.len() == kept.len() && places.keys().copied().eq(0..kept.len());
    complete.then(|| places.into_values().collect())
}

/// What to send so that a socket is kept. Without FDPOLL=0 some systems drop it when its queue ends.
#[must_use]
pub fn store_message(kept: StoredName) -> String {
    format!("FDSTORE=1\nFDNAME={kept}\nFDPOLL=0\n")
}

/// What to send so that it is not kept any longer.
#[must_use]
pub fn remove_message(kept: StoredName) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={kept}\n")
}

/// How a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Workers that serve.
    pub ready: usize,
    /// Workers that are wanted.
    pub wanted: usize,
    /// It is on its way to its end.
    pub stopping: bool,
}

/// What a manager was told of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportedState {
    ready: bool,
    stopping: bool,
    status: String,
}

impl ReportedState {
    /// What it is to be told now, if something is new: READY=1 once, when every worker was ready at
    /// the same time; STOPPING=1 once; and STATUS.
    pub fn update(&mut self, facts: ServiceFacts) -> Option<String> {
        let ServiceFacts { ready, wanted, stopping } = facts;
        let mut news = String::new();
        if ready >= wanted && !stopping && !std::mem::replace(&mut self.ready, true) {
            news.push_str("READY=1\n");
        }
        if stopping && !std::mem::replace(&mut self.stopping, true) {
            news.push_str("STOPPING=1\n");
        }
        let status = match stopping {
            true => "stopping".to_owned(),
            false => format!("{ready} of {wanted} workers ready"),
        };
        if status != self.status {
            news.push_str(&format!("STATUS={status}\n"));
            self.status = status;
        }
        (!news.is_empty()).then_some(news)
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
    fn sockets_are_ours_by_our_pid_alone() {
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
    fn a_name_says_which_socket_and_where() {
        for kept in
            [StoredName { inode: 41, index: None }, StoredName { inode: 41, index: Some(3) }]
        {
            assert_eq!(kept.to_string().parse(), Ok(kept));
        }
        for name in
            ["", "web.socket", "sameport", "sameport-", "sameport-a", "sameport-1-", "stored"]
        {
            assert_eq!(name.parse::<StoredName>(), Err(()), "{name}");
        }
    }

    #[test]
    fn an_order_is_known_or_not() {
        type Name = (u64, Option<usize>);
        let kept = |all: &[Name]| -> Vec<StoredName> {
            all.iter().map(|(inode, index)| StoredName { inode: *inode, index: *index }).collect()
        };
        let cases: &[(&[Name], Option<&[u64]>)] = &[
            (&[(9, Some(1)), (8, Some(0)), (7, Some(2))], Some(&[8, 9, 7])),
            (&[(9, Some(4))], Some(&[9])),
            (&[(9, None)], Some(&[9])),
            (&[], Some(&[])),
            (&[(9, Some(0)), (8, None)], None),
            (&[(9, Some(0)), (8, Some(2))], None),
            (&[(9, Some(0)), (8, Some(0))], None),
            (&[(9, Some(1)), (8, Some(2))], None),
        ];
        for (given, expected) in cases {
            assert_eq!(group_order(&kept(given)).as_deref(), *expected, "{given:?}");
        }
    }

    #[test]
    fn everything_is_told_once() {
        let facts = |ready, wanted, stopping| ServiceFacts { ready, wanted, stopping };
        let mut told = ReportedState::default();
        let cases = [
            (facts(0, 2, false), Some("STATUS=0 of 2 workers ready\n")),
            (facts(0, 2, false), None),
            (facts(2, 2, false), Some("READY=1\nSTATUS=2 of 2 workers ready\n")),
            (facts(1, 2, false), Some("STATUS=1 of 2 workers ready\n")),
            (facts(2, 2, false), Some("STATUS=2 of 2 workers ready\n")),
            (facts(0, 2, true), Some("STOPPING=1\nSTATUS=stopping\n")),
            (facts(0, 2, true), None),
        ];
        for (facts, expected) in cases {
            assert_eq!(told.update(facts).as_deref(), expected, "{facts:?}");
        }
        let ended_early = ReportedState::default().update(facts(0, 0, true));
        assert_eq!(ended_early.as_deref(), Some("STOPPING=1\nSTATUS=stopping\n"));
    }
}
