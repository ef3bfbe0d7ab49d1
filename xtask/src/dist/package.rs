//! Archives, Debian packages, container images and checksums. `packaging/package.sh` knows which file goes where.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::compile::Executable;
use super::licences;
use super::steps::{ReleaseError, build_folder, output_of, step};
use crate::workspace::root;

/// The file for `sha256sum -c`.
pub(super) const CHECKSUMS: &str = "SHA256SUMS";

const SCRIPT: &str = "packaging/package.sh";

/// A file of the release.
pub(super) struct Packed {
    pub(super) name: String,
    pub(super) size: u64,
    sum: String,
}

/// Checks that the programs of the script are installed. GNU tar and coreutils are on every Debian.
pub(super) fn check_tools() -> Result<(), ReleaseError> {
    output_of(Command::new("dpkg-deb").arg("--version")).map(|_| ()).map_err(|failure| {
        ReleaseError::Missing(
            format!("no Debian packages: {failure}"),
            "apt-get install dpkg".into(),
        )
    })
}

/// The archive, the Debian package and the container image of each executable.
pub(super) fn all(
    built: &[Executable],
    generator: &Path,
    epoch: &str,
    out: &Path,
) -> Result<Vec<Packed>, ReleaseError> {
    fs::create_dir_all(out).map_err(|error| step(&out.display().to_string(), error))?;
    let mut files = Vec::new();
    for executable in built {
        let target = executable.architecture.target();
        let notices = build_folder().join(&target).join("dist/LICENCES");
        fs::write(&notices, licences::of_target(&target)?)
            .map_err(|error| step(&notices.display().to_string(), error))?;
        for kind in ["archive", "deb", "image"] {
            let mut command = Command::new(root().join(SCRIPT));
            command.args([kind, env!("CARGO_PKG_VERSION"), executable.architecture.name()]);
            command.args([&executable.path, generator, &notices, out]);
            let name = output_of(command.env("SOURCE_DATE_EPOCH", epoch))?.trim().to_owned();
            let size = fs::metadata(out.join(&name)).map_err(|error| step(&name, error))?.len();
            let sum = sum(&name, out)?;
            files.push(Packed { name, size, sum });
        }
    }
    for file in files.iter().filter(|file| file.name.ends_with(".deb")) {
        lint(&out.join(&file.name))?;
    }
    Ok(files)
}

/// The line of `sha256sum` about a file in a directory.
fn sum(name: &str, directory: &Path) -> Result<String, ReleaseError> {
    let line = "cd -- \"$1\" && exec sha256sum -- \"$2\"";
    output_of(Command::new("sh").args(["-c", line, "sh"]).arg(directory).arg(name))
}

/// Writes the checksums of all files, and reads them again as a user does.
pub(super) fn checksums(files: &[Packed], out: &Path) -> Result<(), ReleaseError> {
    let mut lines: Vec<&str> = files.iter().map(|file| &*file.sum).collect();
    lines.sort_by_key(|line| line.split_whitespace().nth(1));
    let path = out.join(CHECKSUMS);
    fs::write(&path, lines.concat()).map_err(|error| step(&path.display().to_string(), error))?;
    let line = format!("cd -- \"$1\" && exec sha256sum --strict --quiet -c {CHECKSUMS}");
    output_of(Command::new("sh").args(["-c", &line, "sh"]).arg(out)).map(|_| ())
}

/// Checks a Debian package for errors, if lintian is installed.
fn lint(deb: &Path) -> Result<(), ReleaseError> {
    let name = deb.display();
    if output_of(Command::new("lintian").arg("--version")).is_err() {
        eprintln!("skipped: {name} was not checked: apt-get install lintian");
        return Ok(());
    }
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error"]).arg(deb);
    let output = command.stdin(Stdio::null()).output().map_err(|error| step("lintian", error))?;
    let _ = std::io::stderr().write_all(&output.stdout);
    if output.status.success() {
        eprintln!("lintian: no error in {name}");
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(ReleaseError::Step(format!("lintian {name}: {}\n{errors}", output.status)))
}
