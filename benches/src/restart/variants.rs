//! The ways to restart workers: a script, proxies, sameport.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fleet::{Fleet, RestartOrder, Script};
use super::held::HeldFleet;
use super::proxies::{Proxied, ProxyKind};
use super::servers::Program;
use super::stress::Scenario;
use crate::error::BenchError;
use crate::harness::find_program;
use crate::harness::set;

/// A way to restart workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// A script that stops a worker, then starts the next; `SO_REUSEPORT`
    Naive,
    /// The same, but starts the next worker first
    Overlap,
    /// The same with the kernel's `tcp_migrate_req`
    Migrate,
    /// haproxy in front, reloaded
    Haproxy,
    /// nginx in front, reloaded
    Nginx,
    /// `sameport run --name`
    Held,
    /// `sameport run --name --queue shared`
    Shared,
}

impl Variant {
    pub(crate) const ALL: [Self; 7] = [
        Self::Naive,
        Self::Overlap,
        Self::Migrate,
        Self::Haproxy,
        Self::Nginx,
        Self::Held,
        Self::Shared,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Overlap => "overlap",
            Self::Migrate => "migrate",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Held => "held",
            Self::Shared => "shared",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Held | Self::Shared)
    }

    /// The reason why it is not measured, if any.
    pub(crate) fn lacks(
        self,
        means: &Means,
        program: &Program,
        scenario: Scenario,
    ) -> Option<String> {
        if scenario.needs_sameport() && !self.is_ours() {
            return Some("it has no such verb".to_owned());
        }
        let without = |option| {
            (!means.help.contains(option)).then(|| format!("this `sameport run` has no {option}"))
        };
        match self {
            Self::Naive | Self::Overlap | Self::Migrate if !program.shares() => {
                Some(format!("this {} cannot set SO_REUSEPORT", program.server.name()))
            }
            Self::Overlap if matches!(scenario, Scenario::Kill | Scenario::Down) => {
                Some("it is as naive there".to_owned())
            }
            Self::Naive | Self::Overlap | Self::Migrate => None,
            Self::Haproxy | Self::Nginx => {
                find_program(self.name()).is_none().then(|| "it is not here".to_owned())
            }
            Self::Held => without("--name"),
            Self::Shared => without("--name").or_else(|| without("--queue")),
        }
    }

    pub(crate) fn start<'a>(
        self,
        means: &'a Means,
        program: &'a Program,
        copies: u16,
    ) -> Result<Box<dyn Fleet + 'a>, BenchError> {
        let script = |order| Script::start(program, order, copies);
        let proxied = |kind| {
            let proxy = find_program(self.name()).ok_or("it is not here")?;
            Proxied::start(kind, &proxy, program, copies)
        };
        let held = |options: &[&str]| HeldFleet::start(&means.sameport, options, program, copies);
        Ok(match self {
            Self::Naive => Box::new(script(RestartOrder::StopThenStart)?),
            Self::Overlap | Self::Migrate => Box::new(script(RestartOrder::StartThenStop)?),
            Self::Haproxy => Box::new(proxied(ProxyKind::Haproxy)?),
            Self::Nginx => Box::new(proxied(ProxyKind::Nginx)?),
            Self::Held => Box::new(held(&[])?),
            Self::Shared => Box::new(held(&["--queue", "shared"])?),
        })
    }

    /// Sets the sysctl of the variant.
    pub(crate) fn prepare(self) -> Result<(), BenchError> {
        let migrate = if self == Self::Migrate { "1" } else { "0" };
        set("net/ipv4/tcp_migrate_req", migrate)
    }
}

/// `sameport` and the interposers that work.
pub(crate) struct Means {
    sameport: PathBuf,
    help: String,
}

impl Means {
    pub(crate) fn sameport(&self) -> &Path {
        &self.sameport
    }

    /// Whether the help of `run` contains this text.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.help.contains(option)
    }

    pub(crate) fn of(sameport: &Path) -> Result<Self, BenchError> {
        let output = Command::new(sameport).args(["run", "--help"]).output();
        let output = output.map_err(|error| format!("{}: {error}", sameport.display()))?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self { sameport: sameport.to_owned(), help })
    }
}
