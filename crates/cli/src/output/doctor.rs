//! The output of `doctor`: facts and capabilities, as two tables or as JSON.

use sameport_policy::capability::Capability;
use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

use super::json::{line, object};
use super::table::table;

/// One line about `run`, and the two tables.
pub(crate) fn text(facts: &[ProbeFact], abilities: &[Capability]) -> String {
    let line = verdict(facts, abilities);
    let facts = facts.iter().map(|ProbeFact { subject, answer }| {
        [subject.name().into(), answer.to_string(), answer.text().into()]
    });
    let abilities = abilities.iter().flat_map(|ability| {
        let verdict = [ability.name.into(), ability.answer.to_string(), ability.purpose.into()];
        let continuation = |text| [String::new(), String::new(), text];
        std::iter::once(verdict).chain(qualifications(ability).map(continuation))
    });
    let facts = table(["FACT", "ANSWER", "DETAIL"], &facts.collect::<Vec<_>>());
    let abilities = table(["ABILITY", "ANSWER", "WHAT IT IS"], &abilities.collect::<Vec<_>>());
    format!("{line}\n\n{facts}\n{abilities}")
}

/// Whether `run` works here, and by which interposer. Where `run` does not exist, whether addresses can
/// be shared.
fn verdict(facts: &[ProbeFact], abilities: &[Capability]) -> String {
    let is_yes = |ability: &Capability| matches!(ability.answer, ProbeAnswer::Yes(_));
    let Some(run) = abilities.iter().find(|ability| ability.name == "run") else {
        return sharing(facts);
    };
    let mut interposers = abilities.iter().filter(|ability| is_yes(ability));
    let by = interposers.find_map(|ability| ability.name.strip_prefix("run-"));
    let by = by.map(|by| format!(", by {by}")).unwrap_or_default();
    match (&run.answer, run.answer.text()) {
        (ProbeAnswer::Yes(_), "") => format!("`sameport run` works here{by}"),
        (ProbeAnswer::Yes(_), how) if how.starts_with("by ") => {
            format!("`sameport run` works here, {how}")
        }
        (ProbeAnswer::Yes(_), but) => format!("`sameport run` works here{by}, but {but}"),
        (ProbeAnswer::No(_), why) => format!("`sameport run` does not work here: {why}"),
        (ProbeAnswer::Unknown(_), why) => {
            format!("could not tell whether `sameport run` works here: {why}")
        }
    }
}

fn sharing(facts: &[ProbeFact]) -> String {
    match facts.iter().find(|fact| fact.subject == ProbeSubject::Sharing).map(|fact| &fact.answer) {
        Some(ProbeAnswer::Yes(how)) => format!("`sameport listen` shares addresses here: {how}"),
        Some(ProbeAnswer::No(_)) => "this system shares no addresses".to_owned(),
        _ => "could not tell whether this system shares addresses".to_owned(),
    }
}

/// The reason for anything but a full yes, and the next step.
fn qualifications(ability: &Capability) -> impl Iterator<Item = String> {
    let text = ability.answer.text();
    let reason = (!text.is_empty()).then(|| match ability.answer {
        ProbeAnswer::Yes(_) => format!("but {text}"),
        ProbeAnswer::No(_) | ProbeAnswer::Unknown(_) => format!("because {text}"),
    });
    reason.into_iter().chain(ability.next.map(|next| format!("hint: {next}")))
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(facts: &[ProbeFact], capabilities: &[Capability]) -> String {
    let capabilities: Vec<_> = capabilities
        .iter()
        .map(|it| {
            object! {
                answer: word(&it.answer),
                detail: it.answer.text(),
                name: it.name,
                next: it.next,
                purpose: it.purpose,
            }
        })
        .collect();
    let facts: Vec<_> = facts
        .iter()
        .map(|ProbeFact { subject, answer }| {
            object! { answer: word(answer), detail: answer.text(), name: subject.name() }
        })
        .collect();
    line(&object! { abilities: capabilities, facts: facts, version: 1 })
}

fn word(answer: &ProbeAnswer) -> &'static str {
    match answer {
        ProbeAnswer::Yes(_) => "yes",
        ProbeAnswer::No(_) => "no",
        ProbeAnswer::Unknown(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sameport_policy::capability::capabilities;

    fn facts() -> Vec<ProbeFact> {
        vec![
            ProbeFact {
                subject: ProbeSubject::Sharing,
                answer: ProbeAnswer::Yes("two \"joined\"".into()),
            },
            ProbeFact {
                subject: ProbeSubject::SockDiagTcp,
                answer: ProbeAnswer::No("no module".into()),
            },
            ProbeFact {
                subject: ProbeSubject::SeeOtherUsers,
                answer: ProbeAnswer::Unknown("?".into()),
            },
        ]
    }

    #[test]
    fn the_tables_line_up_and_name_the_next_step() {
        let facts = facts();
        let tables = text(&facts, &capabilities(&facts));
        let (line, tables) = tables.split_once("\n\n").unwrap();
        assert!(line.starts_with("could not tell whether `sameport run` works here: "), "{line}");
        let (facts, abilities) = tables.split_once("\n\n").unwrap();
        assert_eq!(
            facts,
            "FACT             ANSWER          DETAIL\n\
             sharing          yes             two \"joined\"\n\
             sock-diag-tcp    no              no module\n\
             see-other-users  could not tell  ?"
        );
        assert!(abilities.starts_with("ABILITY      ANSWER          WHAT IT IS\n"), "{abilities}");
        let margin = " ".repeat("ABILITY      ANSWER          ".len());
        let refusal = format!(
            "ls           no              list the sockets that hold ports\n\
             {margin}because sock-diag-tcp: no module\n{margin}hint: needs Linux with the kernel"
        );
        assert!(abilities.contains(&refusal), "{abilities}");
    }

    #[test]
    fn json_keeps_its_shape() {
        let facts = facts();
        let json = json(&facts, &capabilities(&facts));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["facts"][0]["detail"], "two \"joined\"");
        let answers: Vec<_> =
            value["facts"].as_array().unwrap().iter().map(|f| &f["answer"]).collect();
        assert_eq!(answers, ["yes", "no", "unknown"]);
        let mut abilities = value["abilities"].as_array().unwrap().iter();
        let listen = abilities.find(|ability| ability["name"] == "listen").unwrap();
        assert_eq!(listen["answer"], "yes");
        assert!(listen["next"].is_null());
    }
}
