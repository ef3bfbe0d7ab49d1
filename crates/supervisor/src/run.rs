//! Checks a plan, selects its interposer, and runs the workers.

use std::path::Path;

use sameport_policy::sandbox::SandboxedCall;
use sameport_sys::run_files::{NameClaim, folders};
use sameport_sys::seccomp::refused_calls;

use crate::bind_options::{BindOptions, OptionUsage};
use crate::conflict::is_local;
use crate::error::RunError;
use crate::event::RunEvent;
use crate::interpose;
use crate::orphans::Orphans;
use crate::output::OutputPipes;
use crate::plan::{InterposerChoice, InterposerKind, NamedOptions, RunBegin, RunPlan};
use crate::pool::inherited;
use crate::pool::inherited::{InheritOptions, InheritedSocket};
use crate::traffic::{RunTraffic, extended};
use crate::{private_group, start};

/// Runs the workers to their end, and gives the exit code: that of the workers, 128 + n for signal n.
/// `tell` gets the events as they happen.
///
/// # Errors
///
/// See [`RunError`]. No process is left.
pub fn run(plan: &RunPlan, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
    check_sandbox()?;
    let stops = |named: &NamedOptions| matches!(named.begin, RunBegin::Stop { .. });
    let stops = plan.named.as_ref().is_some_and(stops);
    let resumes = plan.named.as_ref().is_some_and(|named| named.handover_fd().is_some());
    if !resumes && !stops {
        check_addresses(&plan.bind_options)?;
        private_group::check(plan)?;
    }
    if !resumes && !stops {
        RunTraffic::of(plan)?;
        extended::remove_stale();
    }
    if !stops {
        OutputPipes::check(&plan.output)?;
    }
    let mut orphans = match &plan.named {
        Some(named) if !resumes => Orphans::find(plan, named)?,
        _ => None,
    };
    if let Some(named) = &plan.named
        && stops
        && orphans.is_none()
    {
        // Nothing is left but the files, which go with the claim.
        let runtime_dir = plan.environment.runtime_dir.as_deref().map(Path::new);
        let claim = NameClaim::take(&named.name, &folders(runtime_dir));
        return claim.map(|_| 0).map_err(RunError::ClaimName);
    }
    let activation = &plan.environment.activation;
    let inherited = match &plan.named {
        // The program before `exec` took them.
        Some(_) if resumes || stops => Ok(Vec::new()),
        Some(named) => {
            let options = InheritOptions::of(plan);
            let orphaned = orphans.as_mut().map(|orphans| &mut orphans.sockets[..]);
            inherited::gather(named, activation, options, orphaned.unwrap_or_default())
        }
        None => inherited::refuse(activation).map(|()| Vec::new()),
    };
    let usage = OptionUsage::none_of(&plan.bind_options);
    let mut attempt = Attempt {
        plan,
        usage: &usage,
        inherited: inherited.map_err(RunError::Inherit)?,
        orphans,
        skipped: Vec::new(),
        tell,
    };
    let code = match plan.interposer {
        InterposerChoice::Only(kind) => attempt.run(kind)?,
        // Only seccomp can drop privileges, set the owner of sockets, and answer workers that run.
        InterposerChoice::Auto
            if plan.seccomp.give_up_privileges || plan.scope.private || resumes =>
        {
            attempt.run(InterposerKind::Seccomp)?
        }
        InterposerChoice::Auto => attempt.run_first()?,
    };
    for unused in usage.unused(&plan.bind_options) {
        tell(RunEvent::Unused(unused));
    }
    Ok(code)
}

/// Checks what [`run`] checks before it starts a worker, except what a run that serves already has.
///
/// # Errors
///
/// See [`RunError`].
pub fn check(plan: &RunPlan) -> Result<(), RunError> {
    check_addresses(&plan.bind_options)?;
    RunTraffic::of(plan)?;
    match plan.interposer {
        InterposerChoice::Only(kind) => RunTraffic::of(plan)?.check_interposer(plan, kind),
        InterposerChoice::Auto => Ok(()),
    }
}

/// The search for an interposer that works here.
struct Attempt<'a> {
    plan: &'a RunPlan,
    usage: &'a OptionUsage,
    inherited: Vec<InheritedSocket>,
    orphans: Option<Orphans>,
    /// The interposers that do not work, with their reasons.
    skipped: Vec<(InterposerKind, RunError)>,
    tell: &'a mut dyn FnMut(RunEvent),
}

impl Attempt<'_> {
    /// Runs with the first interposer that works here.
    fn run_first(&mut self) -> Result<u8, RunError> {
        for kind in [InterposerKind::Seccomp, InterposerKind::Preload, InterposerKind::Cgroup] {
            match self.run(kind) {
                Err(error) if error.is_obstacle() => self.skipped.push((kind, error)),
                result => return result,
            }
        }
        Err(RunError::NoInterposer(std::mem::take(&mut self.skipped)))
    }

    fn run(&mut self, kind: InterposerKind) -> Result<u8, RunError> {
        RunTraffic::of(self.plan)
            .unwrap_or_else(|_| RunTraffic::without_rules(self.plan))
            .check_interposer(self.plan, kind)?;
        let interposer = interpose::create(kind, self.plan, self.usage.clone())?;
        let taken_over = self.orphans.as_ref().map(Orphans::pids).unwrap_or_default();
        let started = start::StartedRun::start(
            self.plan,
            interposer,
            &mut self.inherited,
            &mut self.orphans,
        )?;
        // Events begin after the start: the caller may report them on a thread, which must not have the
        // signal mask from before.
        (self.tell)(RunEvent::Begun { taken_over });
        let lost = refused_calls().among(&[SandboxedCall::NetlinkSocket]);
        if !lost.is_empty() {
            (self.tell)(RunEvent::Sandboxed(lost));
        }
        let skipped = std::mem::take(&mut self.skipped);
        if !skipped.is_empty() {
            (self.tell)(RunEvent::InterposerSelected { interposer: kind, skipped });
        }
        started.supervise(self.plan.environment.runtime_dir.clone(), self.tell)
    }
}

/// Finds the calls that an inherited filter refuses, before one of them ends this process.
fn check_sandbox() -> Result<(), RunError> {
    let needed = refused_calls().among(SandboxedCall::OF_EVERY_RUN);
    if needed.is_empty() { Ok(()) } else { Err(RunError::Sandboxed(needed)) }
}

/// Checks the addresses of map rules and of `--source`: a wrong one would fail later, at each bind.
fn check_addresses(options: &BindOptions) -> Result<(), RunError> {
    if options.transparent {
        let rights = sameport_sys::process::thread_rights(std::process::id().cast_signed());
        return match rights.is_some_and(|rights| rights.bind_nonlocal) {
            true => Ok(()),
            false => Err(RunError::TransparentNotPermitted),
        };
    }
    let targets = options.rules.iter().filter_map(|rule| rule.to.ip).filter(|_| !options.freebind);
    let source = options.source.map(|source| source.ip());
    match targets.chain(source).find(|ip| !is_local(*ip)) {
        Some(ip) => Err(RunError::NotLocal(ip)),
        None => Ok(()),
    }
}
