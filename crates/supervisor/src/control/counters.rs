//! What a named run has counted since its start. The counters outlive `reexec`, and a takeover after the
//! supervisor was killed.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::lifecycle::RunRequest;
use sameport_policy::lifecycle::exit::Exit;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The upper bounds of the durations, in milliseconds.
const BOUNDS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000];

/// The change that is no request: a worker crashed, and its replacement is ready.
const CRASH: &str = "crash";

/// The most entries of one list that is read from another build.
const MOST: usize = 1024;

/// Counts of a named run. Every number only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounters {
    /// Number of processes that were started as workers.
    #[serde(default)]
    pub starts: u64,
    /// Number of starts after a crash, by the worker's ordinal.
    #[serde(default, deserialize_with = "by_ordinal")]
    pub restarts: BTreeMap<u16, u64>,
    /// The ends of workers.
    #[serde(default)]
    pub ends: Vec<EndCount>,
    /// Number of binds and listens of workers that were refused for a known reason.
    #[serde(default)]
    pub refused: u64,
    /// Number of connections that the end of a drained worker cut.
    #[serde(default)]
    pub cut: u64,
    /// Changes that are over, by kind.
    #[serde(default)]
    pub changes: Vec<ChangeCount>,
    /// The change in progress, and its begin. `reexec` is refused meanwhile.
    #[serde(skip)]
    change: Option<(&'static str, Duration)>,
    /// The ends of workers that crashed and have no ready replacement, by ordinal and whether they were
    /// canaries.
    #[serde(skip)]
    crashed: BTreeMap<(u16, bool), Crashed>,
}

/// A map whose keys are numbers. In a flattened part of a message, serde gives the keys of JSON as text only.
fn by_ordinal<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u16, u64>, D::Error> {
    let texts = BTreeMap::<String, u64>::deserialize(from)?;
    let entry = |(key, count): (String, u64)| Ok((key.parse().map_err(D::Error::custom)?, count));
    texts.into_iter().map(entry).collect()
}

/// Number of ends of workers of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndCount {
    /// The exit code; `None` after a signal, or if it is not known.
    pub code: Option<u8>,
    /// The number of the signal.
    pub signal: Option<u8>,
    /// Whether the supervisor had asked the worker to end.
    pub requested: bool,
    /// How many.
    pub count: u64,
}

/// Durations of changes of one kind, from the request until its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCount {
    /// `restart`, `upgrade`, `scale`, `canary`, `promote`, `roll-back`, or `crash`: from the end of the worker
    /// until its replacement is ready.
    pub kind: String,
    /// Number of changes that were made.
    pub done: u64,
    /// Number of changes that failed. Their durations are not counted.
    pub failed: u64,
    /// Sum of the durations, in milliseconds.
    pub milliseconds: u64,
    /// Upper bounds in milliseconds, each with the number of durations up to it and above the one before.
    pub buckets: Vec<(u64, u64)>,
}

/// The end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crashed {
    at: Duration,
    /// Whether a replacement was started.
    is_replaced: bool,
}

impl RunCounters {
    /// The counters that another supervisor of this run left, if they are of a sensible size.
    pub(crate) fn restored(self) -> Self {
        let is_sensible = self.ends.len() <= MOST && self.changes.len() <= MOST;
        if is_sensible { self } else { Self::default() }
    }

    /// A worker was started.
    pub(crate) fn started(&mut self, ordinal: u16, canary: bool) {
        self.starts += 1;
        if let Some(crashed) = self.crashed.get_mut(&(ordinal, canary)) {
            crashed.is_replaced = true;
            *self.restarts.entry(ordinal).or_default() += 1;
        }
    }

    /// A worker is ready.
    pub(crate) fn ready(&mut self, ordinal: u16, canary: bool, now: Duration) {
        if let Some(crashed) = self.crashed.remove(&(ordinal, canary))
            && crashed.is_replaced
        {
            self.change_of(CRASH).add(now.saturating_sub(crashed.at));
        }
    }

    /// A worker that was not asked to end stopped serving.
    pub(crate) fn crashed(&mut self, ordinal: u16, canary: bool, now: Duration) {
        // The outage of a worker that crashes again before it is ready began with its first crash.
        let crashed = Crashed { at: now, is_replaced: false };
        self.crashed.entry((ordinal, canary)).or_insert(crashed);
    }

    /// A worker ended.
    pub(crate) fn ended(&mut self, exit: Exit, requested: bool) {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unseen => (None, None),
        };
        let same =
            |it: &&mut EndCount| (it.code, it.signal, it.requested) == (code, signal, requested);
        match self.ends.iter_mut().find(same) {
            Some(end) => end.count += 1,
            None => self.ends.push(EndCount { code, signal, requested, count: 1 }),
        }
    }

    /// A request begins.
    pub(crate) fn began(&mut self, kind: Option<&'static str>, now: Duration) {
        self.change = kind.map(|kind| (kind, now));
    }

    /// The request is over.
    pub(crate) fn finished(&mut self, succeeded: bool, now: Duration) {
        let Some((kind, since)) = self.change.take() else { return };
        let change = self.change_of(kind);
        match succeeded {
            true => change.add(now.saturating_sub(since)),
            false => change.failed += 1,
        }
    }

    fn change_of(&mut self, kind: &str) -> &mut ChangeCount {
        let index = self.changes.iter().position(|it| it.kind == kind).unwrap_or_else(|| {
            let buckets = BOUNDS.map(|bound| (bound, 0)).into();
            self.changes.push(ChangeCount { kind: kind.to_owned(), buckets, ..Default::default() });
            self.changes.len() - 1
        });
        &mut self.changes[index]
    }
}

impl ChangeCount {
    fn add(&mut self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.done += 1;
        self.milliseconds = self.milliseconds.saturating_add(took);
        if let Some((_, count)) = self.buckets.iter_mut().find(|(bound, _)| took <= *bound) {
            *count += 1;
        }
    }
}

/// The name of a change that a request makes; `None`: the end of the run.
pub(crate) fn kind_of(request: &RunRequest) -> Option<&'static str> {
    Some(match request {
        RunRequest::Restart { .. } => "restart",
        RunRequest::Upgrade { .. } | RunRequest::Move { .. } => "upgrade",
        RunRequest::Scale { .. } => "scale",
        RunRequest::Canary { .. } => "canary",
        RunRequest::Promote => "promote",
        RunRequest::RollBack => "roll-back",
        RunRequest::Leave { .. } | RunRequest::Stop { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ends_are_counted_by_code_and_signal() {
        let mut counters = RunCounters::default();
        let ends = [
            (Exit::Code(1), false),
            (Exit::Signal(9), false),
            (Exit::Code(1), false),
            (Exit::Code(1), true),
            (Exit::Unseen, true),
        ];
        ends.into_iter().for_each(|(exit, requested)| counters.ended(exit, requested));
        let found: Vec<_> =
            counters.ends.iter().map(|it| (it.code, it.signal, it.requested, it.count)).collect();
        let expected = [
            (Some(1), None, false, 2),
            (None, Some(9), false, 1),
            (Some(1), None, true, 1),
            (None, None, true, 1),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_crash_counts_a_restart_and_the_time_until_its_replacement_is_ready() {
        let mut counters = RunCounters::default();
        counters.started(1, false);
        counters.ready(1, false, SECOND);
        assert_eq!((counters.starts, counters.restarts.len()), (1, 0));
        counters.crashed(1, false, SECOND);
        counters.started(1, false);
        // It crashes before it is ready; the canary of the same number is another worker.
        counters.crashed(1, false, 2 * SECOND);
        counters.started(1, true);
        counters.ready(1, true, 2 * SECOND);
        assert_eq!(counters.changes, []);
        counters.started(1, false);
        counters.ready(1, false, 4 * SECOND);
        let [change] = &*counters.changes else { panic!("{counters:?}") };
        assert_eq!((&*change.kind, change.done, change.milliseconds), ("crash", 1, 3_000));
        assert_eq!((counters.starts, counters.restarts[&1]), (4, 2));
        // Control: the next start follows no crash.
        counters.started(1, false);
        assert_eq!(counters.restarts[&1], 2);
    }

    #[test]
    fn durations_fall_into_buckets() {
        for (took, bucket) in [(0, Some(0)), (100, Some(0)), (101, Some(1)), (600_001, None)] {
            let mut counters = RunCounters::default();
            counters.began(Some("restart"), SECOND);
            counters.finished(true, SECOND + Duration::from_millis(took));
            let [change] = &*counters.changes else { panic!("{counters:?}") };
            let found = change.buckets.iter().position(|(_, count)| *count == 1);
            assert_eq!((found, change.done, change.failed), (bucket, 1, 0), "{took}");
        }
        let mut counters = RunCounters::default();
        counters.finished(true, SECOND);
        assert_eq!(counters, RunCounters::default());
        counters.began(Some("scale"), SECOND);
        counters.finished(false, SECOND);
        assert_eq!((counters.changes[0].done, counters.changes[0].failed), (0, 1));
    }

    #[test]
    fn another_build_reads_them() {
        let mut counters = RunCounters { refused: 3, ..RunCounters::default() };
        counters.ended(Exit::Code(0), true);
        counters.began(Some("scale"), SECOND);
        let text = serde_json::to_string(&counters).unwrap();
        let read: RunCounters = serde_json::from_str(&text).unwrap();
        assert_eq!((read.refused, read.ends.len(), read.change), (3, 1, None));
        let empty: RunCounters = serde_json::from_str(r#"{"later":[1]}"#).unwrap();
        assert_eq!(empty, RunCounters::default());
        let ends = vec![EndCount::default(); MOST + 1];
        assert_eq!(RunCounters { ends, ..read }.restored(), RunCounters::default());
    }
}
