//! `sameport preload`: the preload library as a file, for use by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::PRELOAD_ENVIRONMENT;
use crate::error::{VerbResult, export_failure};
use crate::operations::export;

/// Write the preload library to a file, for use by hand
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = format!("{LIBRARY}\n\n{PRELOAD_ENVIRONMENT}"))]
pub(crate) struct Args {
    /// The file
    #[arg(long, value_name = "FILE", default_value = "libsameport_preload.so")]
    out: PathBuf,
    /// Replace an existing file; programs that have loaded it keep the old one
    #[arg(long)]
    force: bool,
}

const LIBRARY: &str = "The library works in dynamically linked programs of glibc and of musl.";

const EXAMPLES: &str = "\
Examples:
  sameport preload && LD_PRELOAD=$PWD/libsameport_preload.so SAMEPORT_SHARE=1 redis-server
  LD_PRELOAD=$PWD/libsameport_preload.so SAMEPORT_MAP=80=127.0.0.1:8080 nginx
  LD_PRELOAD=$PWD/libsameport_preload.so REUSE_PORT=1 BIND_PORT=8888 nginx
  sameport preload --out /usr/lib/sameport/libsameport_preload.so";

pub(crate) fn run(args: Args) -> VerbResult {
    export::export(&args.out, args.force)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| export_failure(&args.out, &error))
}
