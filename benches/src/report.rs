//! Output: tables for people, JSON for programs.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::BenchError;

/// A row of a table.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$($cell.to_string()),+] };
}
pub(crate) use row;

/// The destination of figures.
pub(crate) struct FigureReport {
    json: Option<Box<dyn Write>>,
    tables: bool,
}

/// The measured machine.
#[derive(Debug, Serialize)]
struct BenchMachine {
    cpus: usize,
    kernel: String,
    arch: &'static str,
    build: &'static str,
}

#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    benchmark: &'a str,
    machine: BenchMachine,
    results: &'a T,
}

impl FigureReport {
    /// Opens the file before the measurement, so that a path that is not writable fails at once.
    pub(crate) fn open(json: Option<&Path>) -> Result<Self, String> {
        Ok(match json {
            None => Self { json: None, tables: true },
            Some(path) if path == Path::new("-") => {
                Self { json: Some(Box::new(io::stdout())), tables: false }
            }
            Some(path) => {
                let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Self { json: Some(Box::new(file)), tables: true }
            }
        })
    }

    /// Prints a table: the first row is the heading, the first column is left-aligned, the others
    /// right-aligned.
    pub(crate) fn table(&self, rows: &[Vec<String>]) -> Result<(), BenchError> {
        if !self.tables {
            return Ok(());
        }
        io::stdout().write_all(laid_out(rows).as_bytes()).map_err(|e| format!("stdout: {e}"))
    }

    /// Ends the report: prints the machine, and writes the JSON if it was requested.
    pub(crate) fn end(
        &mut self,
        benchmark: &str,
        results: &impl Serialize,
    ) -> Result<(), BenchError> {
        self.table(&[row![machine().sentence()]])?;
        let Some(to) = &mut self.json else { return Ok(()) };
        let document = Document { version: 1, benchmark, machine: machine(), results };
        let text = serde_json::to_string_pretty(&document).map_err(|e| format!("JSON: {e}"))?;
        writeln!(to, "{text}").and_then(|()| to.flush()).map_err(|e| format!("--json: {e}"))
    }
}

impl BenchMachine {
    fn sentence(&self) -> String {
        format!(
            "{} processors, Linux {}, {}, {} build; loopback only",
            self.cpus, self.kernel, self.arch, self.build
        )
    }
}

fn machine() -> BenchMachine {
    BenchMachine {
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned()),
        arch: std::env::consts::ARCH,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    }
}

fn laid_out(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints the progress of a long measurement on stderr.
pub(crate) fn progress(text: &str) {
    // A closed stderr does not end the measurement.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_set_to_the_left_and_figures_to_the_right() {
        let rows = [row!["name", "µs"], row!["a longer one", 7], row!["b", 12.5]];
        assert_eq!(laid_out(&rows), "name            µs\na longer one     7\nb             12.5\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_at_once() {
        let error = FigureReport::open(Some(Path::new("/nowhere/at/all"))).err();
        assert!(error.is_some_and(|text| text.starts_with("/nowhere/at/all: ")));
    }
}
