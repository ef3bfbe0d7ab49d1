//! The checks, with records as the driver writes them.

use super::*;

fn record(boot: &str, step: &str) -> Record {
    Record { boot: boot.to_owned(), step: step.to_owned(), code: Some(0), ..Record::default() }
}

fn printed(boot: &str, step: &str, stdout: &str) -> Record {
    Record { stdout: stdout.to_owned(), ..record(boot, step) }
}

fn run(boot: &str, step: &str, answering: u32, code: Option<i32>, stderr: &str) -> Record {
    let stderr = stderr.to_owned();
    Record { answering: Some(answering), code, stderr, ..record(boot, step) }
}

fn doctor_json(no: &[&str]) -> String {
    let all = ["run", "run-seccomp", "run-preload", "run-cgroup", "guard"];
    let abilities: Vec<_> = all
        .iter()
        .map(|name| {
            let answer = if no.contains(name) { "no" } else { "yes" };
            serde_json::json!({"name": name, "answer": answer})
        })
        .collect();
    serde_json::json!({"abilities": abilities, "facts": []}).to_string()
}

fn steps<'a>(boot: &'static str, records: &'a [Record]) -> Steps<'a> {
    Steps { boot, records }
}

#[test]
fn without_records_no_check_agrees() {
    let findings = findings(&[]);
    assert!(findings.iter().all(|finding| !finding.agrees), "{findings:?}");
    assert!(findings[0].got.contains("no step doctor-json-root in boot first"), "{findings:?}");
    let mut names: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), findings.len(), "a check has its own name");
}

#[test]
fn an_ability_that_is_missing_differs() {
    let judge = |no: &[&str], expected: &[&str]| {
        let records = [printed("first", "d", &doctor_json(no))];
        doctor(&steps("first", &records), "d", expected).unwrap()
    };
    assert_eq!(judge(&[], &[]), ("every ability".to_owned(), true));
    assert_eq!(judge(&["guard"], &["guard"]), ("no guard".to_owned(), true));
    assert!(!judge(&["guard"], &[]).1 && !judge(&[], &["guard"]).1);
    let records = [printed("first", "d", "not json")];
    assert!(doctor(&steps("first", &records), "d", &[]).is_err());
}

#[test]
fn rows_that_fail_are_named() {
    let text =
        "ok    tcp/rp-rp: fine\nFAIL  tcp/size-1200: a group\n1 passed, 1 failed, 0 skipped\n";
    let mut records = [printed("first", "rules-root", text)];
    records[0].code = Some(1);
    let judged = rules(&steps("first", &records), "rules-root").unwrap();
    assert_eq!(judged, ("1 passed, 1 failed, 0 skipped: tcp/size-1200".to_owned(), false));
}

#[test]
fn a_loss_differs_unless_its_worker_was_killed() {
    let judge = |lost: &[&str], stop: i32| {
        let load = Record {
            started: Some(true),
            answered: [("restart".to_owned(), 30), ("kill".to_owned(), 20)].into(),
            lost: lost.iter().map(|&text| text.to_owned()).collect(),
            ..record("first", "named-load")
        };
        let stop = Record { code: Some(stop), ..record("first", "named-stop") };
        load_of(&[load, stop])
    };
    fn load_of(records: &[Record]) -> (String, bool) {
        load(&steps("first", records)).unwrap()
    }
    assert!(judge(&[], 0).1 && judge(&["kill: reset", "kill: reset"], 0).1);
    assert!(!judge(&["restart: reset"], 0).1 && !judge(&[], 1).1);
    assert!(!judge(&["kill: reset"; 4], 0).1, "more than the clients");
    let (text, _) = judge(&["restart: reset"], 0);
    assert!(
        text.starts_with("50 answered")
            && text.ends_with("lost 1, and 0 of the killed worker; restart: reset"),
        "{text}"
    );
}

#[test]
fn a_guard_refuses_root_and_admits_its_user() {
    let judge = |root: &str, allowed: &str, unit: &str| {
        let records = [
            printed("second", "guard-bind-root", root),
            printed("second", "guard-bind-allowed", allowed),
            printed("second", "guard-unit", unit),
            record("second", "guard-list"),
        ];
        guard_after_reboot(&steps("second", &records)).unwrap().1
    };
    let active = "Result=success\nActiveState=active\n";
    assert!(judge("EPERM\n", "ok\n", active));
    assert!(!judge("ok\n", "ok\n", active) && !judge("EPERM\n", "EPERM\n", active));
    assert!(!judge("EPERM\n", "ok\n", "Result=exit-code\nActiveState=failed\n"));
}

#[test]
fn a_run_does_what_doctor_says() {
    let judge = |no: &[&str], seccomp: (u32, Option<i32>, &str), auto: (u32, Option<i32>)| {
        let records = [
            printed("second", "ptrace-2-doctor-json-user", &doctor_json(no)),
            run("second", "ptrace-2-seccomp-user", seccomp.0, seccomp.1, seccomp.2),
            run("second", "ptrace-2-auto-user", auto.0, auto.1, ""),
        ];
        ptrace(&steps("second", &records), "2", "user").unwrap().1
    };
    let both = (2, None);
    assert!(judge(&[], (2, None, ""), both));
    let named = "kernel.yama.ptrace_scope is 2";
    assert!(judge(&["run-seccomp"], (0, Some(3), named), both), "the next interposer");
    let none = ["run", "run-seccomp", "run-preload", "run-cgroup"];
    assert!(judge(&none, (0, Some(3), named), (0, Some(3))));
    assert!(!judge(&none, (0, Some(3), named), both), "more than doctor says");
    assert!(!judge(&["run-seccomp"], (1, None, ""), both), "starts anyway");
    assert!(!judge(&["run-seccomp"], (0, Some(3), "not permitted"), both), "no reason");
    assert!(!judge(&[], (0, Some(3), named), both), "refuses what doctor promises");
}

#[test]
fn a_refused_guard_names_the_lockdown() {
    let judge = |no: &[&str], code: i32, stderr: &str| {
        let set = Record {
            code: Some(code),
            stderr: stderr.to_owned(),
            ..record("lockdown", "guard-set")
        };
        let records = [printed("lockdown", "doctor-json-root", &doctor_json(no)), set];
        locked_guard(&steps("lockdown", &records)).unwrap().1
    };
    assert!(judge(&[], 0, ""));
    assert!(judge(&["guard"], 3, "the kernel is locked down: lockdown=confidentiality"));
    assert!(!judge(&["guard"], 3, "needs Linux 5.14"));
    assert!(!judge(&["guard"], 0, "") && !judge(&[], 3, "lockdown"));
}

#[test]
fn verbs_that_look_answer_under_lockdown() {
    let judge = |why: i32| {
        let mut records = Vec::new();
        for who in ["root", "user"] {
            records.push(record("lockdown", &format!("ls-{who}")));
            records.push(Record { code: Some(why), ..record("lockdown", &format!("why-{who}")) });
            records.push(record("lockdown", &format!("audit-{who}")));
        }
        locked_looks(&steps("lockdown", &records)).unwrap().1
    };
    assert!(judge(1) && !judge(3));
}
