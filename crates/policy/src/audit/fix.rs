//! Chooses the fix of a finding.

use std::ffi::OsString;
use std::path::PathBuf;

use super::finding::Fix;
use super::port_view::{Participant, PortView};
use crate::guard::Binder;
use crate::guard_rules::{KeptBinder, distinguish};
use crate::holder::{Ending, Holder, HolderClass, binders, command, endings};
use crate::launch::working_directory;
use crate::membership::run_line::{RunLine, has_any_option, without_directory};
use crate::model::{Member, Process};

/// Options of `run` that `--private` excludes.
const EXCLUDED_BY_PRIVATE: [&str; 3] = ["--via", "--allow-io-uring", "--join"];

/// Restarts the service or the run, or ends a process that neither would start again.
pub(super) fn restart(view: &PortView<'_>, member: &Member) -> Fix {
    let holder = view.holder(member);
    match &holder.class {
        HolderClass::UnitProcess(unit) => Fix::Restart(unit.clone()),
        HolderClass::Run { of, supervisor: Some(_), uid } => Fix::RestartRun(of.name.clone(), *uid),
        _ => end(view, &holder, false),
    }
}

/// Ends the holder, by the program that started it where that would start it again.
fn end(view: &PortView<'_>, holder: &Holder, restrict_ptrace: bool) -> Fix {
    let steps = endings([holder], view.facts.caller);
    match steps.iter().all(|step| step.ending == Ending::AskRoot) {
        true => Fix::AuditAsRoot,
        false => Fix::End { steps, restrict_ptrace },
    }
}

/// Ends one of the processes that have the socket open.
pub(super) fn end_process(
    view: &PortView<'_>,
    member: &Member,
    process: &Process,
    restrict_ptrace: bool,
) -> Fix {
    let only = Member { processes: vec![process.clone()], ..member.clone() };
    end(view, &view.holder(&only), restrict_ptrace)
}

/// A guard that allows the owner and refuses the other, else a private group of the owner, else the end of
/// the other.
pub(super) fn guard(view: &PortView<'_>, owner: &Participant<'_>, other: &Participant<'_>) -> Fix {
    let allow = view.facts.can_guard.then(|| allow(view, owner, other)).flatten();
    if let Some(allow) = allow {
        return Fix::Guard { port: view.port, protocol: view.protocol, allow };
    }
    private(view, owner, other).unwrap_or_else(|| end(view, &view.holder(other.member), false))
}

/// The rules that keep every process of the owner that binds the port.
fn allow(
    view: &PortView<'_>,
    owner: &Participant<'_>,
    other: &Participant<'_>,
) -> Option<Vec<crate::guard::AllowSpec>> {
    let mut kept = Vec::new();
    for member in view.of_program(owner) {
        let holder = view.holder(member);
        for pid in binders(&holder, &view.facts.holders) {
            kept.push(KeptBinder::new(binder(view, pid)?, executable(view, &holder, pid)));
        }
    }
    let others: Vec<Holder> = view.of_program(other).map(|member| view.holder(member)).collect();
    let others = others.iter().flat_map(Holder::servers);
    let refused: Option<Vec<Binder>> = others.map(|process| binder(view, process.pid)).collect();
    distinguish(&kept, &refused?)
}

/// The path of the executable of a process.
fn executable(view: &PortView<'_>, holder: &Holder, pid: i32) -> Option<PathBuf> {
    let known = view.facts.holders.processes.get(&pid).map(|facts| &facts.process);
    let process = holder.servers().find(|process| process.pid == pid).or(known)?;
    process.details.as_ref()?.executable.clone()
}

fn binder(view: &PortView<'_>, pid: i32) -> Option<Binder> {
    view.facts.evidence.get(&pid)?.binder.clone()
}

/// The supervisor of the run of this holder.
fn supervisor_of<'a>(view: &'a PortView<'_>, holder: &Holder) -> Option<&'a Process> {
    let pid = holder.class.supervisor()?;
    view.facts.holders.processes.get(&pid).map(|facts| &facts.process)
}

fn words(process: &Process) -> &[String] {
    process.details.as_ref().map_or(&[], |details| &details.command)
}

/// Whether a `sameport run` has one of these options.
fn has_option(supervisor: &Process, options: &[&str]) -> bool {
    has_any_option(words(supervisor), options)
}

/// The owner's run, or its command in a run, with `--private`.
fn private(view: &PortView<'_>, owner: &Participant<'_>, other: &Participant<'_>) -> Option<Fix> {
    let holder = view.holder(owner.member);
    let after = endings([&view.holder(other.member), &holder], view.facts.caller);
    let process = holder.process.as_ref()?;
    let uid = process.details.as_ref().and_then(|details| details.uid);
    if let Some(supervisor) = supervisor_of(view, &holder) {
        if has_option(supervisor, &EXCLUDED_BY_PRIVATE) {
            return None;
        }
        let options = words(supervisor).get(2..).unwrap_or_default();
        let options = without_directory(options).into_iter().filter(|word| word != "--private");
        let command = ["run", "--private"].map(str::to_owned).into_iter();
        let command = Some(command.chain(options).collect());
        let directory = directory_of_run(supervisor);
        return Some(Fix::Private { command, directory, uid, after });
    }
    let started = command(process).map(|command| {
        let run = ["run", "--private", "--"].map(str::to_owned).into_iter();
        run.chain(command).collect()
    });
    match &holder.class {
        HolderClass::Program
        | HolderClass::Orphan
        | HolderClass::SupervisedChild { .. }
        | HolderClass::UnitProcess(_) => {
            let directory = directory(process);
            Some(Fix::Private { command: started, directory, uid, after })
        }
        _ => None,
    }
}

/// The working directory of a process; `None` also if it is removed.
fn directory(process: &Process) -> Option<PathBuf> {
    let directory = process.details.as_ref()?.directory.clone();
    directory.filter(|path| !path.to_string_lossy().ends_with(" (deleted)"))
}

/// The directory in which a run starts its command.
fn directory_of_run(supervisor: &Process) -> Option<PathBuf> {
    let words: Vec<OsString> = words(supervisor).iter().map(OsString::from).collect();
    let own = directory(supervisor);
    working_directory(own.as_deref(), RunLine::read(&words)?.directory.as_deref())
}

/// Reserves a port that the kernel assigned; ends a process that chose the port itself.
pub(super) fn reserve_or_end(view: &PortView<'_>, member: &Member) -> Fix {
    let kernel = &view.facts.kernel;
    if kernel.ephemeral_ports.contains(&view.port) {
        let already_reserved = kernel.reserved_ports.clone();
        return Fix::Reserve { port: view.port, already_reserved };
    }
    end(view, &view.holder(member), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::audit;
    use crate::audit::fixtures::{PortFixture, ProcessFixture, api, process, stranger, tcp};
    use crate::guard::FileId;
    use crate::holder::ProcessFacts;

    const AT: &str = "0.0.0.0:80";

    fn fix_of(port: &PortFixture) -> Fix {
        without_steps(audit(&port.facts).remove(0).fix)
    }

    fn fix(owner: &ProcessFixture, other: &ProcessFixture, uid: u32) -> Fix {
        let at = tcp(AT);
        fix_of(&PortFixture::default().with(at.clone(), &[owner]).of(uid, at, &[other]))
    }

    fn allowed(specs: &[&str]) -> Fix {
        let allow = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        Fix::Guard { port: 80, protocol: crate::model::Protocol::Tcp, allow }
    }

    fn run(words: &[&str], uid: u32) -> Fix {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        Fix::Private {
            command: Some(command),
            directory: Some("/home/user".into()),
            uid: Some(uid),
            after: vec![],
        }
    }

    fn in_directory(fix: Fix, directory: &str) -> Fix {
        match fix {
            Fix::Private { command, uid, after, .. } => {
                Fix::Private { command, directory: Some(directory.into()), uid, after }
            }
            fix => fix,
        }
    }

    /// Without the steps, which `holder` tests.
    fn without_steps(fix: Fix) -> Fix {
        match fix {
            Fix::Private { command, directory, uid, .. } => {
                Fix::Private { command, directory, uid, after: vec![] }
            }
            Fix::End { .. } => Fix::End { steps: vec![], restrict_ptrace: false },
            fix => fix,
        }
    }

    #[test]
    fn a_guard_uses_the_property_that_differs() {
        let native = process(100, "/usr/bin/server", &[]);
        let script = process(100, "/usr/bin/python3.11", &["/srv/api.py"]);
        let in_scope = script.clone().in_cgroup("/user.slice/api.scope");
        let private = run(&["run", "--private", "--", "/usr/bin/python3.11", "/srv/api.py"], 1000);
        let cases = [
            (&api(), stranger(), allowed(&["unit=api.service"])),
            (&native, stranger(), allowed(&["exe=/usr/bin/server"])),
            (&script, stranger().of_user(1001), allowed(&["uid=1000"])),
            (&in_scope, stranger(), allowed(&["cgroup=/user.slice/api.scope"])),
            (&script, stranger(), private),
        ];
        for (owner, other, expected) in cases {
            let uid = other.process.details.as_ref().and_then(|it| it.uid).unwrap();
            assert_eq!(fix(owner, &other, uid), expected);
        }
    }

    /// A worker under the supervisor of a run.
    fn in_run(port: PortFixture, options: &[&str], worker: &ProcessFixture) -> PortFixture {
        let words = [&["run"], options, &["--"], &["/usr/bin/node", "app.js"]].concat();
        let supervisor = process(50, "/usr/bin/sameport", &words);
        // Only the supervisor of a named run keeps the socket open.
        let both = [worker, &supervisor];
        let holders = if options.contains(&"--name") { &both[..] } else { &both[..1] };
        let mut port = port.with(tcp(AT), holders);
        let evidence = port.facts.evidence.get(&worker.process.pid).cloned();
        let mut of_supervisor = evidence.unwrap_or_default();
        if let Some(binder) = &mut of_supervisor.binder {
            binder.executable = Some(FileId { device: 1, inode: 50, generation: None });
        }
        port.facts.evidence.insert(50, of_supervisor);
        let facts = |fixture: &ProcessFixture, is_sameport| ProcessFacts {
            is_sameport,
            worker: Some(1),
            ..ProcessFacts::new(fixture.process.clone())
        };
        port.facts.holders.processes.insert(50, facts(&supervisor, true));
        port.facts.holders.processes.insert(worker.process.pid, facts(worker, false));
        port
    }

    #[test]
    fn a_fix_names_the_command_of_a_run() {
        let node = process(100, "/usr/bin/node", &["app.js"]).below(&[50, 1]);
        let native = process(100, "/usr/bin/server", &[]).below(&[50, 1]);
        let named = ["--name", "web"];
        let cases: [(&[&str], &ProcessFixture, Fix); 6] = [
            // Never the executable of sameport, which would lock the worker out.
            (&named, &native, allowed(&["exe=/usr/bin/server"])),
            (
                &["--name", "web", "--map", "80=8080"],
                &native,
                allowed(&["exe=/usr/bin/server", "exe=/usr/bin/sameport"]),
            ),
            (
                &named,
                &node,
                run(&["run", "--private", "--name", "web", "--", "/usr/bin/node", "app.js"], 1000),
            ),
            (&[], &node, run(&["run", "--private", "--", "/usr/bin/node", "app.js"], 1000)),
            (
                &["--directory", "../user"],
                &node,
                in_directory(
                    run(&["run", "--private", "--", "/usr/bin/node", "app.js"], 1000),
                    "/home/user/../user",
                ),
            ),
            // --join and --private exclude each other.
            (&["--join"], &node, Fix::End { steps: vec![], restrict_ptrace: false }),
        ];
        for (options, worker, expected) in cases {
            let port = in_run(PortFixture::default(), options, worker);
            let found = fix_of(&port.with(tcp(AT), &[&stranger()]));
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn a_guard_keeps_every_process_of_the_owner() {
        let master = process(100, "/usr/sbin/nginx", &[]);
        let helper = process(101, "/usr/bin/helper", &[]).below(&[100, 1]);
        let port = PortFixture::default()
            .with(tcp(AT), &[&master])
            .with(tcp(AT), &[&helper])
            .with(tcp(AT), &[&stranger()]);
        assert_eq!(fix_of(&port), allowed(&["exe=/usr/sbin/nginx", "exe=/usr/bin/helper"]));
    }

    #[test]
    fn process_1_is_never_killed() {
        let init = process(1, "/usr/lib/systemd/systemd", &[]).below(&[]);
        for pid in [1, 300] {
            let holder = process(pid, "/usr/lib/systemd/systemd", &[]);
            let port = PortFixture::default()
                .with(tcp(AT), &[&process(10, "/usr/bin/python3", &["/srv/x.py"])])
                .with(tcp(AT), &[if pid == 1 { &init } else { &holder }]);
            for finding in audit(&port.facts) {
                if let Fix::End { steps, .. } = finding.fix {
                    let kills_init = |it: &crate::holder::EndingStep| match &it.ending {
                        Ending::Kill(pids) | Ending::KillOrParent(pids, _) => pids.contains(&1),
                        _ => false,
                    };
                    assert!(!steps.iter().any(kills_init), "{steps:?}");
                }
            }
        }
    }
}
