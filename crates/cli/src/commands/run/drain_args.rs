//! The options of `sameport run` about the end of workers.

use std::time::Duration;

use sameport_policy::drain::DrainMode;
use sameport_policy::stop_signal::StopSignal;

use crate::args::parse_duration;

/// How a worker of a named run ends.
#[derive(clap::Args)]
pub(in crate::commands) struct DrainArgs {
    /// What a worker finishes before it gets the stop signal, while new connections go to others
    #[arg(long, value_enum, value_name = "WHAT", requires = "name",
          default_value_t = DrainArgument::Busy)]
    drain: DrainArgument,
    /// Time limit of that; what is left is cut, at the moment with the fewest connections in hand
    #[arg(long, value_name = "TIME", requires = "name", default_value = "30s",
          value_parser = parse_duration)]
    pub(super) drain_timeout: Duration,
    /// The signal that tells a worker to end: a name or a number, such as QUIT for nginx
    #[arg(long, value_name = "SIGNAL", requires = "name", default_value_t = StopSignal::TERM)]
    pub(super) stop_signal: StopSignal,
    /// Time limit for a worker to end after the stop signal, before SIGKILL
    #[arg(long, value_name = "TIME", requires = "name", default_value = "30s",
          value_parser = parse_duration)]
    pub(super) grace: Duration,
}

impl DrainArgs {
    pub(super) fn mode(&self) -> DrainMode {
        match self.drain {
            DrainArgument::None => DrainMode::None,
            DrainArgument::Busy => DrainMode::Busy,
            DrainArgument::All => DrainMode::All,
        }
    }
}

/// The values of `--drain`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DrainArgument {
    /// Nothing: the program finishes its connections itself after the signal
    None,
    /// The requests in hand, for every program
    Busy,
    /// All connections, such as websockets and ssh sessions
    All,
}
