//! `cargo xtask survey`: how readable the tree is, in numbers.

mod dialect;
mod measure;
mod table;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use source_tree::sources;

/// Measure files, functions, type names, import cycles and comments
#[derive(clap::Args)]
pub(crate) struct Args {
    /// List the dialect markers of comments, with their lines
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "list")]
    json: bool,
    /// Measure another checkout of the project
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match survey(args) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the list needs no more of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn survey(args: &Args) -> io::Result<()> {
    let root = args.root.as_deref().unwrap_or(crate::workspace::root());
    let named = |error| io::Error::other(format!("{}: {error}", root.display()));
    let root = root.canonicalize().map_err(named)?;
    let sources = sources(&root);
    let mut stdout = io::stdout().lock();
    if args.list {
        for source in &sources {
            for it in source.comments().iter().flat_map(dialect::markers) {
                writeln!(stdout, "{}:{}: {}: {}", source.path, it.line, it.phrase, it.sentence)?;
            }
        }
        return Ok(());
    }
    let survey = measure::Survey::of(&sources);
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &survey)?;
        return writeln!(stdout);
    }
    stdout.write_all(table::text(&survey).as_bytes())
}
