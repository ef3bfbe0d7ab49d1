//! `Procfile`: `NAME: COMMAND`, one a line, as foreman reads it.
//!
//! Each command is run by `sh -c`, with one worker and the variables of `.env` beside the file. PORT is that of `.env`, else
//! 5000, plus 100 for each line before: the first gets 5000, the second 5100.

use std::path::Path;

use super::environment::{ValuePart, WrittenVariable, resolve};
use super::fault::ServiceFault;
use super::model::{ServiceFile, ServiceSpec, WorkerCount};
use super::tree::{FilePosition, quoted};
use crate::model::name::RunName;

/// The PORT of the first line.
const FIRST_PORT: u16 = 5000;

/// The distance from one PORT to the next.
const STEP: u16 = 100;

/// A line of a Procfile.
struct ProcfileLine {
    name: RunName,
    line: usize,
    command: String,
}

/// Reads a file. `path`: the file, absolute; `variables`: those of `.env`; `caller`: the environment of the caller.
///
/// # Errors
///
/// Every line that is no service.
pub fn read(
    text: &str,
    path: &Path,
    variables: &[WrittenVariable],
    caller: &dyn Fn(&str) -> Option<String>,
) -> Result<ServiceFile, Vec<ServiceFault>> {
    let (lines, mut faults) = lines(text);
    let environment = resolve(&[variables.to_vec()], caller).unwrap_or_else(|more| {
        faults.extend(more);
        Vec::new()
    });
    let base = match variables.iter().find(|variable| variable.name == "PORT") {
        None => FIRST_PORT,
        Some(written) => {
            let port = environment.iter().find(|(name, _)| name == "PORT");
            port.and_then(|(_, port)| port.parse().ok()).unwrap_or_else(|| {
                faults.push(not_a_port(written));
                FIRST_PORT
            })
        }
    };
    let mut services = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        let port =
            u16::try_from(index).ok().and_then(|index| base.checked_add(index.checked_mul(STEP)?));
        let Some(port) = port else {
            let at = FilePosition { line: line.line, column: 1 };
            faults.push(
                ServiceFault::new(at, format!("{}: its PORT would be above 65535", line.name))
                    .hint("each line has 100 more than the one before: set a lower PORT in .env"),
            );
            continue;
        };
        services.push(service(line, port, path, &environment));
    }
    if services.is_empty() && faults.is_empty() {
        let at = FilePosition { line: 1, column: 1 };
        faults.push(ServiceFault::new(at, "the file has no service").hint("write NAME: COMMAND"));
    }
    if faults.is_empty() {
        return Ok(ServiceFile { path: path.to_owned(), services });
    }
    faults.sort();
    faults.dedup();
    Err(faults)
}

fn not_a_port(written: &WrittenVariable) -> ServiceFault {
    let value: String = written
        .value
        .iter()
        .map(|part| match part {
            ValuePart::Text(text) => text.clone(),
            ValuePart::Reference { name, .. } => format!("${{{name}}}"),
        })
        .collect();
    let message = format!("PORT must be a number from 1 to 65535, not {}", quoted(&value));
    ServiceFault { file: written.file.clone(), ..ServiceFault::new(written.at, message) }
}

fn service(
    line: ProcfileLine,
    port: u16,
    path: &Path,
    environment: &[(String, String)],
) -> ServiceSpec {
    let mut environment: Vec<(String, String)> =
        environment.iter().filter(|(name, _)| name != "PORT").cloned().collect();
    environment.push(("PORT".into(), port.to_string()));
    environment.sort();
    ServiceSpec {
        name: line.name,
        line: line.line,
        command: ["sh".into(), "-c".into(), line.command].into(),
        workers: WorkerCount::Number(1),
        directory: path.parent().unwrap_or(path).to_owned(),
        environment,
        policy: None,
        canary: None,
        options: Vec::new(),
    }
}

/// The lines that are services, and what is wrong with the others.
fn lines(text: &str) -> (Vec<ProcfileLine>, Vec<ServiceFault>) {
    let mut lines: Vec<ProcfileLine> = Vec::new();
    let mut faults = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, whole) in text.lines().enumerate() {
        let line = whole.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let column = whole.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let at = FilePosition { line: index + 1, column };
        match read_line(line, at) {
            Err(fault) => faults.push(fault),
            Ok(read) => match lines.iter().find(|other| other.name == read.name) {
                Some(other) => faults.push(
                    ServiceFault::new(
                        at,
                        format!("{} is there twice: also in line {}", read.name, other.line),
                    )
                    .hint("give one of the two another name"),
                ),
                None => lines.push(read),
            },
        }
    }
    (lines, faults)
}

fn read_line(line: &str, at: FilePosition) -> Result<ProcfileLine, ServiceFault> {
    let Some((name, command)) = line.split_once(':') else {
        return Err(ServiceFault::new(at, format!("{} is no service", quoted(line)))
            .hint("write NAME: COMMAND, or # before a comment"));
    };
    let name = name
        .trim_end()
        .parse()
        .map_err(|error| ServiceFault::new(at, format!("{error}")).hint("write NAME: COMMAND"))?;
    let command = command.trim();
    if command.is_empty() || command.contains('\0') {
        let what = if command.is_empty() { "has no command" } else { "has a NUL in its command" };
        return Err(ServiceFault::new(at, format!("{name} {what}")).hint("write NAME: COMMAND"));
    }
    Ok(ProcfileLine { name, line: at.line, command: command.to_owned() })
}
