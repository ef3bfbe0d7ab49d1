//! The exit code of every error, and the message and hint where they are composed.

use std::net::{IpAddr, Ipv4Addr};

use sameport_policy::bind::map::MapRule;
use sameport_supervisor::control::client::{ClientError, DeadSupervisor};
use sameport_supervisor::control::protocol::FaultKind;
use sameport_supervisor::control::{RunInfo, RunRecord};
use sameport_supervisor::{InheritError, InterposerKind, PrivateGroupError, RunError};
use sameport_sys::Errno;
use sameport_sys::bpf::{AttachError, PinError};
use sameport_sys::cgroup::CgroupError;
use sameport_sys::process::StartError;
use sameport_sys::run_files::{ClaimError, ConnectError};
use sameport_sys::seccomp::InstallStage;

use sameport_policy::holder::{Manager, Unit};
use sameport_sys::effective_user;

use super::client::{dead_supervisor, service_failure};
use super::*;
use crate::operations::attach::Error as AttachmentError;
use crate::operations::guard::{Error as GuardError, GuardEffect, GuardState};
use crate::operations::why::Error as WhyError;
use crate::output::holder::root_prefix;

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

#[test]
fn every_error_has_its_exit_code() {
    use ExitKind::{Failed, NotExecutable, NotFound, Unsupported, Usage};

    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let rule: MapRule = "80=8080".parse().unwrap();
    let run = |error: RunError| Failure::from(&error);
    let start = |error: StartError| Failure::from(&RunError::Start(error));
    let inherit = |error: InheritError| Failure::from(&RunError::Inherit(error));
    let client = |error: ClientError| client_failure(&"web".parse().unwrap(), &error);
    let attach = |error: AttachError| AttachmentError::Attach("/a".into(), error).into();
    let pin = |error: PinError| AttachmentError::Pin("/a".into(), error).into();
    let cgroup = |error: CgroupError| AttachmentError::Open(error).into();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);

    let table: Vec<(Failure, ExitKind)> = vec![
        (run(RunError::NotLocal(ip)), Unsupported),
        (run(RunError::TransparentNotPermitted), Unsupported),
        (run(RunError::NotPrivate(PrivateGroupError::NeedsCapability)), Unsupported),
        (run(RunError::UnknownArchitecture), Unsupported),
        (run(RunError::WorkerAccess("pidfd_getfd", Errno::PERM)), Unsupported),
        (run(RunError::NoLibrary("no C compiler")), Unsupported),
        (run(RunError::TooManyRules(64)), Unsupported),
        (run(RunError::CgroupCannotSet("IP_TRANSPARENT")), Unsupported),
        (run(RunError::Cgroup(CgroupError::NotMounted)), Unsupported),
        (run(RunError::NoInterposer(vec![])), Unsupported),
        (run(RunError::ClaimName(ClaimError::InUse(Some(7)))), Failed),
        (run(RunError::System("epoll_wait", io_error())), Failed),
        (start(StartError::Filter(InstallStage::Filter, Errno::INVAL)), Unsupported),
        (start(StartError::Filter(InstallStage::Filter, Errno::BUSY)), Unsupported),
        (start(StartError::Cgroup(Errno::PERM)), Failed),
        (start(StartError::NotFound), NotFound),
        (inherit(InheritError::Unnamed(1)), Usage),
        (inherit(InheritError::NotHeld), Usage),
        (inherit(InheritError::NotOpen(3, Errno::BADF)), Failed),
        (inherit(InheritError::NotListening { number: 3, name: "a".into() }), Failed),
        (inherit(InheritError::AlreadyBound { number: 3, name: "a".into() }), Unsupported),
        (inherit(InheritError::System(Errno::MFILE)), Failed),
        (client(ClientError::NoSuchRun(vec![])), Failed),
        (client(ClientError::TooLong(9, 8)), Usage),
        (client(ClientError::Unreachable(ConnectError::System(Errno::ACCESS))), Failed),
        (program_failure("x".as_ref(), FaultKind::NotFound), NotFound),
        (program_failure("x".as_ref(), FaultKind::Other), NotExecutable),
        (AttachmentError::Contradiction(rule, rule).into(), Usage),
        (AttachmentError::NotLocal(ip).into(), Unsupported),
        (cgroup(CgroupError::NotMounted), Unsupported),
        (cgroup(CgroupError::NotFound("/a".into())), Usage),
        (cgroup(CgroupError::UnitNotRunning("a.service".into())), Usage),
        (cgroup(CgroupError::System("open", "/a".into(), denied())), Unsupported),
        (cgroup(CgroupError::System("open", "/a".into(), io_error())), Failed),
        (attach(AttachError::Kernel("verifier".into())), Unsupported),
        (attach(AttachError::Exclusive), Failed),
        (pin(PinError::Already), Failed),
        (pin(PinError::NotAttached), Failed),
        (GuardError::NotRoot.into(), Unsupported),
        (GuardError::NoUser("a".into()).into(), Failed),
        (GuardError::Unit(CgroupError::UnitNotRunning("a.service".into())).into(), Failed),
        (
            GuardError::LockedOut(GuardEffect {
                nobody: true,
                holders: vec![],
                would_allow: vec![],
            })
            .into(),
            Failed,
        ),
        (GuardError::Elsewhere.into(), Failed),
        (GuardError::File("write", io_error()).into(), Failed),
        (GuardError::Reserve(io_error()).into(), Unsupported),
        (guard_state_failure(GuardState::NotInForce, false), Failed),
        (guard_state_failure(GuardState::NotInForce, true), Failed),
        (ListError::Name { name: "a".into(), source: io_error() }.into(), Usage),
        (ListError::Network("no such namespace".into()).into(), Usage),
        (ListError::NotPermitted("setns".into()).into(), Unsupported),
        (ListError::Machine("no sock_diag".into()).into(), Unsupported),
        (ListError::Look("recv".into()).into(), Failed),
        (WhyError::NoUser("a".into()).into(), Usage),
        (WhyError::OtherUser("a".into()).into(), Unsupported),
        (WhyError::V6onlyOfIpv4(ip).into(), Usage),
        (WhyError::Look("recv".into()).into(), Unsupported),
        (export_failure("a".as_ref(), &ExportError::Exists), Failed),
        (export_failure("a".as_ref(), &ExportError::NoLibrary("why")), Unsupported),
        (stdout_failure(&io_error()), Failed),
    ];
    for (failure, kind) in table {
        assert_eq!(failure.kind, kind, "{failure:?}");
        let text = [Some(&failure.message), failure.hint.as_ref()];
        for text in text.into_iter().flatten() {
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }
}

#[test]
fn a_skipped_interposer_is_in_the_hint() {
    let skipped = vec![
        (InterposerKind::Seccomp, RunError::UnknownArchitecture),
        (InterposerKind::Preload, RunError::NoLibrary("no C compiler")),
    ];
    let failure = Failure::from(&RunError::NoInterposer(skipped));
    assert!(failure.message.starts_with("the system calls of "), "{failure:?}");
    let hint = failure.hint.unwrap();
    assert!(
        hint.ends_with("; preload cannot either: this build has no preload library: no C compiler"),
        "{hint}"
    );
}

fn advice(error: &ClientError) -> (ExitKind, String, String) {
    let failure = client_failure(&"web".parse().unwrap(), error);
    (failure.kind, failure.message, failure.hint.unwrap_or_default())
}

fn gone(running: &[i32]) -> ClientError {
    let about = RunInfo {
        command: ["node", "it's.js", "a b", "", "--x=1"].map(Into::into).into(),
        directory: "/".into(),
        since: 0,
        service: None,
        detached: false,
    };
    let mut record =
        RunRecord::new(&about, &[], sameport_supervisor::control::RunHistory::default());
    record.pid = 33;
    ClientError::SupervisorDead(Box::new(DeadSupervisor {
        record: Some(record),
        running_workers: running.to_vec(),
    }))
}

#[test]
fn a_dead_supervisor_is_explained_with_the_next_step() {
    let again = r"sameport run --name web … -- node 'it'\''s.js' 'a b' '' --x=1";
    let cases = [
        (
            gone(&[41, 42]),
            "the supervisor of web (pid 33) is gone; its workers (pids 41, 42) keep serving, and \
             can bind nothing new",
            "`sameport restart web` replaces them, `sameport stop web` ends them".to_owned(),
        ),
        (
            gone(&[41]),
            "the supervisor of web (pid 33) is gone; its worker (pid 41) keeps serving, and can \
             bind nothing new",
            "`sameport restart web` replaces it, `sameport stop web` ends it".to_owned(),
        ),
        (
            gone(&[]),
            "the supervisor of web (pid 33) is gone, and so are its workers",
            format!("start it again: {again}"),
        ),
        (
            ClientError::SupervisorDead(Box::new(DeadSupervisor {
                record: None,
                running_workers: Vec::new(),
            })),
            "the supervisor of web is gone and left no record of its workers",
            "`sameport ls` lists the sockets on its ports".to_owned(),
        ),
    ];
    for (error, message, hint) in cases {
        assert_eq!(advice(&error), (ExitKind::Failed, message.to_owned(), hint));
    }
    let many: Vec<i32> = (100..200).collect();
    let (_, message, _) = advice(&gone(&many));
    assert!(message.contains("115 and 84 more"), "{message}");
}

/// A run of a service is started by its manager only.
#[test]
fn a_dead_supervisor_of_a_service_is_the_managers() {
    let unit = Unit { manager: Manager::System, name: "web.service".into() };
    let name = "web".parse().unwrap();
    let restart = format!("{}systemctl restart web.service", root_prefix(effective_user()));
    for (running, hint) in [
        (&[41, 42][..], format!("replace them: {restart}")),
        (&[41], format!("replace it: {restart}")),
        (&[], format!("start it again: {restart}")),
    ] {
        let ClientError::SupervisorDead(dead) = gone(running) else { panic!() };
        let failure = dead_supervisor(&name, &dead, Some(&unit));
        assert_eq!(failure.hint, Some(hint));
    }
    let failure = service_failure(&name, &unit);
    assert_eq!((failure.kind, failure.hint), (ExitKind::Failed, Some(restart)));
}

#[test]
fn other_errors_name_the_supervisor_and_the_next_step() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let failed = |fault| ClientError::Failed {
        fault,
        error: "x\n: command not found".into(),
        hint: Some("y".into()),
    };
    let cases = [
        (ClientError::NoSuchRun(names(&[])), "no run named web, nor any other", "run --name web"),
        (ClientError::NoSuchRun(names(&["a", "b"])), "there is no run named web", "there is a, b"),
        (ClientError::NoAnswer(33), "(pid 33) does not answer", "kill -CONT 33"),
        (
            ClientError::SupervisorEnded(33),
            "(pid 33) ended before it was done",
            "sameport status web",
        ),
        (ClientError::Unreachable(ConnectError::Busy), "another connection", "try again"),
        (
            ClientError::Unreachable(ConnectError::OtherUser(7)),
            "user 7 listens in the place of",
            "",
        ),
        (failed(FaultKind::Other), "x\\n: command not found", "y"),
    ];
    for (error, message, hint) in cases {
        let (kind, said, next) = advice(&error);
        assert!(said.contains(message) && next.contains(hint), "{said}; {next}");
        assert_eq!(kind, ExitKind::Failed);
    }
    assert_eq!(advice(&failed(FaultKind::NotFound)).0, ExitKind::NotFound);
    assert_eq!(advice(&failed(FaultKind::NotExecutable)).0, ExitKind::NotExecutable);
}
