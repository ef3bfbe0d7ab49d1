//! Env files: `NAME=VALUE`, one a line, as docker, foreman and the libraries called dotenv read them.
//!
//! A line may begin with `export`. A value without quotes ends at ` #` or the end of its line. `'…'` is
//! taken as it is, `"…"` with the escapes `\n`, `\r`, `\t`, `\\`, `\"` and `\$`; both may have several lines. References
//! are those of [`environment`](super::environment), except in `'…'`.

use std::collections::BTreeMap;

use super::environment::{ValuePart, WrittenVariable, is_name, parts};
use super::fault::ServiceFault;
use super::tree::{FileLines, quoted};
use crate::launch;

/// Reads a file. `file`: its name for messages.
///
/// # Errors
///
/// Every line that is no variable.
pub fn read(text: &str, file: &str) -> Result<Vec<WrittenVariable>, Vec<ServiceFault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = FileLines::of(text);
    let mut variables: Vec<WrittenVariable> = Vec::new();
    let mut set_in: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        let end = line_end(text, start);
        at = end + 1;
        let line = text[start..end].trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match variable(&lines, start, end) {
            Ok((read, next)) => {
                at = next;
                let read = WrittenVariable { file: Some(file.to_owned()), ..read };
                match set_in.get(&read.name) {
                    Some(line) => faults.push(
                        ServiceFault::new(
                            read.at,
                            format!("{} is set twice: also in line {line}", read.name),
                        )
                        .hint("keep one of the two lines")
                        .in_file(file),
                    ),
                    None => {
                        set_in.insert(read.name.clone(), read.at.line);
                        variables.push(read);
                    }
                }
            }
            Err(fault) => faults.push(fault.in_file(file)),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |at| from + at)
}

/// The variable of the line from `start` to `end`, and where the next line begins.
fn variable(
    lines: &FileLines<'_>,
    start: usize,
    end: usize,
) -> Result<(WrittenVariable, usize), ServiceFault> {
    let text = lines.text();
    let line = &text[start..end];
    let first = start + (line.len() - line.trim_start().len());
    let here = lines.position(first);
    let mut begin = first;
    if let Some(after) = text[begin..end].strip_prefix("export")
        && after.starts_with([' ', '\t'])
    {
        begin = end - after.trim_start().len();
    }
    let Some(equals) = text[begin..end].find('=') else {
        let message = format!("{} sets no variable", quoted(line.trim()));
        return Err(
            ServiceFault::new(here, message).hint("write NAME=VALUE, or # before a comment")
        );
    };
    let name = text[begin..begin + equals].trim_end();
    if !is_name(name) {
        let message = format!("{} is not the name of a variable", quoted(name));
        return Err(ServiceFault::new(here, message)
            .hint("write NAME=VALUE; a name has letters, digits and _, and no digit first"));
    }
    if let Err(error) = launch::variable(format!("{name}=").as_bytes()) {
        return Err(ServiceFault::new(here, format!("{name}: {error}")));
    }
    let value_start = begin + equals + 1;
    let spaces = text[value_start..end].len() - text[value_start..end].trim_start().len();
    let from = value_start + spaces;
    let at = lines.position(from.min(end));
    let (value, next) = value(text, from.min(end), end).map_err(|m| ServiceFault::new(at, m))?;
    Ok((WrittenVariable { name: name.to_owned(), file: None, at, value }, next))
}

/// The value that begins at `from`, and where the next line begins.
fn value(text: &str, from: usize, end: usize) -> Result<(Vec<ValuePart>, usize), String> {
    let (literal, close) = match text[from..].chars().next() {
        Some('\'') => {
            let length = text[from + 1..].find('\'').ok_or("the quote ' has no end")?;
            let inner = text[from + 1..from + 1 + length].to_owned();
            (vec![ValuePart::Text(inner)], from + length + 2)
        }
        Some('"') => double_quoted(text, from)?,
        _ => {
            let value = &text[from..end];
            let comment = value.char_indices().find(|(at, c)| {
                *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace)
            });
            let value = comment.map_or(value, |(at, _)| &value[..at]).trim_end();
            return no_nul(value).and_then(|()| Ok((parts(value)?, end + 1)));
        }
    };
    for part in &literal {
        if let ValuePart::Text(text) = part {
            no_nul(text)?;
        }
    }
    let end = line_end(text, close);
    let after = text[close..end].trim();
    match after.is_empty() || after.starts_with('#') {
        true => Ok((literal, end + 1)),
        false => Err(format!("{} follows the closing quote", quoted(after))),
    }
}

fn no_nul(text: &str) -> Result<(), String> {
    match text.contains('\0') {
        true => Err("the value has a NUL, which no variable can have".into()),
        false => Ok(()),
    }
}

/// The value in double quotes that begins at `from`, and the place behind it.
fn double_quoted(text: &str, from: usize) -> Result<(Vec<ValuePart>, usize), String> {
    let mut value = String::new();
    let mut characters = text[from + 1..].char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Ok((parts(&value)?, from + 1 + at + 1)),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, '$')) => value.push_str("$$"),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("the quote \" has no end".into())
}
