//! What makes a run that is there the service that is written: the least that does it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::line::{LineOptions, OptionEffect, effect};
use super::model::{CanarySpec, ServiceSpec};
use crate::traffic::model::{CanaryShare, TrafficRules};

/// What there is of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentRun {
    /// No run has its name.
    None,
    /// The supervisor was killed, and left these workers.
    Orphaned {
        /// Their number.
        workers: usize,
        /// The file that the run belongs to.
        origin: Option<PathBuf>,
    },
    /// A run.
    Running(Box<RunningFacts>),
}

/// A run, as its supervisor describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningFacts {
    /// The command line of the supervisor, program name first; `None`: an earlier build does not say it.
    pub arguments: Option<Vec<OsString>>,
    /// The number of workers that it is to have.
    pub copies: u16,
    /// The number of workers that serve.
    pub ready: usize,
    /// The command of the workers, after the upgrades.
    pub command: Vec<OsString>,
    /// Their directory.
    pub directory: PathBuf,
    /// The variables that are set for them, each name once, sorted.
    pub environment: Vec<(OsString, OsString)>,
    /// The rules of the ports that requests have set; `None`: the kernel's hash.
    pub steered: Vec<Option<TrafficRules>>,
    /// The canary.
    pub canary: Option<CanaryFacts>,
    /// Whether workers can pass to another program of the supervisor.
    pub can_hand_over: bool,
}

/// A canary that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryFacts {
    /// Its command.
    pub command: Vec<OsString>,
    /// Its directory.
    pub directory: PathBuf,
    /// Its share.
    pub share: CanaryShare,
}

/// A service as it is to run.
#[derive(Debug, Clone, Copy)]
pub struct WantedRun<'a> {
    /// As it is written.
    pub spec: &'a ServiceSpec,
    /// The number of workers; `auto` counted.
    pub copies: u16,
    /// The command line of its supervisor, program name first.
    pub arguments: &'a [OsString],
}

/// One step from a run that is there to the service that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    /// Start the run.
    Start,
    /// Start the run in the place of a killed supervisor, and replace the workers that it left.
    TakeOver,
    /// Execute the program of this version in the supervisor, which is of an earlier build.
    Reexec,
    /// Replace the workers by workers of another command, directory or environment.
    Upgrade(Vec<LaunchPart>),
    /// The same, with the options of this line: some of the variables are gone.
    Reconfigure {
        /// What differs: options, and parts of the launch.
        options: Vec<String>,
        /// What becomes of the workers.
        workers: OptionEffect,
    },
    /// Start workers of the canary's command beside the others.
    StartCanary,
    /// Replace the others by those of the canary's command, which is the one that is written.
    Promote,
    /// End the workers of a canary that is not written.
    RollBack,
    /// Change the number of workers.
    Scale(u16, u16),
    /// Give the ports of the run the values of the policy.
    Steer,
    /// Stop the run and start it: nothing less changes this.
    Restart {
        /// What cannot change while the run serves.
        why: String,
        /// Whether a worker serves, so that clients are refused meanwhile.
        is_served: bool,
    },
}

/// A part of the launch of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchPart {
    /// Program and arguments.
    Command,
    /// The working directory.
    Directory,
    /// Variables.
    Environment,
}

impl fmt::Display for LaunchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Directory => "directory",
            Self::Environment => "env",
        })
    }
}

/// The steps to the service that is written, in order; none: it runs as it is written.
#[must_use]
pub fn changes(wanted: WantedRun<'_>, present: &PresentRun) -> Vec<ServiceChange> {
    match present {
        PresentRun::None => vec![ServiceChange::Start],
        PresentRun::Orphaned { workers: 0, .. } => vec![ServiceChange::Start],
        PresentRun::Orphaned { .. } => vec![ServiceChange::TakeOver],
        PresentRun::Running(facts) => running(wanted, facts),
    }
}

fn running(wanted: WantedRun<'_>, facts: &RunningFacts) -> Vec<ServiceChange> {
    let Some(arguments) = &facts.arguments else { return vec![ServiceChange::Reexec] };
    let (Some(before), Some(after)) =
        (LineOptions::read(arguments), LineOptions::read(wanted.arguments))
    else {
        let why = "it was started with options that this version does not know".to_owned();
        return vec![ServiceChange::Restart { why, is_served: facts.ready > 0 }];
    };
    let options = before.differences(&after);
    let mut workers = options.iter().map(|option| effect(option)).max();
    let has_values = wanted.spec.policy.as_ref().is_some_and(|policy| !policy.values.is_empty());
    let reset = !facts.steered.is_empty() && !has_values;
    if reset || before.origin != after.origin {
        workers = workers.max(Some(OptionEffect::Supervisor));
    }
    let launch = launch_parts(wanted.spec, facts);
    let canary = canary_changes(wanted.spec, facts, &launch);
    let (mut steps, launch) = match canary {
        Some(steps) => (steps, Vec::new()),
        None => (Vec::new(), launch),
    };
    if workers == Some(OptionEffect::Fixed) {
        let fixed = options.iter().filter(|option| effect(option) == OptionEffect::Fixed);
        let fixed: Vec<&str> = fixed.map(String::as_str).collect();
        let why = format!("{} cannot change while it runs", fixed.join(", "));
        return vec![ServiceChange::Restart { why, is_served: facts.ready > 0 }];
    }
    let is_gone = unset(wanted.spec, facts);
    if workers.is_some() || is_gone {
        if facts.ready == 0 {
            let why = "none of its workers serves".to_owned();
            return vec![ServiceChange::Restart { why, is_served: false }];
        }
        if !facts.can_hand_over {
            let why = "its supervisor cannot be replaced (--via)".to_owned();
            return vec![ServiceChange::Restart { why, is_served: true }];
        }
        let launches = if launch.is_empty() { None } else { Some(OptionEffect::Workers) };
        let workers = workers.max(launches).unwrap_or(OptionEffect::Workers);
        let mut options = options;
        options.extend(launch.iter().map(ToString::to_string));
        if reset && !options.iter().any(|option| option == "policy") {
            options.push("policy".to_owned());
        }
        steps.push(ServiceChange::Reconfigure { options, workers });
    } else if !launch.is_empty() {
        steps.push(ServiceChange::Upgrade(launch));
    }
    if facts.copies != wanted.copies {
        steps.push(ServiceChange::Scale(facts.copies, wanted.copies));
    }
    if has_values && !is_steered(wanted.spec, facts) {
        steps.push(ServiceChange::Steer);
    }
    // A canary that is not written ends before anything else, one that is written begins after it.
    steps.sort_by_key(|step| match step {
        ServiceChange::RollBack | ServiceChange::Promote => 0,
        ServiceChange::StartCanary => 2,
        _ => 1,
    });
    steps
}

/// What the workers that serve have not from the file.
fn launch_parts(spec: &ServiceSpec, facts: &RunningFacts) -> Vec<LaunchPart> {
    let parts = [
        (LaunchPart::Command, !same_words(&facts.command, &spec.command)),
        (LaunchPart::Directory, facts.directory != spec.directory),
        (LaunchPart::Environment, !same_variables(&facts.environment, &spec.environment)),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
}

/// Whether a variable that is set for the workers is not in the file: an upgrade can only set some.
fn unset(spec: &ServiceSpec, facts: &RunningFacts) -> bool {
    let is_written = |name: &OsString| spec.environment.iter().any(|(it, _)| name == it.as_str());
    facts.environment.iter().any(|(name, _)| !is_written(name))
}

fn same_words(one: &[OsString], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one == other.as_str())
}

fn same_variables(one: &[(OsString, OsString)], other: &[(String, String)]) -> bool {
    let is_same = |(one, other): (&(OsString, OsString), &(String, String))| {
        one.0 == other.0.as_str() && one.1 == other.1.as_str()
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

/// The steps of a canary, if one is written or serves; then the launch of the service needs no other step.
/// `None`: the launch is compared as if there were none.
fn canary_changes(
    spec: &ServiceSpec,
    facts: &RunningFacts,
    launch: &[LaunchPart],
) -> Option<Vec<ServiceChange>> {
    let Some(canary) = &spec.canary else {
        let present = facts.canary.as_ref()?;
        return Some(match is_canary(present, &spec.command, &spec.directory) {
            true => vec![ServiceChange::Promote],
            false => vec![ServiceChange::RollBack],
        });
    };
    let (command, directory) = canary_launch(spec, canary);
    if let Some(present) = &facts.canary {
        return Some(
            match is_canary(present, command, directory) && present.share == canary.share {
                true => Vec::new(),
                false => vec![ServiceChange::RollBack, ServiceChange::StartCanary],
            },
        );
    }
    let has_own = canary.command.is_some() || canary.directory.is_some();
    if !has_own && canary.environment.is_empty() {
        // A new version of the service itself begins as the canary.
        return (!launch.is_empty()).then(|| vec![ServiceChange::StartCanary]);
    }
    let is_promoted = same_words(&facts.command, command)
        && facts.directory == *directory
        && same_variables(&facts.environment, &canary_environment(spec, canary));
    match is_promoted {
        true => Some(Vec::new()),
        // The service changes first, beside it.
        false => launch.is_empty().then(|| vec![ServiceChange::StartCanary]),
    }
}

/// The variables of the canary of a service, each name once, sorted.
#[must_use]
pub fn canary_environment(spec: &ServiceSpec, canary: &CanarySpec) -> Vec<(String, String)> {
    let is_own = |name: &String| canary.environment.iter().any(|(it, _)| it == name);
    let of_service = spec.environment.iter().filter(|(name, _)| !is_own(name));
    let mut all: Vec<_> = of_service.chain(&canary.environment).cloned().collect();
    all.sort();
    all
}

/// Program and directory of the canary of a service.
#[must_use]
pub fn canary_launch<'a>(
    spec: &'a ServiceSpec,
    canary: &'a CanarySpec,
) -> (&'a [String], &'a Path) {
    let command = canary.command.as_ref().unwrap_or(&spec.command);
    (command, canary.directory.as_ref().unwrap_or(&spec.directory))
}

fn is_canary(present: &CanaryFacts, command: &[String], directory: &Path) -> bool {
    same_words(&present.command, command) && present.directory == directory
}

/// Whether every port has the rules that are written.
fn is_steered(spec: &ServiceSpec, facts: &RunningFacts) -> bool {
    let Some(policy) = &spec.policy else { return true };
    let has = |rules: &Option<TrafficRules>| {
        rules.as_ref().is_some_and(|rules| rules.values == policy.values)
    };
    !facts.steered.is_empty() && facts.steered.iter().all(has)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
