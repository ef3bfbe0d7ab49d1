//! `sameport install-service`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, FromArgMatches};

use super::run;
use crate::error::{Failure, VerbResult};

const EXAMPLES: &str = "\
Examples:
  sameport install-service web -n 4 -- node server.js          show the unit, ask, and write it
  sameport install-service web -n 4 --now -- node server.js    and start it, also at each boot
  sameport install-service web --user www-data --env-file /etc/web.env -- ./server
  sameport install-service web --dry-run -- ./server           only show it
  sameport install-service web --hardened -- /usr/bin/server   with the drop-in for hardening
  sameport install-service web --remove --now                  stop it, and remove its files";

const AFTER: &str = "\
Root installs a service of the system (/etc/systemd/system/NAME.service), another user one of its own manager \
(~/.config/systemd/user). The command starts in the present directory; a relative path and a program of PATH are \
written as absolute paths. --user, --directory and --env become settings of the unit, so that the supervisor has \
them too. A drop-in of your own (`systemctl edit NAME`) stays. A unit that something else wrote is never \
changed.

`systemctl reload NAME` replaces one worker after the other, `systemctl restart NAME` also the supervisor; both \
lose no connection. Exits with 3 where systemd does not run, except with --dry-run.";

/// Options of the verb itself.
#[derive(clap::Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct InstallOptions {
    /// Print the files, and change nothing
    #[arg(long, conflicts_with_all = ["yes", "now", "remove"])]
    pub(crate) dry_run: bool,
    /// Write without asking; needed where no terminal can answer
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also start the service, now and at each boot; with --remove stop it
    #[arg(long)]
    pub(crate) now: bool,
    /// The manager of the service [default: `system` for root, otherwise `user`]
    #[arg(long, value_enum, value_name = "WHOSE")]
    pub(crate) manager: Option<ManagerArgument>,
    /// Also write the hardening of the package as a drop-in: docs/systemd.md
    #[arg(long)]
    pub(crate) hardened: bool,
    /// Read more variables from this file at each start (`NAME=VALUE` lines); unlike those of --env, others
    /// cannot read them; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Remove the files that this command wrote for NAME
    #[arg(long, conflicts_with_all = ["hardened", "env_file", "command"])]
    pub(crate) remove: bool,
}

/// The values of `--manager`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ManagerArgument {
    /// That of the system, pid 1
    System,
    /// That of this user
    User,
}

/// Write a systemd service of a named run
pub(crate) struct Args {
    options: InstallOptions,
    run: run::Args,
    /// The options of `run` as they were typed.
    words: Result<Vec<OsString>, Failure>,
}

impl clap::Args for Args {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = InstallOptions::augment_args(command).next_help_heading(None);
        let command = run::service::definition(command, &["remove"]);
        command
            .about("Write a systemd service of a named run")
            .long_about(None)
            .before_help(EXAMPLES)
            .after_help(AFTER)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let words = run::service::typed_options(matches);
        let (options, run) = (
            FromArgMatches::from_arg_matches(matches)?,
            FromArgMatches::from_arg_matches(matches)?,
        );
        Ok(Self { options, run, words })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::service_unit::UnitScope;

    use crate::operations::install_service as operation;
    use crate::operations::install_service::ServiceRequest;
    use crate::output::install_service as output;
    use crate::output::{stderr, stdout};

    let Args { options, run, words } = args;
    let words = words?;
    let scope = match options.manager {
        Some(ManagerArgument::System) => UnitScope::System,
        Some(ManagerArgument::User) => UnitScope::User,
        None => operation::own_scope(),
    };
    let (name, has_settings) = run::service::name_and_settings(&run);
    let Some(name) = name.cloned() else {
        return Err(Failure::usage("no name").hint("write the name of the run"));
    };
    if options.remove {
        if !words.is_empty() || has_settings {
            return Err(Failure::usage("--remove takes no options of `run`")
                .hint(format!("sameport install-service {name} --remove")));
        }
        let removal = operation::removal(&name, scope, options.now)?;
        output::files_to_remove(&removal).iter().for_each(|line| stderr::print(line));
        if !options.yes && !stderr::ask(&["remove? [y/N]".to_owned()]) {
            return Err(output::not_confirmed("removes"));
        }
        operation::remove(&removal)?;
        stderr::print(&output::removed(&removal));
        return Ok(ExitCode::SUCCESS);
    }
    let request = ServiceRequest {
        dry_run: options.dry_run,
        hardened: options.hardened,
        env_files: options.env_file,
        ..run::service::request(name, scope, run, words)?
    };
    let plan = operation::plan(request)?;
    stdout::write(&output::files(&plan, options.dry_run))?;
    for line in output::doubts(&plan) {
        match line.strip_prefix("hint: ") {
            Some(hint) => stderr::hint(hint),
            None => stderr::print(&line),
        }
    }
    if options.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if plan.changes() {
        if !options.yes && !stderr::ask(&[output::question(&plan)]) {
            return Err(output::not_confirmed("writes"));
        }
        operation::write(&plan)?;
    }
    output::written(&plan).iter().for_each(|line| stderr::print(line));
    if options.now {
        operation::start(&plan)?;
        stderr::print(&output::started(&plan));
    } else {
        stderr::print(&output::next_step(&plan));
    }
    Ok(ExitCode::SUCCESS)
}
