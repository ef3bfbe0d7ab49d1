//! Starts a named run in the background: a supervisor in a session of its own, which reports its start to this
//! process.

mod report;
mod starting;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use sameport_supervisor::control::client::Client;

use super::runtime_dir::runtime_dir;

pub(crate) use report::{StartFailure, StartReport, is_detached};
pub(crate) use starting::{DetachError, DetachProgress, DetachedRun, DetachedStart, StartingRun};

/// Starts a supervisor with this command line in the background: in a session of its own, without this
/// terminal and the descriptors of this process. Returns when its control socket answers; with `wait` when
/// every worker is ready. Otherwise, after this time or a failure, the run is stopped.
///
/// `arguments`: of `sameport run --name NAME`, program name first. `directory`: `None` for that of this process.
/// `progress` hears what happens meanwhile.
///
/// # Errors
///
/// See [`DetachError`].
pub(crate) fn start(
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    wait: Option<Duration>,
    progress: &mut dyn FnMut(DetachProgress<'_>),
) -> Result<DetachedRun, DetachError> {
    let mut run = DetachedStart { arguments, directory, environment, output: None }.spawn()?;
    let taken_over = run.until_begun(progress)?;
    match wait {
        Some(limit) => wait::until_ready(run, limit, &taken_over, progress),
        None => {
            let status = Client::new(runtime_dir()).status(&run.name);
            let pid = run.child.id();
            status.map(|status| DetachedRun { pid, status }).map_err(DetachError::Client)
        }
    }
}
