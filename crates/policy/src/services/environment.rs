//! The variables of a service: references are replaced by values.
//!
//! `${NAME}` is the value that the program gets for NAME: of `env`, else of the last `env-file` that has
//! it, else of the environment of the caller. In the value of NAME itself, `${NAME}` is the value that the program would
//! get without this line. A variable that is nowhere is an error, unless the reference has a default: `${NAME:-default}`, which
//! also stands for an empty value. `$$` is a dollar sign; a `$` before anything else is itself.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::ServiceFault;
use super::tree::{FilePosition, quoted};
use crate::launch;

/// MAX_ARG_STRLEN of the kernel (include/uapi/linux/binfmts.h): execve(2) refuses a longer string.
const LONGEST: usize = 128 * 1024 - 1;

/// The longest chain of references. A longer one would need more stack than a thread may have.
const DEEPEST: usize = 100;

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// This text.
    Text(String),
    /// The value of a variable.
    Reference {
        /// The name of the variable.
        name: String,
        /// The value where it is not set or empty.
        default: Option<String>,
    },
}

/// A variable as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenVariable {
    /// Its name.
    pub name: String,
    /// The file, if it is not the file of services itself.
    pub file: Option<String>,
    /// The place of the value.
    pub at: FilePosition,
    /// The value.
    pub value: Vec<ValuePart>,
}

/// Splits a text at its references.
///
/// # Errors
///
/// What is wrong with a reference: one line.
pub fn parts(text: &str) -> Result<Vec<ValuePart>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let Some(end) = inner.find('}') else {
                return Err("a reference has no end: write ${NAME}, or $$ for a dollar sign".into());
            };
            if !literal.is_empty() {
                parts.push(ValuePart::Text(std::mem::take(&mut literal)));
            }
            parts.push(reference(&inner[..end])?);
            rest = &inner[end + 1..];
        } else {
            literal.push('$');
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(ValuePart::Text(literal));
    }
    Ok(parts)
}

fn reference(inner: &str) -> Result<ValuePart, String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (inner, None),
    };
    match is_name(name) {
        true => Ok(ValuePart::Reference { name: name.to_owned(), default }),
        false => Err(format!(
            "{} is no reference: write ${{NAME}} or ${{NAME:-default}}, or $$ for a dollar sign",
            quoted(&format!("${{{inner}}}"))
        )),
    }
}

/// Whether a reference can name this variable: letters, digits and `_`, no digit first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A variable of the file of services. `at`: the place of its name.
///
/// # Errors
///
/// A name that no variable has or that sameport sets itself, and a wrong reference.
pub(super) fn written(
    name: &str,
    text: &str,
    at: FilePosition,
) -> Result<WrittenVariable, ServiceFault> {
    let fault = |message: &str| ServiceFault::new(at, format!("{name}: {message}"));
    // A name with a dash first would be an option of `run`.
    if name.is_empty() || name.starts_with('-') || name.contains(['=', '\0']) {
        let message = format!("{} is not the name of a variable", quoted(name));
        return Err(ServiceFault::new(at, message));
    }
    if let Err(error) = launch::variable(format!("{name}=").as_bytes()) {
        return Err(fault(error));
    }
    let value = parts(text).map_err(|error| fault(&error))?;
    match text.contains('\0') {
        true => Err(fault("the value has a NUL, which no variable can have")),
        false => Ok(WrittenVariable { name: name.to_owned(), file: None, at, value }),
    }
}

/// The values of all variables, sorted by name. `layers`: the files in the order of the service, then `env`; a later
/// layer counts. `caller`: the variables of the caller.
///
/// # Errors
///
/// Every reference that has no value: to a variable that is nowhere, or to itself.
pub fn resolve(
    layers: &[Vec<WrittenVariable>],
    caller: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, Vec<ServiceFault>> {
    let mut resolver = Resolver { written: BTreeMap::new(), caller, known: BTreeMap::new() };
    for variable in layers.iter().flatten() {
        resolver.written.entry(&variable.name).or_default().push(variable);
    }
    // Each variable of a circle has the same fault.
    let mut faults: BTreeSet<ServiceFault> = BTreeSet::new();
    let mut values = Vec::new();
    let names: Vec<&str> = resolver.written.keys().copied().collect();
    for name in names {
        match resolver.value_of(name, &mut Vec::new()) {
            Ok(Some(value)) => values.push((name.to_owned(), value)),
            Ok(None) => {}
            Err(fault) => drop(faults.insert(fault)),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults.into_iter().collect()) }
}

/// The state of a resolution.
struct Resolver<'a> {
    /// The lines of each variable; the last counts.
    written: BTreeMap<&'a str, Vec<&'a WrittenVariable>>,
    caller: &'a dyn Fn(&str) -> Option<String>,
    /// The results so far, by name and number of the line.
    known: BTreeMap<(&'a str, usize), Result<String, ServiceFault>>,
}

impl<'a> Resolver<'a> {
    /// The value that the program gets. `above`: the names whose values refer to it.
    fn value_of(
        &mut self,
        name: &str,
        above: &mut Vec<&'a str>,
    ) -> Result<Option<String>, ServiceFault> {
        let Some((&name, lines)) = self.written.get_key_value(name) else {
            return Ok((self.caller)(name));
        };
        let last = lines.len() - 1;
        self.line(name, last, above).map(Some)
    }

    /// The value of one line of a variable.
    fn line(
        &mut self,
        name: &'a str,
        line: usize,
        above: &mut Vec<&'a str>,
    ) -> Result<String, ServiceFault> {
        if let Some(known) = self.known.get(&(name, line)) {
            return known.clone();
        }
        let variable = self.written[name][line];
        if let Some(start) = above.iter().position(|other| *other == name) {
            return Err(circle(variable, &above[start..]));
        }
        if above.len() >= DEEPEST {
            let message = format!("{} is more than {DEEPEST} references deep", variable.name);
            return Err(
                fault(variable, message).hint("write some of the values without references")
            );
        }
        above.push(name);
        let value = self.expand(variable, line, above);
        above.pop();
        self.known.insert((name, line), value.clone());
        value
    }

    fn expand(
        &mut self,
        variable: &'a WrittenVariable,
        line: usize,
        above: &mut Vec<&'a str>,
    ) -> Result<String, ServiceFault> {
        let mut text = String::new();
        for part in &variable.value {
            match part {
                ValuePart::Text(literal) => text.push_str(literal),
                ValuePart::Reference { name, default } => {
                    let value = match *name == variable.name {
                        true => self.without_line(variable, line, above)?,
                        false => self.value_of(name, above)?,
                    };
                    let value = value.filter(|value| default.is_none() || !value.is_empty());
                    let value = value.or_else(|| default.clone());
                    text.push_str(&value.ok_or_else(|| undefined(variable, name))?);
                }
            }
            if text.len() > LONGEST {
                let message = format!("{} is longer than 128 KiB", variable.name);
                return Err(fault(variable, message)
                    .hint("execve(2) takes no longer string: put the text into a file"));
            }
        }
        Ok(text)
    }

    /// The value of a variable that refers to itself, without the line that does.
    fn without_line(
        &mut self,
        variable: &'a WrittenVariable,
        line: usize,
        above: &mut Vec<&'a str>,
    ) -> Result<Option<String>, ServiceFault> {
        let Some(earlier) = line.checked_sub(1) else {
            return Ok((self.caller)(&variable.name));
        };
        // The name is the one that is being resolved, and no circle.
        let own = above.pop();
        let value = self.line(&variable.name, earlier, above);
        above.extend(own);
        value.map(Some)
    }
}

fn fault(variable: &WrittenVariable, message: String) -> ServiceFault {
    ServiceFault { file: variable.file.clone(), ..ServiceFault::new(variable.at, message) }
}

fn undefined(variable: &WrittenVariable, name: &str) -> ServiceFault {
    fault(
        variable,
        format!("{}: {name} is not set, in no env file and not by the caller", variable.name),
    )
    .hint(format!("set it, or write ${{{name}:-default}}, or $${{{name}}} for this text itself"))
}

/// The fault of a circle, which names the same place and path wherever the search began.
fn circle(variable: &WrittenVariable, path: &[&str]) -> ServiceFault {
    let path: Vec<&str> = path.iter().copied().chain([variable.name.as_str()]).collect();
    fault(variable, format!("{} refers to itself: {}", variable.name, path.join(" -> ")))
        .hint("give one of these variables a value without a reference to the others")
}
