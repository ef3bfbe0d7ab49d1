//! The report on a step: what was done, what the row expects, what the kernel did.

use std::fmt;

use super::model::{Call, LastCall, Open, Operation, Opt, Send, Share};

/// The report on one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepReport {
    step: String,
    expected: String,
    actual: String,
    pub(crate) agrees: bool,
}

impl StepReport {
    /// A step without an answer to compare.
    pub(crate) fn done(step: String) -> Self {
        Self { step, expected: "ok".to_owned(), actual: "ok".to_owned(), agrees: true }
    }

    /// The answer of a call: `ok` or the name of an error.
    pub(crate) fn answer(step: String, expected: &str, actual: &str) -> Self {
        Self {
            step,
            expected: expected.to_owned(),
            actual: actual.to_owned(),
            agrees: expected == actual,
        }
    }

    /// The connections or datagrams that each socket received.
    pub(crate) fn traffic(send: Send, share: Share, counts: &[(char, usize)]) -> Self {
        let of = |name| counts.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count);
        let (expected, agrees) = match share {
            Share::All(name) => (format!("all to {name}"), of(name) == send.count),
            Share::Each(names) => {
                let each = names.chars().all(|name| of(name) > 0);
                let sum: usize = names.chars().map(of).sum();
                (format!("some to each of {names}"), each && sum == send.count)
            }
        };
        let received: Vec<_> =
            counts.iter().map(|(name, count)| format!("{count} to {name}")).collect();
        let actual =
            if received.is_empty() { "none received".to_owned() } else { received.join(", ") };
        Self { step: format!("{} sent to {}", send.count, send.ip), expected, actual, agrees }
    }

    /// How many of the queued connections were reset, and how many accepted.
    pub(crate) fn queue(total: usize, expect_resets: bool, resets: usize, accepted: usize) -> Self {
        let complete = resets + accepted == total && accepted > 0;
        let expected = if expect_resets { "some reset, the rest accepted" } else { "all accepted" };
        Self {
            step: format!("{total} queued"),
            expected: expected.to_owned(),
            actual: format!("{resets} reset, {accepted} accepted"),
            agrees: complete && (resets > 0) == expect_resets,
        }
    }

    /// Whether a socket has another port than when it was opened.
    pub(crate) fn port_changed(socket: char, expected: bool, changed: bool) -> Self {
        let text = |changed| if changed { "another port" } else { "the same port" }.to_owned();
        Self {
            step: format!("{socket} has"),
            expected: text(expected),
            actual: text(changed),
            agrees: changed == expected,
        }
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.step, self.expected, self.actual)
    }
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Agrees(Vec<StepReport>),
    /// The last report is the one that differs. The steps after it did not run.
    Differs(Vec<StepReport>),
    /// The row cannot run here, and why.
    Skipped(String),
    /// The row could not run to its end, and why.
    Error(String),
}

/// The steps with an answer other than `ok`, and the last step, on one line.
pub(crate) fn summary(reports: &[StepReport]) -> String {
    let last = reports.len().saturating_sub(1);
    let shown = reports.iter().enumerate().filter(|(at, it)| *at == last || it.expected != "ok");
    shown.map(|(_, report)| report.to_string()).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ra(true) => f.write_str("RA"),
            Self::Ra(false) => f.write_str("no RA"),
            Self::Rp(true) => f.write_str("RP"),
            Self::Rp(false) => f.write_str("no RP"),
            Self::V6only(true) => f.write_str("v6only"),
            Self::V6only(false) => f.write_str("dual-stack"),
            Self::Device(name) => write!(f, "device {name}"),
            Self::Freebind => f.write_str("freebind"),
            Self::Transparent => f.write_str("transparent"),
            Self::Repair => f.write_str("TCP_REPAIR"),
            Self::IncomingCpu(nth) => write!(f, "incoming cpu {nth}"),
            Self::Steer(index) => write!(f, "steering to index {index}"),
        }
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = match self.last_call {
            LastCall::Setsockopt => "creates a socket for",
            LastCall::Bind => "binds",
            LastCall::Listen => "serves",
        };
        let options: Vec<_> = self.options.iter().map(ToString::to_string).collect();
        let options = if options.is_empty() { "no options".to_owned() } else { options.join(", ") };
        write!(f, "{} (uid {}) {call} {} with {options}", self.name, self.uid, self.ip)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket;
        match self.operation {
            Operation::Set(option) => write!(f, "{socket} set to {option}"),
            Operation::Bind => write!(f, "{socket} binds"),
            Operation::Listen => write!(f, "{socket} listens"),
            Operation::Serve => write!(f, "{socket} serves"),
            Operation::Shutdown => write!(f, "{socket} shuts down"),
            Operation::Chown(uid) => write!(f, "{socket} changes owner to uid {uid}"),
            Operation::Connect(to) => write!(f, "{socket} connects to {to}"),
        }
    }
}

/// Tests of this file, which the harness of the table runs.
pub(crate) mod checks {
    use super::*;
    use crate::dsl::send;
    use crate::model::{Answer, EADDRINUSE, Kernel, LO};

    pub(crate) fn only_equal_answers_agree() {
        let report = |expected: Answer, actual| {
            StepReport::answer("A".into(), expected.name(Kernel(6, 18)), actual).agrees
        };
        assert!(report(Answer::Ok, "ok") && report(Answer::Fails(EADDRINUSE), "EADDRINUSE"));
        assert!(!report(Answer::Ok, "EADDRINUSE") && !report(Answer::Fails(EADDRINUSE), "EACCES"));
        assert!(!report(Answer::Fails(EADDRINUSE), "ok"));
    }

    pub(crate) fn releases_are_ordered_and_select_the_answer() {
        let cases = [
            ("6.1.0-57-cloud-amd64", Some(Kernel(6, 1))),
            ("6.12.117+deb12-cloud-amd64", Some(Kernel(6, 12))),
            ("6.13-rc3", Some(Kernel(6, 13))),
            ("5.14", Some(Kernel(5, 14))),
            ("6", None),
            ("six.one", None),
            ("", None),
        ];
        for (release, kernel) in cases {
            assert_eq!(Kernel::parse(release), kernel, "{release}");
        }
        let answer = Answer::FailsSince(Kernel(6, 8), EADDRINUSE);
        for kernel in [Kernel(5, 19), Kernel(6, 1), Kernel(6, 7)] {
            assert_eq!(answer.name(kernel), "ok", "{kernel:?}");
        }
        for kernel in [Kernel(6, 8), Kernel(6, 12), Kernel(7, 0)] {
            assert_eq!(answer.name(kernel), "EADDRINUSE", "{kernel:?}");
        }
    }

    pub(crate) fn shares_are_bounds() {
        let report = |share, counts: &[_]| StepReport::traffic(send(60, LO), share, counts).agrees;
        assert!(report(Share::All('A'), &[('A', 60)]) && !report(Share::All('A'), &[('A', 59)]));
        assert!(report(Share::Each("AB"), &[('A', 59), ('B', 1)]));
        assert!(!report(Share::Each("AB"), &[('A', 60)]) && !report(Share::Each("AB"), &[]));
        assert!(!report(Share::Each("AB"), &[('A', 58), ('B', 1), ('C', 1)]));
    }

    pub(crate) fn every_queued_connection_is_counted() {
        let report =
            |expected, resets, accepted| StepReport::queue(8, expected, resets, accepted).agrees;
        assert!(report(false, 0, 8) && report(true, 3, 5));
        assert!(!report(false, 3, 5) && !report(true, 0, 8));
        assert!(!report(true, 8, 0) && !report(true, 3, 4));
    }
}
