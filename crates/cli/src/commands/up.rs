//! `sameport up`.

use std::path::PathBuf;
use std::time::Duration;

use sameport_policy::model::name::RunName;

use crate::args::parse_duration;

const EXAMPLES: &str = "\
Examples:
  sameport up                        start, scale, upgrade, stop, until all is as sameport.toml says
  sameport up --dry-run              what would change, and in which way
  sameport up --check                whether the file is right, and the command line of each service
  sameport up web                    this service only
  sameport up -f deploy/prod.toml --prune    and stop what is gone from the file
  sameport up --watch src            start, show the output, restart on a change; Ctrl-C stops";

const AFTER: &str = "\
Does the least that makes the runs those of the file, several services side by side, and prints a line for each. A \
new command, directory or variable is an upgrade, a new number of workers a change of their number; other options \
reach the run by a new program in the supervisor's process, which replaces the workers if they have to be. None of \
these loses a connection. --user, --via, --queue, --listen, --private and --no-hold hold from start to end: such a change \
stops the run and starts it, after a question, or with --restart.

A service whose new workers do not become ready keeps the old ones and the old options; the other services go on. \
`up` changes the runs that an `up` of the same file started, and starts the missing ones. A run of another file is left \
alone; one that was started by hand is taken over after a question, or with --adopt. A second `up` of the file waits \
for the first.

--watch starts what is missing, prints the output of all services, and restarts the services whose directory has \
a file that changed: one worker after another, so that no connection is refused. It leaves out .git, \
target, node_modules, __pycache__ and names that begin with a dot. A change of the file of services is applied. Ctrl-C \
stops the services that --watch has started.

Exits with 1 when a service is not as written, 2 when the file cannot be used: then nothing has changed.";

/// Make the named runs those of a file: sameport.toml or Procfile
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// These services only [default: all of the file]
    #[arg(value_name = "SERVICE")]
    services: Vec<RunName>,
    /// The file [default: sameport.toml or Procfile in this directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Check the file, and print the command line of each service: nothing is asked of the runs
    #[arg(long, conflicts_with_all = ["dry_run", "prune", "restart", "adopt", "watch", "json"])]
    check: bool,
    /// Stop the runs of this file that it does not name any more
    #[arg(long, conflicts_with = "services")]
    prune: bool,
    /// Stop and start a run where nothing less changes an option: clients are refused meanwhile
    #[arg(long)]
    restart: bool,
    /// Take over runs of these names that were started by hand
    #[arg(long)]
    adopt: bool,
    /// Return when the runs have begun, and do not wait until their workers are ready
    #[arg(long)]
    no_wait: bool,
    /// The longest wait for the workers of a run that is started
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s",
          conflicts_with = "no_wait")]
    timeout: Duration,
    /// Restart services when a file below these paths changes, and print the output of all
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["dry_run", "json"])]
    watch: Vec<PathBuf>,
    /// Print a line of JSON for each service
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) use changing::run;

#[cfg(target_os = "linux")]
mod changing {
    use std::ffi::OsString;
    use std::path::Path;
    use std::process::ExitCode;
    use std::time::Duration;

    use sameport_policy::model::name::RunName;
    use sameport_policy::services::changes::ServiceChange;
    use sameport_policy::services::{ServiceFile, ServiceSpec};
    use sameport_supervisor::control::client::Client;

    use super::Args;
    use crate::commands::down::stop_run;
    use crate::commands::run::checked::{check_services, service_lines};
    use crate::error::{
        Failure, VerbResult, client_failure, lock_failure, service_obstacle, step_failure,
        unknown_services, watch_failure,
    };
    use crate::operations::runtime_dir::runtime_dir;
    use crate::operations::up::{
        self, RunOwner, ServiceResult, ServiceSteps, StepContext, StepProgress,
    };
    use crate::operations::watch::{WatchEvent, WatchOrder};
    use crate::operations::{services, watch};
    use crate::output::run::worker_change::colored_sentence;
    use crate::output::text::{pid_remark, printable};
    use crate::output::up::{done_line, planned_line, service_json};
    use crate::output::{stderr, stdout};

    /// The longest wait for another `up` of the same file.
    const OTHER: Duration = Duration::from_secs(3600);

    pub(crate) fn run(args: Args) -> VerbResult {
        let directory = std::env::current_dir().unwrap_or_default();
        let file = services::read(args.file.as_deref(), &directory)?;
        check_services(&file)?;
        if args.check {
            stdout::write(&service_lines(&file))?;
            return Ok(ExitCode::SUCCESS);
        }
        if args.watch.is_empty() { apply(&args, &file) } else { watch(&args, file, &directory) }
    }

    /// Applies the file, and restarts services on changes, until a signal ends this.
    fn watch(args: &Args, file: ServiceFile, directory: &Path) -> VerbResult {
        let mut words: Vec<OsString> = vec!["up".into(), "-f".into(), file.path.clone().into()];
        let switches =
            [("--prune", args.prune), ("--restart", args.restart), ("--adopt", args.adopt)];
        words.extend(switches.iter().filter(|(_, is_set)| *is_set).map(|(word, _)| word.into()));
        words.extend(["--timeout".into(), format!("{}ms", args.timeout.as_millis()).into()]);
        words.extend(args.services.iter().map(|name| name.as_str().into()));
        let read = || {
            let mut file = services::read(args.file.as_deref(), directory).ok()?;
            file.services = up::selected(&file, &args.services).0;
            Some(file)
        };
        let mut tell = |event: WatchEvent<'_>| match event {
            WatchEvent::Applies => {}
            WatchEvent::Restarts(names, cause) => {
                let names: Vec<&str> = names.iter().map(RunName::as_str).collect();
                let cause = printable(&cause.display().to_string());
                stderr::print(&format!("{cause} has changed: restart of {}", names.join(", ")));
            }
        };
        let order =
            WatchOrder { paths: &args.watch, file, read: &read, up: words, tell: &mut tell };
        let code = watch::run(order).map_err(|error| watch_failure(&error))?;
        Ok(ExitCode::from(code))
    }

    /// Makes the runs those of the file.
    fn apply(args: &Args, file: &ServiceFile) -> VerbResult {
        let (specs, unknown) = up::selected(file, &args.services);
        if !unknown.is_empty() {
            return Err(unknown_services(&unknown, file));
        }
        let context = StepContext {
            client: Client::new(runtime_dir()),
            origin: up::identity(&file.path),
            wait: (!args.no_wait).then_some(args.timeout),
        };
        let mut change = Change { args, context, failed: false };
        if args.dry_run {
            change.plan_all(&specs, false);
            change.list_leftovers(file);
            return Ok(ExitCode::SUCCESS);
        }
        let mut waits = |pid: Option<i32>| {
            let pid = pid_remark(pid);
            stderr::print(&format!("another `sameport up` of this file{pid} goes first"));
        };
        let lock = up::lock(&change.context.origin, OTHER, &mut waits);
        let _lock = lock.map_err(|error| lock_failure(&error))?;
        let plans = change.plan_all(&specs, true);
        change.carry_out(plans);
        if args.services.is_empty() {
            change.stop_leftovers(file);
        }
        Ok(if change.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    struct Change<'a> {
        args: &'a Args,
        context: StepContext,
        failed: bool,
    }

    impl Change<'_> {
        /// Compares each service with its run. Prints those that need no step or that cannot have it; with
        /// `acts` returns the others, else prints them too.
        fn plan_all(&mut self, specs: &[ServiceSpec], acts: bool) -> Vec<ServiceSteps> {
            let mut plans = Vec::new();
            for spec in specs {
                match up::plan(&self.context.client, spec, &self.context.origin) {
                    Err(error) => {
                        self.fail(&spec.name, &[], &client_failure(&spec.name, &error), "failed");
                    }
                    Ok(plan) => plans.extend(self.admitted(plan, acts)),
                }
            }
            plans
        }

        /// The plan, if its steps may be carried out.
        fn admitted(&mut self, plan: ServiceSteps, acts: bool) -> Option<ServiceSteps> {
            let ServiceSteps { spec, seen, changes } = &plan;
            let is_own = match &seen.owner {
                RunOwner::None => true,
                RunOwner::File(file) => *file == self.context.origin,
                RunOwner::Hand => self.args.adopt || (acts && self.may_adopt(&plan)),
                RunOwner::Manager => false,
            };
            if !is_own {
                let failure = service_obstacle(&spec.name, seen);
                self.fail(&spec.name, changes, &failure, "refused");
                return None;
            }
            if changes.is_empty() || !acts {
                let state = if changes.is_empty() { "as-written" } else { "planned" };
                self.print(&spec.name, changes, state, &planned_line(spec, changes));
                return None;
            }
            let refused = changes.iter().find_map(|change| match change {
                ServiceChange::Restart { why, is_served: true } => Some(why),
                _ => None,
            });
            if let Some(why) = refused
                && !self.args.restart
                && !stderr::ask(&[format!(
                    "{}: {why}. Stop it and start it again? Clients are refused meanwhile [y/N]",
                    spec.name
                )])
            {
                let failure = Failure::failed(why)
                    .hint("--restart stops it and starts it again: clients are refused meanwhile");
                self.fail(&spec.name, changes, &failure, "refused");
                return None;
            }
            Some(plan)
        }

        fn may_adopt(&self, plan: &ServiceSteps) -> bool {
            let pid = pid_remark(plan.seen.pid);
            let name = &plan.spec.name;
            let question = format!("{name}: runs{pid}, started by hand. Take it over? [y/N]");
            !self.args.json && stderr::ask(&[question])
        }

        fn carry_out(&mut self, plans: Vec<ServiceSteps>) {
            let specs: Vec<ServiceSpec> = plans.iter().map(|plan| plan.spec.clone()).collect();
            let is_quiet = self.args.json;
            let hear = |name: &RunName, step: StepProgress<'_>| {
                if let StepProgress::Worker(update) = step
                    && !is_quiet
                {
                    stderr::styled(&format!("{name}: {}", colored_sentence(update)));
                }
            };
            let context = self.context.clone();
            up::change_all(&context, plans, &hear, &mut |result| {
                if let Some(spec) = specs.iter().find(|spec| spec.name == result.name) {
                    self.finish(spec, &result);
                }
            });
        }

        fn finish(&mut self, spec: &ServiceSpec, result: &ServiceResult) {
            match &result.failure {
                None => self.print(&spec.name, &result.done, "done", &done_line(spec, result)),
                Some(error) => {
                    if !self.args.json {
                        result.said.iter().for_each(|line| stderr::print(line));
                    }
                    let failure = step_failure(&spec.name, error);
                    self.fail(&spec.name, &result.done, &failure, "failed");
                }
            }
        }

        /// The runs of this file that it does not name.
        fn leftovers(&self, file: &ServiceFile) -> Vec<RunName> {
            let is_written =
                |name: &RunName| file.services.iter().any(|service| service.name == *name);
            let mut runs = up::runs_of_file(&self.context.client, &self.context.origin);
            runs.retain(|name| !is_written(name));
            runs
        }

        fn list_leftovers(&mut self, file: &ServiceFile) {
            if !self.args.services.is_empty() {
                return;
            }
            for name in self.leftovers(file) {
                let does = if self.args.prune { "stop" } else { "stop with --prune" };
                let line = format!("{name}: not in {}: {does}", file_name(file));
                self.print(&name, &[], "not-in-file", &line);
            }
        }

        fn stop_leftovers(&mut self, file: &ServiceFile) {
            let mut stops = Vec::new();
            for name in self.leftovers(file) {
                let line = format!("{name}: not in {}", file_name(file));
                let asks = !self.args.prune && !self.args.json;
                if self.args.prune || (asks && stderr::ask(&[format!("{line}: stop it? [y/N]")])) {
                    stops.push(name);
                } else {
                    self.print(
                        &name,
                        &[],
                        "not-in-file",
                        &format!("{line}: runs on; --prune stops it"),
                    );
                }
            }
            let (client, json) = (&self.context.client, self.args.json);
            let mut failed = false;
            up::stop_all(
                stops,
                &|name| stop_run(client, name, false, json),
                &mut |name, result| match result {
                    Ok(()) => print(json, &name, &[], "stopped", &format!("{name}: stopped")),
                    Err(failure) => {
                        failed = true;
                        fail(json, &name, &[], &failure, "failed");
                    }
                },
            );
            self.failed |= failed;
        }

        fn print(&self, name: &RunName, changes: &[ServiceChange], state: &str, text: &str) {
            print(self.args.json, name, changes, state, text);
        }

        fn fail(
            &mut self,
            name: &RunName,
            changes: &[ServiceChange],
            failure: &Failure,
            state: &str,
        ) {
            self.failed = true;
            fail(self.args.json, name, changes, failure, state);
        }
    }

    fn file_name(file: &ServiceFile) -> String {
        file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// A closed stdout does not end the change.
    fn print(json: bool, name: &RunName, changes: &[ServiceChange], state: &str, text: &str) {
        let _ = match json {
            true => stdout::line(&service_json(name, state, changes, None)),
            false => stdout::line(&format!("{text}\n")),
        };
    }

    fn fail(json: bool, name: &RunName, changes: &[ServiceChange], failure: &Failure, state: &str) {
        if json {
            let _ = stdout::line(&service_json(name, state, changes, Some(failure)));
            return;
        }
        let message = format!("{name}: {}", failure.message);
        Failure { message, ..failure.clone() }.report();
    }
}
