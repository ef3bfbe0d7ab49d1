//! Which worker had a pid at a time, from the messages of supervisors.

use std::collections::{BTreeMap, VecDeque};

/// Messages of one pid that are remembered: the kernel reuses pids, but not this often.
const REMEMBERED: usize = 64;

/// What supervisors said about pids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerPids {
    /// For each pid the workers that had it, each with the time of the message, the earliest first.
    messages: BTreeMap<i32, VecDeque<(u64, u16)>>,
}

impl WorkerPids {
    /// Remembers that a supervisor named the pid of a worker at a time. Messages come in the order of time.
    pub fn add(&mut self, time: u64, pid: i32, worker: u16) {
        let of_pid = self.messages.entry(pid).or_default();
        // The first and the last message of a process are enough.
        let repeated = |it: &(u64, u16)| it.1 == worker;
        if of_pid.len() >= 2 && of_pid.iter().rev().take(2).all(repeated) {
            of_pid.pop_back();
        }
        if of_pid.len() == REMEMBERED {
            of_pid.pop_front();
        }
        of_pid.push_back((time, worker));
    }

    /// The worker that had the pid at this time. `now`: the one that has it now.
    ///
    /// The first message of a worker comes when it is ready, the last one when it has ended. The next message after
    /// a line is therefore about the process that wrote the line, if there is one.
    #[must_use]
    pub fn worker(&self, time: u64, pid: i32, now: Option<u16>) -> Option<u16> {
        let of_pid = self.messages.get(&pid);
        let next = of_pid.and_then(|it| it.iter().find(|(at, _)| *at >= time));
        let last = || of_pid.and_then(|it| it.back());
        next.map(|it| it.1).or(now).or_else(|| last().map(|it| it.1))
    }
}

/// The worker and its pid, if the text is a message of `run` about a worker:
/// `sameport: worker 2 (pid 33) is ready`.
#[must_use]
pub fn worker_of_message(text: &str) -> Option<(u16, i32)> {
    let rest = text.strip_prefix("sameport: ")?;
    let rest = rest.strip_prefix("worker ").or_else(|| rest.strip_prefix("canary "))?;
    let (worker, rest) = rest.split_once(" (pid ")?;
    let (pid, _) = rest.split_once(") ")?;
    Some((worker.parse().ok()?, pid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_belongs_to_the_process_of_the_next_message() {
        let mut pids = WorkerPids::default();
        for (time, pid, worker) in
            [(10, 7, 1), (15, 7, 1), (20, 7, 1), (30, 7, 2), (40, 7, 2), (12, 8, 3)]
        {
            pids.add(time, pid, worker);
        }
        for (time, pid, now, worker) in [
            (1, 7, None, Some(1)),
            (20, 7, None, Some(1)),
            // The start of the next process with the pid.
            (21, 7, None, Some(2)),
            (39, 7, Some(5), Some(2)),
            (41, 7, Some(5), Some(5)),
            (41, 7, None, Some(2)),
            (50, 8, None, Some(3)),
            (50, 9, None, None),
            (50, 9, Some(4), Some(4)),
        ] {
            assert_eq!(pids.worker(time, pid, now), worker, "{time} {pid} {now:?}");
        }
    }

    #[test]
    fn the_number_of_messages_is_bounded() {
        let mut pids = WorkerPids::default();
        for time in 0..1000 {
            pids.add(time, 7, u16::try_from(time % 3).unwrap());
            pids.add(time, 8, 1);
        }
        assert_eq!((pids.messages[&7].len(), pids.messages[&8].len()), (REMEMBERED, 2));
    }

    #[test]
    fn only_messages_about_workers_name_a_pid() {
        for (text, expected) in [
            ("sameport: worker 2 (pid 33) is ready", Some((2, 33))),
            ("sameport: canary 1 (pid 34) has ended: exited with 0", Some((1, 34))),
            ("sameport: worker 2 starts again in 7 s", None),
            ("sameport: warning: worker 2 (pid 33) does not accept", None),
            ("worker 2 (pid 33) is ready", None),
            ("sameport: worker x (pid 33) is ready", None),
        ] {
            assert_eq!(worker_of_message(text), expected, "{text}");
        }
    }
}
