//! One collection.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sameport_policy::audit::{FindingKind, Severity};
use sameport_policy::metrics::{self, AddressFilter, MetricSet, RunReadiness};
use sameport_sys::proc::{StartTimes, kernel_settings};

use super::audits::AuditWatch;
use super::port_samples::PortTotals;
use super::runs::{RunsAsker, readiness};
use super::{MetricsRequest, exposition, port_samples, run_samples};

/// Collects metrics.
#[derive(Debug)]
pub(crate) struct Exporter {
    runs: RunsAsker,
    audits: AuditWatch,
    has_audits: bool,
    filter: AddressFilter,
    times: StartTimes,
    memory: Mutex<Memory>,
}

/// What lasts from one collection to the next.
#[derive(Debug, Default)]
struct Memory {
    ports: PortTotals,
    /// Looks at the sockets that failed.
    failed: u64,
}

impl Exporter {
    /// Starts the threads that ask supervisors and look for findings.
    ///
    /// # Errors
    ///
    /// EAGAIN: no more threads.
    pub(crate) fn start(request: MetricsRequest) -> io::Result<Self> {
        let audits = request.audit.map(AuditWatch::start).transpose()?;
        Self::new(request, audits)
    }

    /// The metrics now, with those of an audit.
    ///
    /// # Errors
    ///
    /// EAGAIN: no more threads.
    pub(crate) fn once(request: MetricsRequest) -> io::Result<String> {
        let audits = request.audit.map(|_| AuditWatch::default());
        audits.iter().for_each(AuditWatch::audit);
        Ok(Self::new(request, audits)?.collect())
    }

    fn new(request: MetricsRequest, audits: Option<AuditWatch>) -> io::Result<Self> {
        let MetricsRequest { runs, ports, all, audit: _ } = request;
        let ephemeral = Some(kernel_settings().ephemeral_ports);
        let filter = AddressFilter { ports, all, only_runs: !runs.is_empty(), ephemeral };
        Ok(Self {
            runs: RunsAsker::start(runs)?,
            has_audits: audits.is_some(),
            audits: audits.unwrap_or_default(),
            filter,
            times: StartTimes::new(),
            memory: Mutex::default(),
        })
    }

    /// The text of a scrape. Waits for supervisors for a limited time.
    pub(crate) fn collect(&self) -> String {
        let begun = Instant::now();
        let mut set = MetricSet::default();
        set.gauge(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        let runs = self.runs.ask();
        runs.iter().for_each(|run| run_samples::add(&mut set, run, self.times));
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if port_samples::add(&mut set, &runs, &self.filter, &mut memory.ports).is_err() {
            memory.failed += 1;
        }
        set.count(&metrics::SCRAPE_ERRORS, &["sockets"], memory.failed);
        drop(memory);
        self.add_findings(&mut set);
        set.gauge(&metrics::SCRAPE_DURATION, &[], begun.elapsed().as_secs_f64());
        exposition::text(set)
    }

    /// Whether runs are ready. Waits for supervisors for a limited time.
    pub(super) fn readiness(&self) -> Arc<Vec<RunReadiness>> {
        Arc::new(self.runs.ask().iter().map(readiness).collect())
    }

    fn add_findings(&self, set: &mut MetricSet) {
        if !self.has_audits {
            return;
        }
        let Some(last) = self.audits.last() else {
            return set.count(&metrics::SCRAPE_ERRORS, &["audit"], 0);
        };
        set.count(&metrics::SCRAPE_ERRORS, &["audit"], last.failed);
        set.gauge(&metrics::AUDIT_TIME, &[], last.at.as_secs_f64());
        set.gauge(&metrics::AUDIT_DURATION, &[], last.took.as_secs_f64());
        let Some(findings) = last.findings else { return };
        for severity in [Severity::Warning, Severity::Danger] {
            for kind in FindingKind::ALL {
                set.gauge(&metrics::AUDIT_FINDINGS, &[severity.name(), kind.id()], 0.0);
            }
        }
        for (severity, kind) in findings {
            set.gauge(&metrics::AUDIT_FINDINGS, &[severity.name(), kind.id()], 1.0);
        }
    }
}
