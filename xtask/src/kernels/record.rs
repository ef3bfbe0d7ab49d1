//! What the driver in the guest records: one line of JSON for each step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A step, and what came of it. `guest/driver.py` writes the fields that its step has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) boot: String,
    pub(crate) step: String,
    /// The uid that executed the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) command: String,
    /// None: a timeout, a signal, or a command that was still running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) stdout: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// `uname -r`, in the step `start`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) kernel: String,
    /// How many workers of a run answered on its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answering: Option<u32>,
    /// Of a load: whether the run started, the answers in each phase, the requests without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) answered: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lost: Vec<String>,
}

impl Record {
    /// The step and what came of it, for a line of progress.
    pub(crate) fn title(&self) -> String {
        let mut title = self.step.clone();
        if let Some(code) = self.code {
            title += &format!(", exit code {code}");
        }
        if let Some(answering) = self.answering {
            title += &format!(", {answering} answer");
        }
        if let Some(seconds) = self.seconds {
            title += &format!(", {seconds} s");
        }
        title
    }
}

/// The records of the complete lines. A line that is none is another program's, and is left out.
pub(crate) fn parse(text: &str) -> Vec<Record> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_complete_lines_of_json() {
        let text = "noise\r\n\
            {\"boot\": \"first\", \"step\": \"start\", \"kernel\": \"6.1.0\"}\r\n\
            {\"boot\": \"first\", \"step\": \"doctor\", \"code\": 0, \"seconds\": 2.5}\n\
            {\"boot\": \"first\", \"step\": \"load\", \"answered\": {\"kill\": 3}, \"lost\": [\"kill: reset\"]}\n\
            {\"boot\": \"first\", \"step\": \"e";
        let records = parse(text);
        let steps: Vec<_> = records.iter().map(|record| record.step.as_str()).collect();
        assert_eq!(steps, ["start", "doctor", "load"]);
        assert_eq!(records[0].kernel, "6.1.0");
        assert_eq!(records[1].title(), "doctor, exit code 0, 2.5 s");
        assert_eq!((records[2].answered["kill"], records[2].lost.len()), (3, 1));
        assert_eq!(parse(""), []);
    }
}
