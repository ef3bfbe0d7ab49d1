//! `cargo xtask package`: what a user of the registry would get.
//!
//! Packages every published package and checks what its archive contains; runs the tests of the library with
//! the oldest versions of its dependencies; builds and runs a program that depends on the archive.

mod archives;
mod cargo;
mod fresh_user;
mod minimal;

use std::process::ExitCode;
use std::time::Instant;

use cargo::Outcome;

/// Package every published package, and use the packages as a user of the registry does
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Archives without surprising files, which compile without the rest of the repository
    Archives,
    /// The tests of the library with the oldest versions of its dependencies
    Minimal,
    /// A new program outside of the workspace, which depends on the archive of the library
    User,
}

type Work = fn() -> Outcome;

pub(crate) fn run(args: &Args) -> ExitCode {
    let parts: [(Part, &str, Work); 3] = [
        (Part::Archives, "archives", archives::verify),
        (Part::Minimal, "oldest dependencies", minimal::test),
        (Part::User, "a user's program", fresh_user::run),
    ];
    let mut code = ExitCode::SUCCESS;
    for (part, name, work) in parts {
        if args.only.is_some_and(|only| only != part) {
            continue;
        }
        let since = Instant::now();
        let (verdict, text) = match work() {
            Ok(text) => ("ok", text),
            Err(text) => {
                code = ExitCode::FAILURE;
                ("FAILED", text)
            }
        };
        eprintln!("{}\n{name}: {verdict}, {} s", text.trim_end(), since.elapsed().as_secs());
    }
    code
}
