//! `sameport ls`.

use super::Outcome;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args) -> Outcome {
    Ok(std::process::ExitCode::SUCCESS)
}
