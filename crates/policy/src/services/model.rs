//! The services of a file, checked: everything that `up` needs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::name::RunName;
use crate::traffic::model::{CanaryShare, MemberValue, TrafficPolicy};

/// Variables that change what the supervisor itself does. They are written into its command line with
/// their values, so that only the workers get them.
pub(crate) const OF_THE_SUPERVISOR: [&str; 12] = [
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOGS_DIRECTORY",
    "NO_COLOR",
    "RUNTIME_DIRECTORY",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// A file of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// The file, an absolute path.
    pub path: PathBuf,
    /// The services, in the order of the file. Their names differ.
    pub services: Vec<ServiceSpec>,
}

/// One service: a named run as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The name of the run.
    pub name: RunName,
    /// The line of the file that names it, from 1.
    pub line: usize,
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// `workers`.
    pub workers: WorkerCount,
    /// The working directory of the workers, an absolute path: `directory`, by default that of the file.
    pub directory: PathBuf,
    /// The variables of `env` and `env-file`, without references, each name once, sorted.
    pub environment: Vec<(String, String)>,
    /// `policy`; `None`: the default of `run`.
    pub policy: Option<ServicePolicy>,
    /// `canary`.
    pub canary: Option<CanarySpec>,
    /// The other keys that are options of `run`, in the order of the table of keys. Those that say what holds
    /// by default are not in it.
    pub options: Vec<ServiceOption>,
}

/// `workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCount {
    /// One for each processor that the supervisor may use.
    Auto,
    /// From 1 to 1024.
    Number(u16),
}

impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A policy as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteeringPolicy {
    /// The best one of this machine.
    Auto,
    /// This one.
    Only(TrafficPolicy),
}

impl fmt::Display for SteeringPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(policy) => f.write_str(policy.name()),
        }
    }
}

/// `policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePolicy {
    /// The policy.
    pub policy: SteeringPolicy,
    /// Weights or ranks of members, as `sameport steer` takes them; empty for most policies.
    pub values: Vec<MemberValue>,
}

/// `canary`: workers of another command beside those of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanarySpec {
    /// The share of new connections.
    pub share: CanaryShare,
    /// The time after which it is promoted; `None`: `sameport upgrade --promote` decides.
    pub after: Option<Duration>,
    /// Its program and arguments; `None`: those of the service.
    pub command: Option<Vec<String>>,
    /// Its directory, an absolute path; `None`: that of the service.
    pub directory: Option<PathBuf>,
    /// Variables that differ from those of the service, without references, sorted.
    pub environment: Vec<(String, String)>,
}

/// A key that is an option of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceOption {
    /// The name of the option without dashes: `ready-timeout`.
    pub option: &'static str,
    /// Its values as the command line takes them; none for a switch.
    pub values: Vec<String>,
}

impl ServiceSpec {
    /// The arguments of `sameport` that start the service in the foreground: `run --name web … -- COMMAND`.
    ///
    /// A variable is named without its value, which [`environment`](Self::environment) has and the process must get: a
    /// command line can be read by every user.
    #[must_use]
    pub fn run_arguments(&self) -> Vec<OsString> {
        self.arguments(&|name| OF_THE_SUPERVISOR.contains(&name))
    }

    /// [`run_arguments`](Self::run_arguments) with the value of every variable, to be parsed in another environment.
    #[must_use]
    pub fn whole_arguments(&self) -> Vec<OsString> {
        self.arguments(&|_| true)
    }

    fn arguments(&self, has_value: &dyn Fn(&str) -> bool) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["run".into()];
        let mut add = |option: &str, value: &str| {
            words.push(format!("--{option}").into());
            if !value.is_empty() {
                words.push(value.into());
            }
        };
        add("name", self.name.as_str());
        for ServiceOption { option, values } in &self.options {
            match values.is_empty() {
                true => add(option, ""),
                false => values.iter().for_each(|value| add(option, value)),
            }
        }
        if let Some(ServicePolicy { policy, .. }) = &self.policy {
            add("policy", &policy.to_string());
        }
        for (name, value) in &self.environment {
            match has_value(name) {
                true => add("env", &format!("{name}={value}")),
                false => add("env", name),
            }
        }
        words.extend(["-n".into(), self.workers.to_string().into()]);
        words.extend(["--directory".into(), self.directory.clone().into_os_string()]);
        words.push("--".into());
        words.extend(self.command.iter().map(OsString::from));
        words
    }

    /// The variables that the process of [`run_arguments`](Self::run_arguments) gets in addition to those of its caller.
    pub fn process_environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        variables.filter(|(name, _)| !OF_THE_SUPERVISOR.contains(name))
    }

    /// The values of an option of `run`, if the service has it.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&[String]> {
        let found = self.options.iter().find(|it| it.option == name)?;
        Some(&found.values)
    }
}
