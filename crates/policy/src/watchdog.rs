//! The watchdog of a service manager: a service that does not report in time is ended.
//!
//! Sources: `sd_watchdog_enabled(3)`, `systemd.service(5)` (`WatchdogSec=`).

use std::time::Duration;

/// The environment variables of the watchdog. A value that is not UTF-8 is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchdogVariables {
    /// WATCHDOG_USEC: the longest time between two reports, in microseconds.
    pub period: Option<String>,
    /// WATCHDOG_PID: the process that reports; any process if it is absent.
    pub pid: Option<String>,
}

/// The times of the reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogSchedule {
    interval: Duration,
    next: Duration,
}

impl WatchdogVariables {
    /// The schedule of this process: a report at once, and then at half of the period. `None` if there is
    /// no watchdog, or if it is for another process.
    #[must_use]
    pub fn schedule(&self, own_pid: u32) -> Option<WatchdogSchedule> {
        let is_ours = self.pid.as_ref().is_none_or(|pid| *pid == own_pid.to_string());
        let period = self.period.as_ref()?.parse().ok().filter(|period| *period > 0)?;
        let interval = Duration::from_micros(period) / 2;
        is_ours.then_some(WatchdogSchedule { interval, next: Duration::ZERO })
    }
}

impl WatchdogSchedule {
    /// When the next report is due.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Whether a report is due. The next one is due half a period from now: a loop that was blocked for
    /// longer than the period sends one report, and not those that it missed.
    pub fn take_due(&mut self, now: Duration) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.interval;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_one_process() {
        let half = |micros| Some(Duration::from_micros(micros));
        for (period, pid, expected) in [
            (Some("20000000"), Some("7"), half(10_000_000)),
            (Some("20000000"), None, half(10_000_000)),
            (Some("20000000"), Some("8"), None),
            (Some("20000000"), Some(""), None),
            (Some("0"), Some("7"), None),
            (Some("-1"), Some("7"), None),
            (Some("x"), None, None),
            (Some("18446744073709551616"), None, None),
            (None, Some("7"), None),
            (None, None, None),
        ] {
            let some = |text: &str| text.to_owned();
            let variables = WatchdogVariables { period: period.map(some), pid: pid.map(some) };
            let interval = variables.schedule(7).map(|schedule| schedule.interval);
            assert_eq!(interval, expected, "{variables:?}");
        }
    }

    #[test]
    fn a_blocked_loop_reports_once() {
        let variables = WatchdogVariables { period: Some("2000000".into()), pid: None };
        let mut schedule = variables.schedule(7).unwrap();
        let seconds = Duration::from_secs_f32;
        let reports =
            [0.0, 0.5, 1.0, 1.5, 7.0, 7.5, 8.0].map(|now| schedule.take_due(seconds(now)));
        assert_eq!(reports, [true, false, true, false, true, false, true]);
        assert_eq!(schedule.next(), seconds(9.0));
    }
}
