//! What `run --detach` prints about the run.

use sameport_policy::model::name::RunName;

use crate::operations::detach::DetachedRun;
use crate::output::text::printable;

/// The wait begins.
pub(crate) fn begun_text(name: &RunName, pid: u32) -> String {
    format!(
        "{name} has begun (pid {pid}) and waits for its workers; Ctrl-C ends the wait, not the run"
    )
}

/// The one line on stdout.
pub(crate) fn done_text(run: &DetachedRun) -> String {
    let (status, pid) = (&run.status, run.pid);
    let name = &status.name;
    let output = match &status.treatment.log {
        Some(log) => format!("its output is in {}", printable(&log.to_string_lossy())),
        None => "its output is not kept".to_owned(),
    };
    format!(
        "{name} runs in the background (pid {pid}); {output}; follow it: sameport logs {name} -f\n"
    )
}

/// A line of the output of a worker that ended badly.
pub(crate) fn output_text(name: &RunName, worker: u16, line: &str) -> String {
    format!("{name}.{worker} | {line}")
}
