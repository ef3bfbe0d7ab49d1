//! Findings of `audit`, looked for in a thread: a look costs far more than a scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sameport_policy::audit::{FindingKind, Severity};

use crate::operations::audit::{self, AuditRequest};

/// The result of an audit.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditResult {
    /// Severity and kind of each finding; `None`: the sockets could not be listed.
    pub(super) findings: Option<Vec<(Severity, FindingKind)>>,
    /// Its end, since 1970.
    pub(super) at: Duration,
    pub(super) took: Duration,
    /// Number of audits so far that gave nothing.
    pub(super) failed: u64,
}

/// The last result; `None` before the first.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditWatch {
    last: Arc<Mutex<Option<AuditResult>>>,
}

impl AuditWatch {
    /// Audits in a thread, with this pause between.
    ///
    /// # Errors
    ///
    /// EAGAIN: no more threads.
    pub(super) fn start(pause: Duration) -> std::io::Result<Self> {
        let watch = Self::default();
        let own = watch.clone();
        let audits = move || {
            loop {
                own.audit();
                std::thread::sleep(pause);
            }
        };
        std::thread::Builder::new().name("audit".into()).spawn(audits)?;
        Ok(watch)
    }

    /// Audits now.
    pub(super) fn audit(&self) {
        let begun = Instant::now();
        let report = AuditRequest::new(None).and_then(|request| audit::report(&request));
        let findings = report.ok().map(|report| {
            report.findings.iter().map(|finding| (finding.severity, finding.kind)).collect()
        });
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().map_or(0, |last| last.failed);
        let failed = before + u64::from(findings.is_none());
        *last = Some(AuditResult { findings, at, took: begun.elapsed(), failed });
    }

    /// The last result.
    pub(super) fn last(&self) -> Option<AuditResult> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
