//! The output of `install-service`.

use std::fmt::Write as _;
use std::path::Path;

use sameport_policy::service_unit::UnitScope;
use sameport_sys::systemd::unit_files::Changer;
use sameport_sys::users::user_name;
use similar::TextDiff;

use super::text::{printable, quotable};
use crate::error::Failure;
use crate::operations::install_service::{Doubt, PlannedFile, Removal, ServicePlan};

/// The files as `systemctl cat` prints them; of one that exists, the difference. With `whole`: without a
/// comparison.
pub(crate) fn files(plan: &ServicePlan, whole: bool) -> String {
    let mut text = String::new();
    // The unit before its drop-in, as the manager reads them.
    for file in plan.files.iter().rev() {
        let path = path(&file.path);
        match (&file.text, &file.old) {
            (Some(new), Some(old)) if !whole && file.changes() => {
                let difference = TextDiff::from_lines(old.as_str(), new);
                let difference =
                    difference.unified_diff().header(&path, &format!("{path} (new)")).to_string();
                push_lines(&mut text, &difference);
            }
            (Some(_), Some(_)) if !whole => {}
            (Some(new), _) => {
                let _ = writeln!(text, "# {path}");
                push_lines(&mut text, new);
            }
            (None, _) => {
                let _ = writeln!(text, "# {path}: is removed");
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// A file may contain what others wrote, so control characters are escaped.
fn push_lines(text: &mut String, lines: &str) {
    for line in lines.lines() {
        text.push_str(&printable(line));
        text.push('\n');
    }
}

fn path(path: &Path) -> String {
    quotable(&path.to_string_lossy())
}

/// The question before a change.
pub(crate) fn question(plan: &ServicePlan) -> String {
    let replaces = plan.files.iter().any(|file| file.old.is_some() && file.changes());
    format!("{} {}.service? [y/N]", if replaces { "replace" } else { "write" }, plan.name)
}

/// There was no answer, or it was no.
pub(crate) fn not_confirmed(what: &str) -> Failure {
    Failure::failed("nothing was changed: it was not confirmed")
        .hint(format!("--yes {what} without asking"))
}

/// One warning for each doubt.
pub(crate) fn doubts(plan: &ServicePlan) -> Vec<String> {
    let refuses = plan.changes_user.then(|| {
        format!(
            "warning: {} gets another user, which cannot share the sockets of the present one: connections are \
             refused between its stop and its start",
            plan.name
        )
    });
    refuses.into_iter().chain(plan.doubts.iter().map(doubt)).collect()
}

fn doubt(doubt: &Doubt) -> String {
    match doubt {
        Doubt::Changeable(file, changer) => {
            let who = match changer {
                Changer::User(uid) => user_name(*uid).unwrap_or_else(|| format!("user {uid}")),
                Changer::Others => "a group or every user".to_owned(),
            };
            format!("warning: the service executes {}, which {who} can replace", path(file))
        }
        Doubt::Temporary(file) => {
            format!("warning: {} may be gone after a reboot", path(file))
        }
        Doubt::Closed(file, user) => {
            format!("warning: {user} may not enter or execute {}, by its mode", path(file))
        }
        Doubt::NoVariables(file) => {
            format!(
                "warning: there is no {}, and the service does not start without it",
                path(file)
            )
        }
        Doubt::Root => {
            "hint: the workers run as root: `--user USER` runs the service as another user"
                .to_owned()
        }
        Doubt::SearchPath(file) => format!(
            "hint: {} is not in the PATH of services: a program that it starts may need `--env PATH`",
            path(file)
        ),
        Doubt::NeedsLinger => {
            "hint: it starts at your first login; `loginctl enable-linger` starts it at boot"
                .to_owned()
        }
    }
}

/// What was written.
pub(crate) fn written(plan: &ServicePlan) -> Vec<String> {
    let changed = plan.files.iter().rev().filter(|file| file.changes());
    let line = |file: &PlannedFile| {
        let what = if file.text.is_some() { "written" } else { "removed" };
        format!("{what}: {}", path(&file.path))
    };
    let lines: Vec<_> = changed.map(line).collect();
    if lines.is_empty() {
        return vec![format!("{}.service is written so already", plan.name)];
    }
    lines
}

/// The commands that come next.
pub(crate) fn next_step(plan: &ServicePlan) -> String {
    let systemctl = match plan.scope {
        UnitScope::System => "systemctl",
        UnitScope::User => "systemctl --user",
    };
    let name = &plan.name;
    let next = match (plan.is_active, plan.changes_user) {
        (_, true) => format!("stop {name} && {systemctl} start"),
        (true, false) => "restart".to_owned(),
        (false, false) => "enable --now".to_owned(),
    };
    format!("next: {systemctl} daemon-reload && {systemctl} {next} {name}")
}

/// The service runs.
pub(crate) fn started(plan: &ServicePlan) -> String {
    format!("{}.service runs, and starts at each boot", plan.name)
}

/// The files that `--remove` removes.
pub(crate) fn files_to_remove(removal: &Removal) -> Vec<String> {
    let stops = removal.stops.then(|| format!("stops and disables {}.service", removal.name));
    let files = removal.files.iter().map(|file| format!("removes {}", path(file)));
    stops.into_iter().chain(files).collect()
}

/// The end of `--remove`.
pub(crate) fn removed(removal: &Removal) -> String {
    format!("{}.service is removed", removal.name)
}
