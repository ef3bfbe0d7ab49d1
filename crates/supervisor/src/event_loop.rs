//! The loop of every run: signals, reports of the interposer, timers.
//!
//! A plain and a named run differ in what they do with them: see [`Supervise`].

use std::io;
use std::time::Duration;

use sameport_sys::process::signals::{ReceivedSignal, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use crate::monitor::Monitor;
use crate::report::Report;
use crate::runtime::far_future;
use crate::service_manager::WatchdogReport;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Continues,
    Ended,
}

/// A run in the event loop. All times are on the monitor's clock.
pub(crate) trait Supervise {
    /// An event of this kind of run.
    type Input;

    /// Waits for the next event. Cancel safe.
    async fn input(&mut self) -> Self::Input;

    fn handle(&mut self, input: Self::Input, monitor: &mut Monitor<'_>);

    /// Handles a signal to the supervisor. `from_terminal`: the terminal sent it to the workers too.
    fn signalled(&mut self, number: i32, from_terminal: bool, monitor: &mut Monitor<'_>);

    /// The terminal closed. `from_terminal`: the workers have received SIGHUP too.
    fn hung_up(&mut self, from_terminal: bool, monitor: &mut Monitor<'_>);

    /// Reaps children that ended.
    fn reap(&mut self, monitor: &mut Monitor<'_>) -> io::Result<Progress>;

    /// When to call [`Self::attend`] at the latest.
    fn next_wake(&self, now: Duration) -> Option<Duration>;

    /// Does what is due. Called after each event.
    fn attend(&mut self, monitor: &mut Monitor<'_>) -> Progress;

    /// Cleans up after the last process, and gives the exit code.
    async fn finish(self, monitor: Monitor<'_>, reports: Receiver<Report>) -> u8;
}

/// Supervises a run until it has ended, and gives its exit code.
pub(crate) async fn serve<R: Supervise>(
    mut run: R,
    mut monitor: Monitor<'_>,
    mut watchdog: WatchdogReport,
    signals: &AsyncFd<SignalFd>,
    mut reports: Receiver<Report>,
) -> io::Result<u8> {
    loop {
        watchdog.attend(monitor.now());
        let times = [monitor.next(), run.next_wake(monitor.now()), watchdog.next()];
        let wake = times.into_iter().flatten().min();
        let wake = wake.map_or_else(far_future, |at| monitor.moment(at));
        tokio::select! {
            biased;
            ready = signals.readable() => {
                let mut ready = ready?;
                match ready.get_inner().next()? {
                    None => ready.clear_ready(),
                    Some(ReceivedSignal::ForWorkers { number, from_terminal }) => {
                        run.signalled(number, from_terminal, &mut monitor);
                    }
                    Some(ReceivedSignal::HangUp { from_terminal }) => {
                        run.hung_up(from_terminal, &mut monitor);
                    }
                    Some(ReceivedSignal::Child) => {
                        // A worker's last reports come before its end.
                        while let Ok(report) = reports.try_recv() {
                            monitor.hear(report);
                        }
                        if run.reap(&mut monitor)? == Progress::Ended {
                            break;
                        }
                    }
                }
            }
            input = run.input() => run.handle(input, &mut monitor),
            Some(report) = reports.recv() => monitor.hear(report),
            // Work that takes longer than its interval is always due. Without this, the loop would not ask
            // for signals and messages until tokio forces it to, after some dozens of such rounds.
            () = sleep_until(wake) => yield_now().await,
        }
        monitor.attend();
        if run.attend(&mut monitor) == Progress::Ended {
            break;
        }
    }
    Ok(run.finish(monitor, reports).await)
}
