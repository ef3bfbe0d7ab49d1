//! Workers of a supervisor that was killed: they serve until the run has replaced them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::Place;
use super::model::{Action, LifecycleSettings};
use super::snapshot::{ServingWorker, Snapshot};
use super::state::{ActiveRequest, Lifecycle};

impl Lifecycle {
    /// A run whose workers are those of another supervisor, which serve. Instance numbers go on from
    /// theirs.
    #[must_use]
    pub fn with_orphans(settings: LifecycleSettings, mut orphans: Vec<ServingWorker>) -> Self {
        let copies = settings.copies;
        let wanted: Vec<u16> = orphans.iter().map(|orphan| orphan.ordinal).collect();
        for (orphan, ordinal) in orphans.iter_mut().zip(ordinals(&wanted, copies)) {
            orphan.ordinal = ordinal;
        }
        let last_instance = orphans.iter().map(|orphan| orphan.instance).max().unwrap_or(0);
        let self_draining = BTreeSet::new();
        Self::restore(
            settings,
            Snapshot { copies, last_instance, workers: orphans, canary: None, self_draining },
        )
    }

    /// Starts the workers that are missing, replaces the others, and ends those that are too many. As
    /// in a restart, a replacement that does not become ready leaves its predecessor in service.
    pub fn replace_orphans(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let copies = self.settings.copies;
        let stays = |place: &Place| place.ordinal <= copies;
        let remaining: BTreeSet<Place> = self.slots.keys().copied().filter(stays).collect();
        self.request_since = now;
        self.scale(copies, now, &mut actions);
        let in_progress = self.slots.keys().copied().filter(|it| !remaining.contains(it)).collect();
        let surge = self.settings.surge;
        self.active_request = Some(ActiveRequest::Restart { surge, remaining, in_progress });
        self.advance(now, &mut actions);
        actions
    }
}

/// The ordinals of orphans in a run with `copies` workers: each its own if it can have it, else the
/// first that is free.
fn ordinals(wanted: &[u16], copies: u16) -> Vec<u16> {
    let mut taken = BTreeSet::new();
    let own: Vec<Option<u16>> = wanted
        .iter()
        .map(|ordinal| Some(*ordinal).filter(|it| (1..=copies).contains(it) && taken.insert(*it)))
        .collect();
    let mut free = (1..=u16::MAX).filter(|ordinal| !taken.contains(ordinal));
    own.into_iter().map(|own| own.or_else(|| free.next()).unwrap_or(u16::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::DrainMode;
    use crate::lifecycle::exit::Exit;
    use crate::lifecycle::{InstanceId, RunRequest};

    const NOW: Duration = Duration::from_secs(1);

    fn settings(copies: u16) -> LifecycleSettings {
        LifecycleSettings {
            copies,
            surge: 1,
            ready_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            max_restarts: None,
            must_listen: false,
            drain: DrainMode::Busy,
            drain_timeout: Duration::from_secs(30),
        }
    }

    fn orphan(ordinal: u16, instance: InstanceId) -> ServingWorker {
        ServingWorker {
            ordinal,
            instance,
            command: 0,
            since: Duration::ZERO,
            restarts: 0,
            addresses: vec!["tcp 127.0.0.1:80".into()],
        }
    }

    /// The workers that start, with their predecessors.
    fn starts(actions: &[Action]) -> Vec<(u16, InstanceId, Option<InstanceId>)> {
        let start = |action: &Action| match action {
            Action::Start { ordinal, instance, predecessor, .. } => {
                Some((*ordinal, *instance, *predecessor))
            }
            _ => None,
        };
        actions.iter().filter_map(start).collect()
    }

    fn drains(actions: &[Action]) -> Vec<InstanceId> {
        let drain = |action: &Action| match action {
            Action::Drain(id, _) => Some(*id),
            _ => None,
        };
        actions.iter().filter_map(drain).collect()
    }

    #[test]
    fn orphans_keep_their_ordinals_where_they_can() {
        for (wanted, copies, expected) in [
            (&[1, 2][..], 2, &[1, 2][..]),
            (&[3], 1, &[1]),
            (&[3, 1], 2, &[2, 1]),
            // During a restart a worker has two instances.
            (&[1, 1, 2], 2, &[1, 3, 2]),
            (&[1, 2, 3], 1, &[1, 2, 3]),
            (&[0, 2], 2, &[1, 2]),
            (&[], 2, &[]),
        ] {
            assert_eq!(ordinals(wanted, copies), expected, "{wanted:?} {copies}");
        }
    }

    #[test]
    fn each_orphan_is_replaced_before_it_ends() {
        let mut run = Lifecycle::with_orphans(settings(2), vec![orphan(1, 4), orphan(2, 7)]);
        assert_eq!(run.serving(), [4, 7].into());
        let actions = run.replace_orphans(NOW);
        assert_eq!((starts(&actions), drains(&actions)), (vec![(1, 8, Some(4))], vec![]));
        // The replacement must listen where the orphan does.
        assert!(run.listening(8, "tcp 127.0.0.1:81".into(), NOW).is_empty());
        assert_eq!(run.listening(8, "tcp 127.0.0.1:80".into(), NOW), [Action::CheckReady(8)]);
        let actions = run.ready(8, NOW);
        assert_eq!((starts(&actions), drains(&actions)), (vec![(2, 9, Some(7))], vec![4]));
        assert_eq!(run.serving(), [7, 8].into());
    }

    #[test]
    fn missing_workers_start_and_surplus_ones_end() {
        let mut run = Lifecycle::with_orphans(settings(2), vec![orphan(2, 7)]);
        let actions = run.replace_orphans(NOW);
        assert_eq!((starts(&actions), drains(&actions)), (vec![(1, 8, None)], vec![]));

        let mut run = Lifecycle::with_orphans(settings(1), vec![orphan(1, 4), orphan(2, 7)]);
        let actions = run.replace_orphans(NOW);
        assert_eq!((starts(&actions), drains(&actions)), (vec![(1, 8, Some(4))], vec![7]));
    }

    #[test]
    fn a_replacement_that_is_not_ready_leaves_the_orphan() {
        let mut run = Lifecycle::with_orphans(settings(1), vec![orphan(1, 4)]);
        run.replace_orphans(NOW);
        let exit = Exit::Code(1);
        let actions = run.exited(5, exit, NOW);
        let failed = |action: &Action| matches!(action, Action::RequestDone(Err(_)));
        assert!(actions.iter().any(failed), "{actions:?}");
        assert_eq!(run.serving(), [4].into());
        // Later the orphan is an instance like any other.
        let actions = run.request(RunRequest::Restart { surge: None, now: false }, NOW).unwrap();
        assert_eq!(starts(&actions), [(1, 6, Some(4))]);
    }

    #[test]
    fn a_stop_drains_the_orphans() {
        let mut run = Lifecycle::with_orphans(settings(1), vec![orphan(1, 4), orphan(2, 7)]);
        let actions = run.request(RunRequest::Stop { now: false }, NOW).unwrap();
        assert_eq!((starts(&actions), drains(&actions)), (vec![], vec![4, 7]));
    }
}
