//! `cargo xtask record`: runs the session of the README, and draws `docs/session.svg`.

use std::process::{Command, ExitCode};

use sameport_console::{Page, SESSION, draw};

/// Run the session of the README, and draw it: docs/session.md and docs/session.svg
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Draw docs/session.md as it is
    #[arg(long)]
    draw: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match record(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn record(args: &Args) -> Result<(), String> {
    if !args.draw {
        run_session()?;
    }
    let docs = crate::workspace::root().join("docs");
    let page = docs.join("session.md");
    let text = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    let mut steps = vec![];
    for block in Page::new(&text).blocks() {
        steps.extend(block.steps().map_err(|why| format!("{}: {why}", page.display()))?);
    }
    let picture = docs.join("session.svg");
    std::fs::write(&picture, draw(&steps, SESSION))
        .map_err(|e| format!("{}: {e}", picture.display()))
}

/// The test of the page writes what the commands print.
fn run_session() -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let test = ["test", "--quiet", "--package", "sameport-cli", "--test", "documents", "--"];
    let mut command = Command::new(&cargo);
    command.args(test).args(["--exact", "session"]).env("SAMEPORT_DOCS", "record");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the session failed: {status}")),
        Err(error) => Err(format!("{}: {error}", cargo.display())),
    }
}
