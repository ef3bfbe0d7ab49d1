//! `sameport preload`: the preload library as a file, for use by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{VerbResult, export_failure};
use crate::operations::export;

/// Write the preload library to a file, for use by hand
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "libsameport_preload.so")]
    out: PathBuf,
    /// Replace the file if it is there; programs that have loaded it keep the old one
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  sameport preload && LD_PRELOAD=$PWD/libsameport_preload.so SAMEPORT_SHARE=1 redis-server
  LD_PRELOAD=$PWD/libsameport_preload.so SAMEPORT_MAP=80=127.0.0.1:8080 nginx
  LD_PRELOAD=$PWD/libsameport_preload.so REUSE_PORT=1 BIND_PORT=8888 nginx
  sameport preload --out /usr/lib/sameport/libsameport_preload.so";

const AFTER: &str = "\
The library works in dynamically linked programs of glibc and of musl. Its variables: \
SAMEPORT_SHARE=1, SAMEPORT_PORTS=80,443, SAMEPORT_MAP=FROM=TO,FROM=TO, SAMEPORT_SOURCE=ADDR[:PORT], \
SAMEPORT_TRANSPARENT=1, SAMEPORT_CHILDREN=inherit|strip; without any of these, bindp's BIND_ADDR, \
BIND_PORT, REUSE_ADDR=1, REUSE_PORT=1 and IP_TRANSPARENT=1. Exit code: 0 written, 1 not written, 3 \
when this build has no library.";

pub(crate) fn run(args: Args) -> VerbResult {
    export::export(&args.out, args.force)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| export_failure(&args.out, &error))
}
