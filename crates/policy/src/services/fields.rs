//! The table of a service: reads values of each kind, and collects what is wrong.

use std::path::{Path, PathBuf};

use super::context::FileContext;
use super::env_file;
use super::environment::{WrittenVariable, resolve, written};
use super::fault::ServiceFault;
use super::keys;
use super::tree::{FileEntry, FileNode, FilePosition, FileValue, quoted};
use super::value_kind::ValueKind;

/// The most env files of a service. Each can refer to the values of the one before.
const MOST_ENV_FILES: usize = 64;

/// The entries of one table.
pub(super) struct Fields<'a> {
    /// The table, for messages: `web`, `web.canary`.
    name: String,
    entries: &'a [FileEntry],
    faults: &'a mut Vec<ServiceFault>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        name: &str,
        entries: &'a [FileEntry],
        faults: &'a mut Vec<ServiceFault>,
    ) -> Self {
        Self { name: name.to_owned(), entries, faults }
    }

    /// The table in this table.
    pub(super) fn inner<'b>(&'b mut self, key: &str, entries: &'b [FileEntry]) -> Fields<'b> {
        Fields { name: format!("{}.{key}", self.name), entries, faults: self.faults }
    }

    pub(super) fn fault(&mut self, fault: ServiceFault) {
        self.faults.push(fault);
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a FileNode> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.node)
    }

    /// The places of the keys that are known.
    pub(super) fn places(&self) -> Vec<(&'static str, FilePosition)> {
        let known = |entry: &FileEntry| Some((keys::find(&entry.key)?.name, entry.at));
        self.entries.iter().filter_map(known).collect()
    }

    /// Reports each entry that is none of the known keys, with the advice about it.
    pub(super) fn refuse_unknown(
        &mut self,
        known: impl Iterator<Item = &'static str> + Clone,
        advice: impl Fn(&FileEntry) -> Option<String>,
    ) {
        for entry in self.entries {
            if known.clone().any(|key| key == entry.key) {
                continue;
            }
            let hint = advice(entry).unwrap_or_else(|| {
                format!("the keys are {}", known.clone().collect::<Vec<_>>().join(", "))
            });
            let message = format!("{} has no key {}", self.name, quoted(&entry.key));
            self.faults.push(ServiceFault::new(entry.at, message).hint(hint));
        }
    }

    /// Reports a value of the wrong type or form.
    pub(super) fn wrong(&mut self, key: &str, node: &FileNode, expected: &str, more: &str) {
        let separator = if more.is_empty() { "" } else { ": " };
        let message = format!("{key} must be {expected}, not {}{separator}{more}", node.value);
        let fault = ServiceFault::new(node.at, message);
        self.faults.push(match keys::find(key) {
            Some(key) => fault.hint(format!("for example {} = {}", key.name, key.example)),
            None => fault,
        });
    }

    /// A command: an array, or a string for `sh -c`.
    pub(super) fn command(&mut self, key: &str) -> Option<Vec<String>> {
        const EXPECTED: &str = "an array of the program and its arguments, or a string for sh -c";
        let node = self.get(key)?;
        let words: Option<Vec<String>> = match &node.value {
            FileValue::Text(text) => Some(["sh".into(), "-c".into(), text.clone()].into()),
            FileValue::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    FileValue::Text(text) => Some(text.clone()),
                    FileValue::Integer(number) => Some(number.to_string()),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let Some(words) = words else {
            match &node.value {
                FileValue::List(items) => {
                    let is_word = |item: &FileNode| {
                        matches!(item.value, FileValue::Text(_) | FileValue::Integer(_))
                    };
                    for item in items.iter().filter(|item| !is_word(item)) {
                        self.wrong("an argument of command", item, "a string", "");
                    }
                }
                _ => self.wrong(key, node, EXPECTED, ""),
            }
            return None;
        };
        let more = match &node.value {
            FileValue::Text(text) if text.trim().is_empty() => "it is empty",
            FileValue::List(_) if words.first().is_none_or(String::is_empty) => "it has no program",
            _ if words.iter().any(|word| word.contains('\0')) => "it has a NUL",
            _ => return Some(words),
        };
        self.wrong(key, node, EXPECTED, more);
        None
    }

    /// A directory, absolute.
    pub(super) fn directory(&mut self, key: &str, base: &Path) -> Option<PathBuf> {
        let node = self.get(key)?;
        match ValueKind::Path.read(&node.value) {
            Ok(text) => Some(joined(base, &text)),
            Err(more) => {
                self.wrong(key, node, "a directory, such as \"web\"", &more);
                None
            }
        }
    }

    /// A table of variables.
    pub(super) fn variables(&mut self, key: &str) -> Vec<WrittenVariable> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let FileValue::Table(entries) = &node.value else {
            self.wrong(key, node, "a table of variables", "");
            return Vec::new();
        };
        let mut variables = Vec::new();
        for FileEntry { key: name, at, node } in entries {
            let text = match &node.value {
                FileValue::Text(text) => text.clone(),
                FileValue::Integer(number) => number.to_string(),
                FileValue::Boolean(is) => is.to_string(),
                value @ (FileValue::List(_) | FileValue::Table(_) | FileValue::Other(_)) => {
                    let message = format!(
                        "{key}.{name} must be a string, a whole number, true or false, not {value}"
                    );
                    self.faults.push(
                        ServiceFault::new(node.at, message).hint("write the value in quotes"),
                    );
                    continue;
                }
            };
            match written(name, &text, *at) {
                Ok(variable) => variables.push(variable),
                Err(fault) => self.faults.push(fault),
            }
        }
        variables
    }

    /// The variables of env files.
    pub(super) fn env_files(
        &mut self,
        key: &str,
        context: &FileContext<'_>,
    ) -> Vec<Vec<WrittenVariable>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let items = items(node);
        if items.len() > MOST_ENV_FILES {
            let message = format!("{key} has {} files", items.len());
            let hint = format!("a service has at most {MOST_ENV_FILES} env files");
            self.faults.push(ServiceFault::new(node.at, message).hint(hint));
            return Vec::new();
        }
        let mut layers = Vec::new();
        for item in items {
            let Ok(text) = ValueKind::Path.read(&item.value) else {
                self.wrong(key, item, "a path, or an array of paths", "");
                continue;
            };
            match (context.load)(&joined(context.directory(), &text)) {
                Err((message, hint)) => {
                    let fault = ServiceFault::new(item.at, format!("{key} {text}: {message}"));
                    let hint = hint.unwrap_or_else(|| {
                        "a path is relative to the directory of the file".into()
                    });
                    self.faults.push(fault.hint(hint));
                }
                Ok(content) => match env_file::read(&content, &text) {
                    Ok(variables) => layers.push(variables),
                    Err(faults) => self.faults.extend(faults),
                },
            }
        }
        layers
    }

    /// The values of variables; none if a reference is wrong.
    pub(super) fn resolved(
        &mut self,
        layers: &[Vec<WrittenVariable>],
        caller: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<(String, String)> {
        resolve(layers, caller).unwrap_or_else(|faults| {
            self.faults.extend(faults);
            Vec::new()
        })
    }

    pub(super) fn switch(&mut self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        if let FileValue::Boolean(is) = node.value {
            return Some(is);
        }
        self.wrong(key, node, "true or false", "");
        None
    }

    /// One value; a path is made absolute.
    pub(super) fn one(&mut self, key: &str, kind: ValueKind, base: &Path) -> Option<String> {
        let node = self.get(key)?;
        match kind.read(&node.value) {
            Ok(text) if kind == ValueKind::Path => Some(joined(base, &text).display().to_string()),
            Ok(text) => Some(text),
            Err(more) => {
                self.wrong(key, node, &kind.expected(), &more);
                None
            }
        }
    }

    /// One value or an array of them, with `pairs` also a table FROM = TO.
    pub(super) fn many(&mut self, key: &str, kind: ValueKind, pairs: bool) -> Option<Vec<String>> {
        let node = self.get(key)?;
        let mut values: Vec<String> = Vec::new();
        let mut add = |fields: &mut Self, node: &FileNode, value: &FileValue| match kind.read(value)
        {
            Ok(text) if values.contains(&text) => {
                let message = format!("{key} has {text} twice");
                fields.fault(ServiceFault::new(node.at, message).hint("leave one out"));
            }
            Ok(text) => values.push(text),
            Err(more) => {
                let shown = FileNode { at: node.at, value: value.clone() };
                fields.wrong(key, &shown, &kind.expected(), &more);
            }
        };
        match &node.value {
            FileValue::Table(entries) if pairs => {
                for FileEntry { key: from, at, node } in entries {
                    let to = match &node.value {
                        FileValue::Text(text) => text.clone(),
                        FileValue::Integer(number) => number.to_string(),
                        other => other.to_string(),
                    };
                    let rule = FileValue::Text(format!("{from}={to}"));
                    add(self, &FileNode { at: *at, value: rule.clone() }, &rule);
                }
            }
            _ => items(node).iter().for_each(|item| add(self, item, &item.value)),
        }
        (!values.is_empty()).then_some(values)
    }
}

/// The items of an array, or the one value.
fn items(node: &FileNode) -> &[FileNode] {
    match &node.value {
        FileValue::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// A path of the file, absolute.
fn joined(base: &Path, text: &str) -> PathBuf {
    base.join(text).components().collect()
}
