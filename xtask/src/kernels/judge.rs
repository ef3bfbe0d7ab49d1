//! What each step must have done: the records of a kernel in, findings out.

use serde::Serialize;
use serde_json::Value;

use super::record::Record;

/// A check, and whether the kernel did what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) got: String,
    pub(crate) expected: String,
    pub(crate) agrees: bool,
}

/// Abilities that an ordinary user never has.
const NEEDS_ROOT: &[&str] =
    &["attach", "guard", "ls-groups", "ls-others", "private", "run-cgroup", "steer"];
/// Clients of a load. A worker that is killed has at most one request of each in hand.
const CLIENTS: usize = 3;

/// The records of one boot.
struct Steps<'a> {
    boot: &'static str,
    records: &'a [Record],
}

impl<'a> Steps<'a> {
    /// Err: the step did not run.
    fn get(&self, step: &str) -> Result<&'a Record, String> {
        let mut records = self.records.iter();
        let found = records.find(|record| record.boot == self.boot && record.step == step);
        found.ok_or_else(|| format!("no step {step} in boot {}", self.boot))
    }

    fn all(&self, begin: &str) -> impl Iterator<Item = &'a Record> {
        let of_boot = self.records.iter().filter(|record| record.boot == self.boot);
        of_boot.filter(move |record| record.step.starts_with(begin))
    }
}

/// What came of a check: what the kernel did, and whether that is expected. Err: it is not known.
type Judged = Result<(String, bool), String>;

/// Every check, in the order of the report.
pub(crate) fn findings(records: &[Record]) -> Vec<Finding> {
    let steps = |boot| Steps { boot, records };
    let (first, second, lockdown) = (steps("first"), steps("second"), steps("lockdown"));
    let two = "2 workers answer";
    vec![
        finding("doctor as root", "every ability", doctor(&first, "doctor-json-root", &[])),
        finding(
            "doctor as another user",
            "every ability that needs no root",
            doctor(&first, "doctor-json-user", NEEDS_ROOT),
        ),
        finding("kernel rules as root", "every row", rules(&first, "rules-root")),
        finding(
            "kernel rules as another user",
            "every row of one user",
            rules(&first, "rules-user"),
        ),
        finding("run --via seccomp as root", two, answers(&first, "share-seccomp-root")),
        finding("run --via preload as root", two, answers(&first, "share-preload-root")),
        finding("run --via cgroup as root", two, answers(&first, "share-cgroup-root")),
        finding("run --via seccomp as another user", two, answers(&first, "share-seccomp-user")),
        finding("run --via preload as another user", two, answers(&first, "share-preload-user")),
        finding(
            "named run under load",
            "nothing is lost, except in hand of a killed worker",
            load(&first),
        ),
        finding("guard", "root is refused, the allowed user is not", guard(&first)),
        finding("guard after a reboot", "the same, by its unit", guard_after_reboot(&second)),
        finding("ptrace_scope 2, root", "run does as doctor says", ptrace(&second, "2", "root")),
        finding(
            "ptrace_scope 2, another user",
            "run does as doctor says",
            ptrace(&second, "2", "user"),
        ),
        finding("ptrace_scope 3, root", "run does as doctor says", ptrace(&second, "3", "root")),
        finding(
            "ptrace_scope 3, another user",
            "run does as doctor says",
            ptrace(&second, "3", "user"),
        ),
        finding("lockdown: run", "run does as doctor says", locked_runs(&lockdown)),
        finding(
            "lockdown: guard",
            "guard does as doctor says, and a refusal names the lockdown",
            locked_guard(&lockdown),
        ),
        finding("lockdown: guard --off", "a guard can be removed", locked_off(&lockdown)),
        finding("lockdown: ls, why, audit", "they answer", locked_looks(&lockdown)),
    ]
}

fn finding(check: &'static str, expected: &str, judged: Judged) -> Finding {
    let (got, agrees) = judged.unwrap_or_else(|unknown| (unknown, false));
    Finding { check, got, expected: expected.to_owned(), agrees }
}

/// The names with this kind of answer in `doctor --json`: `abilities` or `facts`.
fn answered_no(record: &Record, kind: &str) -> Result<Vec<String>, String> {
    let wrong = |why: &str| format!("{}: {why}", record.step);
    let value: Value = serde_json::from_str(&record.stdout).map_err(|_| wrong("is not JSON"))?;
    let list = value[kind].as_array().ok_or_else(|| wrong("has no list"))?;
    let no = list.iter().filter(|it| it["answer"] != "yes");
    let mut names: Vec<_> = no.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// The abilities that are not there must be these.
fn doctor(steps: &Steps<'_>, step: &str, expected: &[&str]) -> Judged {
    let record = steps.get(step)?;
    let no = answered_no(record, "abilities")?;
    let lacks = answered_no(record, "facts")?.iter().any(|fact| fact == "pidfd-thread");
    let mut got =
        if no.is_empty() { "every ability".to_owned() } else { format!("no {}", no.join(", ")) };
    if lacks {
        got += "; the kernel lacks PIDFD_THREAD";
    }
    Ok((got, no == expected))
}

/// The last line of the table, and the rows that fail.
fn rules(steps: &Steps<'_>, step: &str) -> Judged {
    let record = steps.get(step)?;
    let failed = record.stdout.lines().filter_map(|line| line.strip_prefix("FAIL")).map(|line| {
        let name = line.trim();
        name.split_once(": ").map_or(name, |(name, _)| name).to_owned()
    });
    let failed: Vec<String> = failed.collect();
    let mut got = record.stdout.lines().last().unwrap_or("no output").to_owned();
    if !failed.is_empty() {
        got += &format!(": {}", failed.join(", "));
    }
    Ok((got, record.code == Some(0)))
}

fn exit(code: Option<i32>) -> String {
    code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"))
}

fn answers(steps: &Steps<'_>, step: &str) -> Judged {
    let record = steps.get(step)?;
    let answering = record.answering.unwrap_or(0);
    let mut got = match answering {
        1 => "1 worker answers".to_owned(),
        count => format!("{count} workers answer"),
    };
    if let Some(code) = record.code {
        got += &format!(", exit code {code}");
    }
    Ok((got, answering == 2))
}

fn load(steps: &Steps<'_>) -> Judged {
    let record = steps.get("named-load")?;
    let failed: Vec<_> = steps
        .all("named-")
        .filter(|request| request.code != Some(0))
        .map(|request| format!("{} failed", request.step))
        .collect();
    let answered: u64 = record.answered.values().sum();
    let (killed, lost): (Vec<_>, Vec<_>) =
        record.lost.iter().partition(|loss| loss.starts_with("kill:"));
    let mut got = format!(
        "{answered} answered in restart, SIGKILL of a worker, upgrade, scale, reexec; lost {}, and {} of \
         the killed worker",
        lost.len(),
        killed.len()
    );
    for text in lost.into_iter().chain(&failed) {
        got += &format!("; {text}");
    }
    let agrees = failed.is_empty() && record.lost.len() == killed.len() && killed.len() <= CLIENTS;
    Ok((got, agrees && record.started == Some(true)))
}

/// A refused and an allowed bind.
fn guard(steps: &Steps<'_>) -> Judged {
    let (root, allowed) = (steps.get("guard-bind-root")?, steps.get("guard-bind-allowed")?);
    let (root, allowed) = (root.stdout.trim(), allowed.stdout.trim());
    Ok((format!("root {root}, the allowed user {allowed}"), root == "EPERM" && allowed == "ok"))
}

fn guard_after_reboot(steps: &Steps<'_>) -> Judged {
    let unit = steps.get("guard-unit")?;
    let has = |line: &str| unit.stdout.lines().any(|it| it == line);
    let (binds, is_enforced) = guard(steps)?;
    let is_listed = steps.get("guard-list")?.code == Some(0);
    let unit = unit.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let agrees = has("ActiveState=active") && has("Result=success") && is_enforced && is_listed;
    Ok((format!("{binds}; {unit}"), agrees))
}

/// Whether a run does what `doctor` says about one of these abilities: two workers, or a refusal before
/// the start.
fn as_doctor_says(run: &Record, doctor: &Record, name: &str, abilities: &[&str]) -> Judged {
    let no = answered_no(doctor, "abilities")?;
    let can = abilities.iter().any(|ability| !no.iter().any(|name| name == ability));
    let answering = run.answering.unwrap_or(0);
    let was_refused = answering == 0 && run.code == Some(3);
    let done = match answering {
        0 if was_refused => "refuses with exit code 3".to_owned(),
        0 => format!("no worker answers, {}", exit(run.code)),
        count => format!("{count} of 2 answer"),
    };
    let says = if can { "yes" } else { "no" };
    Ok((
        format!("{name}: doctor says {says}, {done}"),
        if can { answering == 2 } else { was_refused },
    ))
}

fn joined(parts: Vec<(String, bool)>) -> Judged {
    let agrees = parts.iter().all(|(_, agrees)| *agrees);
    let texts: Vec<_> = parts.into_iter().map(|(text, _)| text).collect();
    Ok((texts.join("; "), agrees))
}

fn ptrace(steps: &Steps<'_>, scope: &str, who: &str) -> Judged {
    let doctor = steps.get(&format!("ptrace-{scope}-doctor-json-{who}"))?;
    let seccomp = steps.get(&format!("ptrace-{scope}-seccomp-{who}"))?;
    let auto = steps.get(&format!("ptrace-{scope}-auto-{who}"))?;
    // `run` takes the first interposer that works.
    let any = ["run-seccomp", "run-preload", "run-cgroup"];
    let mut parts = vec![
        as_doctor_says(seccomp, doctor, "seccomp", &["run-seccomp"])?,
        as_doctor_says(auto, doctor, "auto", &any)?,
    ];
    if seccomp.code.is_some() {
        let is_named = seccomp.stderr.contains("ptrace_scope");
        let text = if is_named { "names ptrace_scope" } else { "does not name ptrace_scope" };
        parts.push((text.to_owned(), is_named));
    }
    joined(parts)
}

fn locked_runs(steps: &Steps<'_>) -> Judged {
    let doctor = steps.get("doctor-json-root")?;
    let vias = ["seccomp", "preload", "cgroup"].map(|via| {
        let run = steps.get(&format!("share-{via}-root"))?;
        as_doctor_says(run, doctor, via, &[&format!("run-{via}")])
    });
    joined(vias.into_iter().collect::<Result<_, _>>()?)
}

fn locked_guard(steps: &Steps<'_>) -> Judged {
    let doctor = steps.get("doctor-json-root")?;
    let can = !answered_no(doctor, "abilities")?.iter().any(|name| name == "guard");
    let set = steps.get("guard-set")?;
    let names_it = set.stderr.contains("lockdown");
    let says = if can { "yes" } else { "no" };
    let got = match set.code {
        Some(0) => format!("doctor says {says}, guard is set"),
        code if names_it => format!("doctor says {says}, {}, names the lockdown", exit(code)),
        code => format!("doctor says {says}, {}, does not name the lockdown", exit(code)),
    };
    let agrees = if can { set.code == Some(0) } else { set.code == Some(3) && names_it };
    Ok((got, agrees))
}

fn locked_off(steps: &Steps<'_>) -> Judged {
    let parts =
        [("guard-off-one", "--off of one"), ("guard-off-all", "--off-all")].map(|(step, name)| {
            let record = steps.get(step)?;
            Ok((format!("{name}: {}", exit(record.code)), record.code == Some(0)))
        });
    joined(parts.into_iter().collect::<Result<_, String>>()?)
}

fn locked_looks(steps: &Steps<'_>) -> Judged {
    // `why` exits with 1 for a port that is held, `audit` where it has a finding.
    let mut parts = Vec::new();
    for (verb, codes) in [("ls", &[0][..]), ("why", &[1]), ("audit", &[0, 1])] {
        for who in ["root", "user"] {
            let record = steps.get(&format!("{verb}-{who}"))?;
            let agrees = record.code.is_some_and(|code| codes.contains(&code));
            parts.push((format!("{verb} as {who}: {}", exit(record.code)), agrees));
        }
    }
    joined(parts)
}

#[cfg(test)]
mod tests;
