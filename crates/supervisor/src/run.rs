//! Checks a plan, selects its interposer, and runs the workers.

use crate::bind_options::{BindOptions, OptionUsage};
use crate::conflict::is_local;
use crate::error::RunError;
use crate::event::RunEvent;
use crate::interpose;
use crate::plan::{InterposerChoice, InterposerKind, RunPlan};
use crate::pool::inherited;
use crate::pool::inherited::InheritedSocket;
use crate::{private_group, start};

/// Runs the workers to their end and gives the exit code. `tell` hears of events as they happen.
pub fn run(plan: &RunPlan, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
    let goes_on = plan.named.as_ref().is_some_and(|named| named.handover_fd.is_some());
    if !goes_on {
        refuse_what_cannot_be_had(&plan.bind_options)?;
        private_group::check(plan)?;
    }
    let activation = &plan.environment.activation;
    let given = match &plan.named {
        // What was passed on has been taken already.
        Some(_) if goes_on => Ok(Vec::new()),
        Some(named) => inherited::gather(named, activation, plan.owner()),
        None => inherited::refuse(activation).map(|()| Vec::new()),
    };
    let mut given = given.map_err(RunError::Inherit)?;
    let used = OptionUsage::nothing_of(&plan.bind_options);
    let code = match plan.interposer {
        InterposerChoice::Only(via) => {
            run_via(via, plan, &used, &mut given, Vec::new(), tell).map_err(|failed| failed.0)?
        }
        // Only seccomp can give privileges or sockets up, and go on with workers of its own.
        InterposerChoice::Auto if plan.give_up_privileges || plan.private || goes_on => {
            run_via(InterposerKind::Seccomp, plan, &used, &mut given, Vec::new(), tell)
                .map_err(|failed| failed.0)?
        }
        InterposerChoice::Auto => run_via_first(plan, &used, &mut given, tell)?,
    };
    used.unused(&plan.bind_options).into_iter().for_each(|unused| tell(RunEvent::Unused(unused)));
    Ok(code)
}

/// Takes the first interposer that can.
fn run_via_first(
    plan: &RunPlan,
    used: &OptionUsage,
    given: &mut Vec<InheritedSocket>,
    tell: &mut dyn FnMut(RunEvent),
) -> Result<u8, RunError> {
    let mut passed = Vec::new();
    for via in [InterposerKind::Seccomp, InterposerKind::Preload, InterposerKind::Cgroup] {
        match run_via(via, plan, used, given, passed, tell) {
            Err((error, before)) if error.is_obstacle() => {
                passed = before;
                passed.push((via, error));
            }
            done => return done.map_err(|failed| failed.0),
        }
    }
    Err(RunError::NoInterposer(passed))
}

/// Runs by this interposer, after others have been passed; gives those back if it cannot either.
fn run_via(
    via: InterposerKind,
    plan: &RunPlan,
    used: &OptionUsage,
    given: &mut Vec<InheritedSocket>,
    passed: Vec<(InterposerKind, RunError)>,
    tell: &mut dyn FnMut(RunEvent),
) -> Result<u8, (RunError, Vec<(InterposerKind, RunError)>)> {
    let interposer = match interpose::create(via, plan, used.clone()) {
        Ok(interposer) => interposer,
        Err(error) => return Err((error, passed)),
    };
    match start::StartedRun::start(plan, interposer, given) {
        Err(error) => Err((error, passed)),
        Ok(started) => {
            if !passed.is_empty() {
                tell(RunEvent::InterposerSelected { interposer: via, skipped: passed });
            }
            started.supervise(tell).map_err(|error| (error, Vec::new()))
        }
    }
}

/// Addresses that this machine does not have would fail later, at each bind.
fn refuse_what_cannot_be_had(wishes: &BindOptions) -> Result<(), RunError> {
    if wishes.transparent {
        let rights = sameport_sys::process::thread_rights(std::process::id().cast_signed());
        return match rights.is_some_and(|rights| rights.bind_nonlocal) {
            true => Ok(()),
            false => Err(RunError::TransparentNotPermitted),
        };
    }
    let targets = wishes.rules.iter().filter_map(|rule| rule.to.ip);
    let source = wishes.source.map(|source| source.ip());
    match targets.chain(source).find(|ip| !is_local(*ip)) {
        Some(ip) => Err(RunError::NotLocal(ip)),
        None => Ok(()),
    }
}
