//! The hidden verb of the process that writes the output of a run. The supervisor starts it.

use std::path::PathBuf;

use crate::error::VerbResult;

/// Write the output of workers: started by `sameport run`, with the pipes on its standard input
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The name of the run
    label: String,
    /// The directory of the files; without it, lines go to the standard output
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Size of a file in bytes
    #[arg(long, default_value_t = 10 * 1024 * 1024)]
    log_size: u64,
    /// Number of files
    #[arg(long, default_value_t = 5)]
    log_files: u32,
    /// Colour the prefix
    #[arg(long)]
    color: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::Failure;
    use sameport_supervisor::{LogTarget, write_logs};

    let target = match args.directory {
        None => LogTarget::Stdout { color: args.color },
        Some(directory) => {
            LogTarget::Files { directory, max_size: args.log_size, files: args.log_files }
        }
    };
    write_logs(&args.label, target).map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}
