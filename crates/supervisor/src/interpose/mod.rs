//! The interposers. `interposer` is the trait that each implements; [`create`] lists them. ARCHITECTURE.md
//! lists the other places that a new one needs.

mod cgroup;
mod interposer;
pub(crate) mod kept;
pub(crate) mod pending;
mod preload;
mod seccomp;

use sameport_policy::sandbox::SandboxedCall;
use sameport_sys::seccomp::refused_calls;

use crate::bind_options::OptionUsage;
use crate::error::RunError;
use crate::plan::{InterposerKind, RunPlan};
use cgroup::CgroupInterposer;
pub(crate) use interposer::{HandoverObstacle, Interposer};
use preload::PreloadInterposer;
use seccomp::SeccompInterposer;

/// Prepares an interposer, so that workers can be started.
pub(crate) fn create(
    kind: InterposerKind,
    plan: &RunPlan,
    usage: OptionUsage,
) -> Result<Box<dyn Interposer>, RunError> {
    let needed = match kind {
        InterposerKind::Seccomp => SandboxedCall::OF_SECCOMP,
        InterposerKind::Preload => &[],
        InterposerKind::Cgroup => &[SandboxedCall::Bpf],
    };
    let refused = refused_calls().among(needed);
    if !refused.is_empty() {
        return Err(RunError::Sandboxed(refused));
    }
    Ok(match kind {
        InterposerKind::Seccomp => Box::new(SeccompInterposer::new(plan, usage)?),
        InterposerKind::Preload => Box::new(PreloadInterposer::new(plan, usage)?),
        InterposerKind::Cgroup => Box::new(CgroupInterposer::new(plan, usage)?),
    })
}
