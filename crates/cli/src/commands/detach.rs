//! `sameport detach`.

use std::path::PathBuf;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport detach --unit nginx.service
  sameport detach --cgroup /my/app
  sameport detach --all                 every attachment, also of removed cgroups";

const AFTER: &str = "\
Later binds are no longer changed; shared sockets stay shared. Programs of others on the cgroup are not \
touched. The drop-in of `attach --unit` is removed too.

Exits with 1 when there was no attachment (without --all).";

/// Undo `attach` for a unit or cgroup
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
    /// Every attachment
    #[arg(long)]
    all: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::operations::attach::{self, CgroupChoice};
    use crate::output::stderr;
    use crate::output::text::quotable;

    let removed = |path: &PathBuf| {
        stderr::print(&format!("removed {}", quotable(&path.to_string_lossy())));
    };
    let place = match (args.unit, args.cgroup) {
        (Some(unit), _) => CgroupChoice::Unit(unit),
        (_, Some(path)) => CgroupChoice::Path(path),
        (None, None) => {
            let (count, drop_ins) = attach::detach_all()?;
            drop_ins.iter().for_each(removed);
            stderr::print(&match count {
                0 => "nothing was attached".to_owned(),
                1 => "detached from 1 cgroup".to_owned(),
                count => format!("detached from {count} cgroups"),
            });
            return Ok(ExitCode::SUCCESS);
        }
    };
    let done = attach::detach(&place)?;
    done.drop_ins.iter().for_each(removed);
    if let Some(path) = done.path {
        stderr::print(&format!("detached from {}", quotable(&path.to_string_lossy())));
    }
    Ok(ExitCode::SUCCESS)
}
