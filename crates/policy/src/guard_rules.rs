//! The rules of a guard that lets some processes bind and refuses others.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::guard::{AllowRule, AllowSpec, Binder, Guard, is_below_unit};
use crate::holder::{Manager, unit_of};
use crate::interpreter::runs_arguments;
use sameport_addr::Protocol;

/// The most executables in one guard.
const MOST_EXECUTABLES: usize = 4;

/// A process that must stay able to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBinder {
    /// The properties that a guard compares.
    pub binder: Binder,
    /// The path of its executable; `None` if it is unknown or deleted.
    pub executable: Option<PathBuf>,
}

impl KeptBinder {
    /// A process with this executable as `/proc/PID/exe` names it: the kernel appends " (deleted)" to the name of
    /// a replaced file.
    #[must_use]
    pub fn new(binder: Binder, executable: Option<PathBuf>) -> Self {
        let is_there = |path: &PathBuf| !path.to_string_lossy().ends_with(" (deleted)");
        Self { binder, executable: executable.filter(is_there) }
    }
}

/// The `--allow` arguments by which a guard lets every process of `kept` bind and none of `refused`: by the
/// most specific property, a unit, executables, a user or a cgroup. `None` if no property distinguishes
/// them.
#[must_use]
pub fn distinguish(kept: &[KeptBinder], refused: &[Binder]) -> Option<Vec<AllowSpec>> {
    let candidates = [unit(kept), executables(kept), user(kept), cgroup(kept)];
    candidates.into_iter().flatten().find_map(|candidate| {
        let (specs, allow) = candidate.into_iter().unzip();
        let guard =
            Guard { netns_cookie: 0, port: 0, protocol: Protocol::Tcp, report_only: false, allow };
        let keeps = kept.iter().all(|it| guard.allows(&it.binder));
        let refuses = !refused.iter().any(|it| guard.allows(it));
        (keeps && refuses && !kept.is_empty()).then_some(specs)
    })
}

type RuleCandidate = Option<Vec<(AllowSpec, AllowRule)>>;

/// The unit that contains them all. Only units of the machine: a guard does not know those of a user.
fn unit(kept: &[KeptBinder]) -> RuleCandidate {
    let cgroup = kept.first()?.binder.cgroup.as_deref()?;
    let unit = unit_of(cgroup).filter(|unit| unit.manager == Manager::System)?;
    let end = cgroup.find(&format!("/{}", unit.name))? + 1 + unit.name.len();
    let path = cgroup.get(..end)?;
    (!is_below_unit(path))
        .then(|| vec![(AllowSpec::Unit(unit.name), AllowRule::Cgroup(path.to_owned()))])
}

/// Their executables, unless one executes its arguments.
fn executables(kept: &[KeptBinder]) -> RuleCandidate {
    let mut paths = BTreeSet::new();
    let mut rules = Vec::new();
    for it in kept {
        let path = it.executable.as_ref().filter(|path| !runs_arguments(path))?;
        let text = path.to_str()?;
        let rule = AllowRule::Executable(Some(it.binder.executable?));
        if paths.insert(text) {
            rules.push((AllowSpec::Executable(text.to_owned()), rule));
        }
    }
    (rules.len() <= MOST_EXECUTABLES).then_some(rules)
}

fn user(kept: &[KeptBinder]) -> RuleCandidate {
    let uid = kept.first()?.binder.uid;
    Some(vec![(AllowSpec::User(uid.to_string()), AllowRule::User(uid))])
}

fn cgroup(kept: &[KeptBinder]) -> RuleCandidate {
    let path = kept.first()?.binder.cgroup.clone()?;
    (path != "/").then(|| vec![(AllowSpec::Cgroup(path.clone()), AllowRule::Cgroup(path))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::FileId;

    fn binder(uid: u32, cgroup: &str, file: u64) -> Binder {
        let executable = Some(FileId { device: 1, inode: file, generation: None });
        Binder { uid, cgroup: Some(cgroup.to_owned()), executable }
    }

    fn kept(uid: u32, cgroup: &str, path: &str) -> KeptBinder {
        let file = u64::try_from(path.len()).unwrap();
        KeptBinder { binder: binder(uid, cgroup, file), executable: Some(path.into()) }
    }

    #[test]
    fn the_most_specific_property_that_keeps_all_and_refuses_the_others() {
        let session = "/user.slice/user-1000.slice/session-3.scope";
        let service = "/system.slice/api.service";
        let of_user = "/user.slice/user-1000.slice/user@1000.service/app.slice/api.service";
        let stranger = binder(1000, session, 1);
        let nginx = kept(1000, session, "/usr/sbin/nginx");
        let script = kept(1000, session, "/usr/bin/python3");
        type Case<'a> = (Vec<KeptBinder>, &'a Binder, Option<&'a [&'a str]>);
        let cases: [Case<'_>; 10] = [
            (vec![kept(0, service, "/usr/bin/api")], &stranger, Some(&["unit=api.service"])),
            // A worker in a cgroup of its own, below the unit.
            (
                vec![
                    kept(0, service, "/usr/bin/python3"),
                    kept(33, &format!("{service}/worker"), "/usr/bin/api"),
                ],
                &stranger,
                Some(&["unit=api.service"]),
            ),
            // A unit of a user's manager is unknown to a guard.
            (vec![kept(1000, of_user, "/usr/bin/api")], &stranger, Some(&["exe=/usr/bin/api"])),
            (vec![nginx.clone()], &stranger, Some(&["exe=/usr/sbin/nginx"])),
            // A master of root and its workers.
            (
                vec![kept(0, session, "/usr/sbin/nginx"), kept(33, session, "/usr/sbin/nginx")],
                &stranger,
                Some(&["exe=/usr/sbin/nginx"]),
            ),
            (
                vec![nginx.clone(), kept(1000, session, "/usr/bin/helper")],
                &stranger,
                Some(&["exe=/usr/sbin/nginx", "exe=/usr/bin/helper"]),
            ),
            // An interpreter says nothing about its script.
            (vec![script.clone()], &stranger, None),
            (vec![script.clone()], &binder(1001, session, 1), Some(&["uid=1000"])),
            (
                vec![kept(1000, "/user.slice/api.scope", "/usr/bin/python3")],
                &stranger,
                Some(&["cgroup=/user.slice/api.scope"]),
            ),
            (vec![], &stranger, None),
        ];
        for (kept, refused, expected) in cases {
            let found = distinguish(&kept, std::slice::from_ref(refused));
            let found =
                found.map(|specs| specs.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected = expected.map(|specs| specs.iter().map(|it| (*it).to_owned()).collect());
            assert_eq!(found, expected, "{kept:?}");
        }
        // The stranger executes the same file.
        let copy = binder(1000, session, nginx.binder.executable.unwrap().inode);
        assert_eq!(distinguish(&[nginx], &[copy]), None);
    }
}
