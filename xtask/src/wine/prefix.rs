//! A Wine of its own: a prefix in a temporary directory, and the programs in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::failure::WineFailure;

const WINE: &str = "/usr/lib/wine/wine64";
const WINESERVER: &str = "/usr/lib/wine/wineserver";
const GCC: &str = "x86_64-w64-mingw32-gcc";

/// Checks that Wine and MinGW are installed.
pub(super) fn check() -> Result<(), WineFailure> {
    if !Path::new(WINE).exists() {
        return Err(WineFailure::Missing(format!("{WINE} is not installed"), "wine64"));
    }
    let output = Command::new(GCC).arg("--version").output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(WineFailure::Missing(format!("{GCC} does not run"), "gcc-mingw-w64-x86-64")),
    }
}

/// The prefix, whose programs end and whose directory is removed with the value.
pub(super) struct Prefix {
    directory: PathBuf,
}

impl Prefix {
    /// Makes the prefix, with the library that Wine 8 lacks.
    pub(super) fn new() -> Result<Self, WineFailure> {
        let name = format!("sameport-wine-{}", std::process::id());
        let prefix = Self { directory: env::temp_dir().join(name) };
        fs::create_dir(&prefix.directory).map_err(|error| prefix.failed("mkdir", error))?;
        // `wineboot` would show a window for progress, and installers for two libraries.
        let output = prefix.wine().args(["wineboot", "--init"]).output();
        let output = output.map_err(|error| prefix.failed(WINE, error))?;
        if !output.status.success() {
            return Err(prefix.failed("wineboot", String::from_utf8_lossy(&output.stderr)));
        }
        prefix.wait();
        let source = include_str!("prng.c");
        let name = "bcryptprimitives.dll";
        let library = prefix.compile("prng.c", source, name, &["-shared", "-ladvapi32"])?;
        let system = prefix.directory.join("drive_c/windows/system32").join(name);
        fs::rename(library, system).map_err(|error| prefix.failed(name, error))?;
        Ok(prefix)
    }

    /// `wine-8.0 (Debian …)`.
    pub(super) fn version(&self) -> Result<String, WineFailure> {
        let output = self.wine().arg("--version").output();
        let output = output.map_err(|error| self.failed(WINE, error))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Compiles a C file.
    pub(super) fn compile(
        &self,
        source: &str,
        text: &str,
        object: &str,
        arguments: &[&str],
    ) -> Result<PathBuf, WineFailure> {
        let (source, object) = (self.directory.join(source), self.directory.join(object));
        fs::write(&source, text).map_err(|error| self.failed("write", error))?;
        let status = Command::new(GCC)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .args([&object, &source])
            // Libraries follow the files that use them.
            .args(arguments)
            .status();
        match status {
            Ok(status) if status.success() => Ok(object),
            Ok(status) => Err(self.failed(GCC, status)),
            Err(error) => Err(self.failed(GCC, error)),
        }
    }

    /// Runs a program to its end, in its own directory.
    pub(super) fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output, WineFailure> {
        let mut command = self.wine();
        command.arg(program).args(arguments);
        command.current_dir(crate::workspace::root());
        command.output().map_err(|error| self.failed(WINE, error))
    }

    fn wine(&self) -> Command {
        let mut command = Command::new(WINE);
        command
            .env("WINEPREFIX", &self.directory)
            .env("WINEDEBUG", "-all")
            // No debugger for a program that crashes, no installers, and no menus.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe,winedbg.exe=")
            .env("SAMEPORT_TEST_WINE", "8")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null());
        command
    }

    /// Waits until the programs of this prefix have ended.
    fn wait(&self) {
        let _ = Command::new(WINESERVER).arg("-w").env("WINEPREFIX", &self.directory).status();
    }

    /// Debian's Wine makes a directory in /tmp for the socket of the prefix's server, and leaves it. A file
    /// in the prefix has its name.
    fn remove_server_directory(&self) {
        let name = fs::read_to_string(self.directory.join("wineserver")).unwrap_or_default();
        let is_name = |rest: &str| rest.chars().all(char::is_alphanumeric);
        if name.strip_prefix("wine-").is_some_and(is_name) {
            let _ = fs::remove_dir_all(Path::new("/tmp").join(name));
        }
    }

    fn failed(&self, what: &str, error: impl std::fmt::Display) -> WineFailure {
        WineFailure::Failed(format!("{what}: {error} (prefix {})", self.directory.display()))
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        // Ends the programs of this prefix only.
        let kill = Command::new(WINESERVER).arg("-k").env("WINEPREFIX", &self.directory).status();
        if kill.is_ok() {
            self.wait();
        }
        self.remove_server_directory();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("warning: {}: {error}", self.directory.display());
        }
    }
}
