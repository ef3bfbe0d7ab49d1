//! `sameport detach`.

use std::path::PathBuf;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport detach --unit nginx.service
  sameport detach --cgroup /my/app
  sameport detach --all                 every attachment, also of cgroups that are gone";

const AFTER: &str = "\
The next bind is as it was before `sameport attach`; sockets that are shared stay so. Nothing of \
sameport is left there, and nothing of others is touched.

Exit code: 0 when nothing is attached any more, 1 when nothing was (without --all), 2 when the \
command line is wrong, 3 when this machine cannot.";

/// Undo `attach`: the next bind is as it was before
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
#[command(group(clap::ArgGroup::new("where").args(["unit", "cgroup", "all"]).required(true)))]
pub(crate) struct Args {
    /// The cgroup of this systemd unit
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// This cgroup: its path as in /proc/PID/cgroup, or its directory
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Everything
    #[arg(long)]
    all: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::operations::attach::{self, CgroupChoice};
    use crate::output::stderr;
    use crate::output::text::quotable;

    let place = match (args.unit, args.cgroup) {
        (Some(unit), _) => CgroupChoice::Unit(unit),
        (_, Some(path)) => CgroupChoice::Path(path),
        (None, None) => {
            let count = attach::detach_all()?;
            stderr::say(&match count {
                0 => "nothing was attached".to_owned(),
                1 => "detached from 1 cgroup".to_owned(),
                count => format!("detached from {count} cgroups"),
            });
            return Ok(ExitCode::SUCCESS);
        }
    };
    let path = attach::detach(&place)?;
    stderr::say(&format!("detached from {}", quotable(&path.to_string_lossy())));
    Ok(ExitCode::SUCCESS)
}
