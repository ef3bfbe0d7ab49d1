//! One file a verb: its arguments, one call of an operation, the output of its result.

mod agent;
mod attach;
mod audit;
mod completions;
mod detach;
mod dial;
mod doctor;
mod down;
mod drain;
mod guard;
mod install_service;
mod listen;
mod log_writer;
mod logs;
mod ls;
mod manual;
mod metrics;
mod preload;
mod reexec;
mod restart;
mod run;
mod scale;
mod status;
mod steer;
mod stop;
mod top;
mod up;
mod upgrade;
mod why;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::args::EXIT_CODES;
use crate::error::{Failure, VerbResult, command_line};
use crate::output::stdout;
use crate::system::{ABOUT_ELSEWHERE, System};

#[derive(Parser)]
#[command(name = "sameport", version, about, before_help = EXAMPLES, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sameport run -- python3 -m http.server 8080     share port 8080, from many terminals
  sameport run -n 4 -- ./server                   four copies at once
  sameport run --name web -n 4 -- ./server        four copies that are restarted after a crash
  sameport logs web -f                            what its workers write
  sameport restart web                            one after the other, no connection lost
  sameport up                                     the services of sameport.toml, until all is as written
  sameport steer 8080 two-choices                 choose who gets the next connection
  sameport ls 8080                                the sockets on the port and their processes
  sameport top                                    live: members, new connections, queues
  sameport metrics                                for Prometheus, with /healthz and /readyz
  sameport why 8080                               why it cannot be bound, and what would work
  sameport audit                                  programs that took a port from another
  sameport guard 8443 --allow unit=api.service    restrict who may bind it; for root
  sameport listen 127.0.0.1:8080                  listen there yourself, shared
  sameport doctor                                 what this machine can do";

#[derive(Subcommand)]
pub(crate) enum Command {
    Run(run::Args),
    Status(status::Args),
    Logs(logs::Args),
    Restart(restart::Args),
    Scale(scale::Args),
    Upgrade(upgrade::Args),
    Stop(stop::Args),
    Reexec(reexec::Args),
    InstallService(install_service::Args),
    Up(up::Args),
    Down(down::Args),
    Steer(steer::Args),
    Drain(drain::Args),
    Agent(agent::Args),
    Listen(listen::Args),
    Dial(dial::Args),
    Ls(ls::Args),
    Top(top::Args),
    Metrics(metrics::Args),
    Why(why::Args),
    Audit(audit::Args),
    Attach(attach::Args),
    Detach(detach::Args),
    Guard(guard::Args),
    Preload(preload::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Manual(manual::Args),
    #[command(hide = true)]
    LogWriter(log_writer::Args),
}

impl Command {
    /// Runs the verb.
    pub(crate) fn run(self) -> VerbResult {
        if !matches!(self, Self::Run(_) | Self::LogWriter(_)) {
            // The stdout of `run` belongs to its workers, open or closed.
            stdout::require()?;
        }
        match self {
            Self::Listen(args) => listen::run(args),
            Self::Dial(args) => dial::run(args),
            Self::Preload(args) => preload::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Completions(args) => completions::run(args, definition()),
            Self::Manual(args) => manual::run(args, definition()),
            #[cfg(target_os = "linux")]
            Self::Run(args) => run::run(args),
            #[cfg(target_os = "linux")]
            Self::Status(args) => status::run(args),
            #[cfg(target_os = "linux")]
            Self::Logs(args) => logs::run(args),
            #[cfg(target_os = "linux")]
            Self::LogWriter(args) => log_writer::run(args),
            #[cfg(target_os = "linux")]
            Self::Restart(args) => restart::run(args),
            #[cfg(target_os = "linux")]
            Self::Scale(args) => scale::run(args),
            #[cfg(target_os = "linux")]
            Self::Upgrade(args) => upgrade::run(args),
            #[cfg(target_os = "linux")]
            Self::Stop(args) => stop::run(args),
            #[cfg(target_os = "linux")]
            Self::Reexec(args) => reexec::run(args),
            #[cfg(target_os = "linux")]
            Self::InstallService(args) => install_service::run(args),
            #[cfg(target_os = "linux")]
            Self::Up(args) => up::run(args),
            #[cfg(target_os = "linux")]
            Self::Down(args) => down::run(args),
            #[cfg(target_os = "linux")]
            Self::Steer(args) => steer::run(args),
            #[cfg(target_os = "linux")]
            Self::Drain(args) => drain::run(args),
            #[cfg(target_os = "linux")]
            Self::Agent(args) => agent::run(args),
            #[cfg(target_os = "linux")]
            Self::Ls(args) => ls::run(args),
            #[cfg(target_os = "linux")]
            Self::Top(args) => top::run(args),
            #[cfg(target_os = "linux")]
            Self::Why(args) => why::run(args),
            #[cfg(target_os = "linux")]
            Self::Metrics(args) => metrics::run(args),
            #[cfg(target_os = "linux")]
            Self::Audit(args) => audit::run(args),
            #[cfg(target_os = "linux")]
            Self::Attach(args) => attach::run(args),
            #[cfg(target_os = "linux")]
            Self::Detach(args) => detach::run(args),
            #[cfg(target_os = "linux")]
            Self::Guard(args) => guard::run(args),
            #[cfg(not(target_os = "linux"))]
            _ => Err(crate::error::needs_linux("this verb")),
        }
    }
}

/// The command line of this system.
pub(crate) fn definition() -> clap::Command {
    definition_of(System::HERE)
}

/// The command line for help, completions and manual: every verb's help ends with the exit codes.
pub(crate) fn definition_of(system: System) -> clap::Command {
    let with_exit_codes = |verb: clap::Command| {
        let help = verb.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
        verb.after_help(format!("{help}{EXIT_CODES}"))
    };
    system
        .of(&CommandLine::command(), ABOUT_ELSEWHERE)
        .after_help(format!("{}\n\n{EXIT_CODES}", system.environment()))
        .mut_subcommands(with_exit_codes)
}

/// Parses the command line. `--help` and `--version` print and exit; every error is one line that names
/// the argument.
pub(crate) fn parse() -> Result<Command, Failure> {
    command_line::refuse_unknown_verb(definition)?;
    definition()
        .try_get_matches_from(command_line::typed())
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map(|line| line.command)
        .or_else(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Err(command_line::failure(&error, definition)),
        })
}
