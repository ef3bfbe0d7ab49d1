//! The services of a parsed `sameport.toml`, checked: all mistakes, not the first.

use std::path::Path;

use super::context::FileContext;
use super::environment::WrittenVariable;
use super::fault::ServiceFault;
use super::fields::Fields;
use super::keys::{KEYS, KeyKind};
use super::model::{ServiceFile, ServiceOption, ServiceSpec, WorkerCount};
use super::other_words::OTHER_WORDS;
use super::ports::{self, PlacedService};
use super::tree::{FileEntry, FilePosition, FileValue};
use super::{canary, steering};
use crate::spelling::nearest;

/// Reads the services of a file.
///
/// # Errors
///
/// All mistakes, in the order of their places.
pub fn read(
    root: &[FileEntry],
    context: &FileContext<'_>,
) -> Result<ServiceFile, Vec<ServiceFault>> {
    let mut faults = Vec::new();
    let mut services = Vec::new();
    for entry in root {
        let Some(entries) = table_of(entry, &mut faults) else { continue };
        services.extend(read_service(entry, entries, context, &mut faults));
    }
    if root.is_empty() {
        let at = FilePosition { line: 1, column: 1 };
        faults.push(
            ServiceFault::new(at, "the file has no service")
                .hint("a service is a table, such as [web], with a command"),
        );
    }
    faults.extend(ports::conflicts(&services));
    if faults.is_empty() {
        let services = services.into_iter().map(|service| service.spec).collect();
        return Ok(ServiceFile { path: context.path.to_owned(), services });
    }
    faults.sort_by(|one, other| {
        (one.file.is_some(), &one.file, one.at).cmp(&(other.file.is_some(), &other.file, other.at))
    });
    faults.dedup();
    Err(faults)
}

/// The entries of a table at the top of the file.
fn table_of<'a>(entry: &'a FileEntry, faults: &mut Vec<ServiceFault>) -> Option<&'a [FileEntry]> {
    let FileEntry { key, at, node } = entry;
    let fault = match &node.value {
        FileValue::Table(entries) => return Some(entries),
        FileValue::List(items)
            if items.iter().any(|item| matches!(item.value, FileValue::Table(_))) =>
        {
            ServiceFault::new(*at, format!("{key} must be a table, not an array of tables"))
                .hint(format!("write [{key}] once, in place of [[{key}]]"))
        }
        _ => ServiceFault::new(*at, format!("{key} is in no service"))
            .hint("a service is a table: write [NAME], such as [web], in a line above"),
    };
    faults.push(fault);
    None
}

fn read_service(
    entry: &FileEntry,
    entries: &[FileEntry],
    context: &FileContext<'_>,
    faults: &mut Vec<ServiceFault>,
) -> Option<PlacedService> {
    let before = faults.len();
    let name = entry.key.parse();
    if let Err(error) = &name {
        faults.push(ServiceFault::new(entry.at, format!("{error}")));
    }
    let known = KEYS.iter().map(|key| key.name);
    let mut fields = Fields::new(&entry.key, entries, faults);
    let is_alone = !entries.iter().any(|it| it.key == "command");
    fields.refuse_unknown(known.clone(), |unknown| {
        if let FileValue::Table(_) = unknown.node.value
            && is_alone
        {
            return Some(format!("a service is a table of its own: write [{}]", unknown.key));
        }
        let other = OTHER_WORDS.iter().find(|(word, _)| *word == unknown.key);
        let advice = other.map(|(_, advice)| (*advice).to_owned());
        advice.or_else(|| {
            nearest(&unknown.key, known.clone()).map(|key| format!("the nearest key is {key}"))
        })
    });
    let command = fields.command("command").unwrap_or_default();
    if is_alone {
        fields.fault(
            ServiceFault::new(entry.at, format!("{} has no command", entry.key))
                .hint("add command = [\"PROGRAM\", \"ARGUMENT\"], or a string for sh -c"),
        );
    }
    let directory = fields.directory("directory", context.directory());
    let layers = layers(&mut fields, context);
    let environment = fields.resolved(&layers, context.variable);
    let workers = workers(&mut fields);
    let policy = steering::read(&mut fields, &entry.key, workers);
    let canary = canary::read(&mut fields, context, &environment);
    let options = options(&mut fields, context.directory());
    let places = fields.places();
    let name = name.ok()?;
    let spec = ServiceSpec {
        name,
        line: entry.at.line,
        command,
        workers,
        directory: directory.unwrap_or_else(|| context.directory().to_owned()),
        environment,
        policy,
        canary,
        options,
    };
    Some(PlacedService { spec, is_whole: faults.len() == before, places })
}

/// The variables of the env files and of `env`, the one that counts last.
fn layers(fields: &mut Fields<'_>, context: &FileContext<'_>) -> Vec<Vec<WrittenVariable>> {
    let mut layers = fields.env_files("env-file", context);
    layers.push(fields.variables("env"));
    layers
}

fn workers(fields: &mut Fields<'_>) -> WorkerCount {
    let one = WorkerCount::Number(1);
    let Some(node) = fields.get("workers") else { return one };
    match &node.value {
        FileValue::Text(text) if text == "auto" => WorkerCount::Auto,
        FileValue::Integer(number) if (1..=1024).contains(number) => {
            u16::try_from(*number).map_or(one, WorkerCount::Number)
        }
        _ => {
            fields.wrong("workers", node, "a number from 1 to 1024 or \"auto\"", "");
            one
        }
    }
}

/// The keys that are options of `run` by their kind.
fn options(fields: &mut Fields<'_>, directory: &Path) -> Vec<ServiceOption> {
    let mut options = Vec::new();
    for key in KEYS {
        let values = match key.kind {
            KeyKind::Switch | KeyKind::Negated => match fields.switch(key.name) {
                Some(is) if is == (key.kind == KeyKind::Switch) => Some(Vec::new()),
                _ => None,
            },
            KeyKind::One(kind) => fields
                .one(key.name, kind, directory)
                .filter(|value| value != key.default)
                .map(|value| vec![value]),
            KeyKind::Many(kind) => fields.many(key.name, kind, false),
            KeyKind::Pairs(kind) => fields.many(key.name, kind, true),
            KeyKind::Command
            | KeyKind::Workers
            | KeyKind::Directory
            | KeyKind::Variables
            | KeyKind::EnvFiles
            | KeyKind::Policy
            | KeyKind::Canary => None,
        };
        if let (Some(values), Some(option)) = (values, key.option()) {
            options.push(ServiceOption { option, values });
        }
    }
    options
}
