//! `/readyz`: whether runs are ready.

use std::str::FromStr;

use crate::readiness::RunFacts;

/// A run, as far as it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReadiness {
    /// Its name.
    pub name: String,
    /// Its user.
    pub user: String,
    /// What its supervisor says; why there is no answer.
    pub facts: Result<RunFacts, String>,
}

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadinessQuery {
    /// Only this run.
    pub run: Option<String>,
    /// Only runs of this user.
    pub user: Option<String>,
    /// The number of ready workers that suffices; `None`: all.
    pub min: Option<u16>,
}

/// The query of a URL: `run=web&min=1`.
impl FromStr for ReadinessQuery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "run" if value.is_empty() => return Err("run is the name of a run".to_owned()),
                "run" => query.run = Some(value.to_owned()),
                "user" => query.user = Some(value.to_owned()),
                "min" => {
                    let number = value.parse().map_err(|_| "min is a number from 0 to 65535")?;
                    query.min = Some(number);
                }
                _ => return Err("the parameters are run, user and min".to_owned()),
            }
        }
        Ok(query)
    }
}

/// Whether every run that is asked for is ready, and a line for each. Without a run, nothing is.
#[must_use]
pub fn readiness(runs: &[RunReadiness], query: &ReadinessQuery) -> (bool, String) {
    let is_asked_for = |run: &&RunReadiness| {
        query.run.as_ref().is_none_or(|name| *name == run.name)
            && query.user.as_ref().is_none_or(|user| *user == run.user)
    };
    let (mut all_ready, mut text) = (true, String::new());
    for run in runs.iter().filter(is_asked_for) {
        let (is_ready, words) = match &run.facts {
            Err(why) => (false, why.clone()),
            Ok(RunFacts { wanted: workers, ready, leaving }) => {
                let enough = query.min.map_or(*workers, |min| min.min(*workers));
                let is_enough = *ready >= enough;
                let word = match (leaving, is_enough) {
                    (true, _) => "leaving",
                    (false, true) => "ready",
                    (false, false) => "not ready",
                };
                (is_enough && !leaving, format!("{word}, {ready} of {workers} workers"))
            }
        };
        all_ready &= is_ready;
        text.push_str(&format!("{}: {words}\n", run.name));
    }
    match (&query.run, text.is_empty()) {
        (_, false) => (all_ready, text),
        (Some(name), true) => (false, format!("{name}: there is no such run\n")),
        (None, true) => (false, "there is no named run\n".to_owned()),
    }
}
