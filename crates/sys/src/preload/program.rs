//! Whether a program can load the preload library, told before it is started.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::elf;
use super::elf::ElfHead;
use crate::process::{FileCapability, file_capability, find_in_path};

/// Whether a program will load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loadable {
    /// It is a dynamic program of this machine; or a script, and its interpreter is.
    Yes,
    /// It will not, or will not be reached by it.
    No {
        /// The program, or the interpreter that stands in its first line.
        file: PathBuf,
        /// Why.
        obstacle: Obstacle,
    },
    /// Only starting it will show.
    CouldNotTell {
        /// The program, or the interpreter that stands in its first line.
        file: PathBuf,
        /// Why.
        doubt: LoadDoubt,
    },
}

/// Why a program cannot be reached by LD_PRELOAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Statically linked: no dynamic linker runs, so nothing is loaded.
    Static,
    /// A Go program: even a dynamic one calls the kernel itself.
    Go,
    /// For another machine, or a 32-bit one.
    OtherMachine,
    /// It gains a privilege when executed, and the dynamic linker then ignores LD_PRELOAD.
    GainsPrivilege(FileCapability),
}

/// Why it could not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadDoubt {
    /// The file cannot be read (a program may be executable and not readable).
    Unreadable(std::io::ErrorKind),
    /// Neither an ELF file nor a script with an interpreter: the system may know what to do with it.
    UnknownFormat,
    /// Interpreters that are scripts themselves, deeper than the kernel follows them.
    Nested,
}

/// How many interpreters the kernel follows (`exec_binprm` in `fs/exec.c`).
const DEEPEST: usize = 5;

/// Looks whether a program will load the library. `search_path`: where `#!/usr/bin/env NAME` finds
/// its program.
///
/// A script is its interpreter; what that one starts is not known. Nothing is executed.
#[must_use]
pub fn check_program(program: &Path, search_path: Option<&OsStr>) -> Loadable {
    let mut file = program.to_owned();
    for _ in 0..DEEPEST {
        let head = match head_of(&file) {
            Ok(head) => head,
            Err(error) => {
                return Loadable::CouldNotTell { file, doubt: LoadDoubt::Unreadable(error.kind()) };
            }
        };
        if let Some(line) = head.strip_prefix(b"#!") {
            let Some(next) = interpreter(line, search_path) else {
                return Loadable::CouldNotTell { file, doubt: LoadDoubt::UnknownFormat };
            };
            file = next;
            continue;
        }
        if !head.starts_with(b"\x7fELF") {
            return Loadable::CouldNotTell { file, doubt: LoadDoubt::UnknownFormat };
        }
        let Some(elf) = elf::read(&head) else {
            return Loadable::CouldNotTell { file, doubt: LoadDoubt::UnknownFormat };
        };
        return match obstacle(&file, elf) {
            Some(obstacle) => Loadable::No { file, obstacle },
            None => Loadable::Yes,
        };
    }
    Loadable::CouldNotTell { file, doubt: LoadDoubt::Nested }
}

fn obstacle(file: &Path, elf: ElfHead) -> Option<Obstacle> {
    // EM_X86_64, EM_AARCH64, EM_RISCV; elsewhere the library does not exist.
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => 0,
    };
    if !elf.is_ours || elf.machine != machine {
        return Some(Obstacle::OtherMachine);
    }
    if !elf.is_dynamic {
        return Some(Obstacle::Static);
    }
    if elf.is_go {
        return Some(Obstacle::Go);
    }
    file_capability(file).map(Obstacle::GainsPrivilege)
}

fn head_of(file: &Path) -> std::io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut head = Vec::new();
    File::open(file)?.take(elf::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The program that the rest of a `#!` line names: its first word; behind `env`, the second.
fn interpreter(line: &[u8], search_path: Option<&OsStr>) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let first = PathBuf::from(OsStr::from_bytes(words.next()?));
    if first.file_name() == Some(OsStr::new("env")) {
        let word = words.next()?;
        // An option or a variable comes first: env itself is all that we know.
        if !word.starts_with(b"-") && !word.contains(&b'=') {
            return find_in_path(OsStr::from_bytes(word), search_path);
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &[u8]) -> Loadable {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, text).unwrap();
        check_program(&file, Some(OsStr::new("/usr/bin:/bin")))
    }

    #[test]
    fn scripts_are_their_interpreters() {
        assert_eq!(check_program(Path::new("/bin/sh"), None), Loadable::Yes);
        for text in
            ["#!/bin/sh\n", "#! /bin/sh -e\nx", "#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh\n"]
        {
            assert_eq!(checked(text.as_bytes()), Loadable::Yes, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        for text in
            [&b""[..], b"plain text", b"#!\n", b"#!/usr/bin/env", b"\x7fELF", b"\x7fELF\x02\x01"]
        {
            let told = checked(text);
            assert!(matches!(told, Loadable::CouldNotTell { .. }), "{text:?}: {told:?}");
        }
        let gone = check_program(Path::new("/nowhere"), None);
        let doubt = LoadDoubt::Unreadable(std::io::ErrorKind::NotFound);
        assert_eq!(gone, Loadable::CouldNotTell { file: "/nowhere".into(), doubt });
        assert!(matches!(check_program(Path::new("/"), None), Loadable::CouldNotTell { .. }));
    }

    #[test]
    fn scripts_that_name_each_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("itself");
        std::fs::write(&file, format!("#!{}\n", file.display())).unwrap();
        let told = check_program(&file, None);
        assert_eq!(told, Loadable::CouldNotTell { file, doubt: LoadDoubt::Nested });
    }

    #[test]
    fn other_machines_are_refused() {
        let told = checked(b"\x7fELF\x01\x01\x01");
        assert!(matches!(told, Loadable::No { obstacle: Obstacle::OtherMachine, .. }), "{told:?}");
    }
}
