//! `cargo xtask dist`: the files of a release, in `target/dist`.
//!
//! For each architecture a static executable, an archive, a Debian package and a container image, then
//! `SHA256SUMS`. The
//! same commit gives the same bytes, in any directory and at any time.

mod architecture;
mod compile;
mod elf;
mod licences;
mod package;
mod steps;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::workspace::target_folder;
use architecture::Architecture;
use compile::Executable;
use steps::{ReleaseError, output_of, step};

/// Make the files of a release: static executables, archives, Debian packages, container images, checksums
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these architectures
    #[arg(value_enum)]
    architectures: Vec<Architecture>,

    /// The directory of the files [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let Err(failure) = release(args) else { return ExitCode::SUCCESS };
    eprintln!("error: {failure}");
    match failure {
        ReleaseError::Missing(_, hint) => {
            eprintln!("hint: {hint}");
            ExitCode::from(3)
        }
        ReleaseError::Step(_) => ExitCode::FAILURE,
    }
}

fn release(args: &Args) -> Result<(), ReleaseError> {
    let out = match &args.out {
        // The steps run in the root of the project.
        Some(out) => {
            env::current_dir().map_err(|error| step("current directory", error))?.join(out)
        }
        None => target_folder().join("dist"),
    };
    let architectures = ordered(&args.architectures);
    for architecture in &architectures {
        compile::check_tools(*architecture)?;
    }
    package::check_tools()?;
    let epoch = source_date_epoch()?;

    let mut built = Vec::new();
    for architecture in architectures {
        eprintln!("[{}] compiling, with the profile dist", architecture.name());
        let executable = compile::executable(architecture)?;
        compile::check_static(&executable)?;
        built.push(executable);
    }
    let generator = generator(&built)?;
    let files = package::all(&built, &generator, &epoch, &out)?;
    package::checksums(&files, &out)?;
    for file in &files {
        println!("{:>9} bytes  {}", file.size, out.join(&file.name).display());
    }
    println!("{}", out.join(package::CHECKSUMS).display());
    Ok(())
}

/// The chosen architectures, or all, that of this machine first: its executable makes the manual pages.
fn ordered(chosen: &[Architecture]) -> Vec<Architecture> {
    let mut all = Architecture::ALL.to_vec();
    all.retain(|architecture| chosen.is_empty() || chosen.contains(architecture));
    all.sort_by_key(|architecture| !architecture.is_here());
    all
}

/// A sameport that runs here, for the manual pages and the completions.
fn generator(built: &[Executable]) -> Result<PathBuf, ReleaseError> {
    match built.iter().find(|executable| executable.architecture.is_here()) {
        Some(native) => Ok(native.path.clone()),
        None => compile::for_this_machine(),
    }
}

/// The time of all files in the packages: `SOURCE_DATE_EPOCH`, otherwise the time of the commit.
fn source_date_epoch() -> Result<String, ReleaseError> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        let number = epoch.parse::<u64>();
        return number
            .map(|number| number.to_string())
            .map_err(|error| step(&format!("SOURCE_DATE_EPOCH={epoch}"), error));
    }
    let output = output_of(Command::new("git").args(["log", "-1", "--format=%ct"]));
    output.map(|text| text.trim().to_owned()).map_err(|failure| {
        let hint = "SOURCE_DATE_EPOCH=SECONDS cargo xtask dist".to_owned();
        ReleaseError::Missing(format!("no time of the last commit: {failure}"), hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_of_this_machine_is_first() {
        assert_eq!(ordered(&[]).len(), 2);
        assert_eq!(ordered(&[Architecture::Arm]), [Architecture::Arm]);
        let twice = [Architecture::Arm, Architecture::X86, Architecture::Arm];
        assert_eq!(ordered(&twice), ordered(&[]));
        if env::consts::ARCH == "aarch64" {
            assert_eq!(ordered(&[])[0], Architecture::Arm);
        } else {
            assert_eq!(ordered(&[])[0], Architecture::X86);
        }
    }
}
