//! Whether a program can load the preload library, found out before it starts.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::elf;
use super::elf::ElfHead;
use crate::process::{FileCapability, file_capability, find_in_path};

/// Whether a program loads the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loadable {
    /// The program, or the interpreter of the script, is a dynamic program for this machine.
    Yes,
    /// The program does not load the library, or bypasses it.
    No {
        /// The program, or the interpreter that its first line names.
        file: PathBuf,
        /// The reason.
        obstacle: Obstacle,
    },
    /// Unknown until the program starts.
    CouldNotTell {
        /// The program, or the interpreter that its first line names.
        file: PathBuf,
        /// The reason.
        doubt: LoadDoubt,
    },
}

/// Why LD_PRELOAD has no effect on a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The program is statically linked: no dynamic linker runs.
    Static,
    /// A Go program, which calls the kernel without libc even if it is dynamic.
    Go,
    /// A program for another machine, or a 32-bit program.
    OtherMachine,
    /// Executing the file grants a privilege, so the dynamic linker ignores LD_PRELOAD.
    GainsPrivilege(FileCapability),
}

/// Why the answer is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadDoubt {
    /// The file cannot be read; it may be executable all the same.
    Unreadable(std::io::ErrorKind),
    /// Neither an ELF file nor a script with an interpreter. The kernel may have a handler
    /// (`binfmt_misc`).
    UnknownFormat,
    /// Interpreters that are scripts, nested deeper than the kernel allows.
    Nested,
}

/// The most nested interpreters that the kernel allows (`exec_binprm` in `fs/exec.c`).
const DEEPEST: usize = 5;

/// Checks whether a program loads the library, without executing it. `search_path` is the PATH in
/// which `#!/usr/bin/env NAME` searches.
///
/// For a script, checks its interpreter. Programs that the script executes are unknown.
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
    // EM_X86_64, EM_AARCH64, EM_RISCV. The library does not exist for other machines.
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => 0,
    };
    if !elf.is_native || elf.machine != machine {
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
    // Opening a FIFO blocks until a writer opens it.
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut head = Vec::new();
    File::open(file)?.take(elf::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The program that a `#!` line names: its first word, or after `env` its second.
fn interpreter(line: &[u8], search_path: Option<&OsStr>) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let first = PathBuf::from(OsStr::from_bytes(words.next()?));
    if first.file_name() == Some(OsStr::new("env")) {
        let word = words.next()?;
        // With options or assignments, only env itself is known.
        if !word.starts_with(b"-") && !word.contains(&b'=') {
            return find_in_path(OsStr::from_bytes(word), search_path, None);
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
    fn a_script_is_checked_by_its_interpreter() {
        assert_eq!(check_program(Path::new("/bin/sh"), None), Loadable::Yes);
        for text in
            ["#!/bin/sh\n", "#! /bin/sh -e\nx", "#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh\n"]
        {
            assert_eq!(checked(text.as_bytes()), Loadable::Yes, "{text}");
        }
    }

    #[test]
    fn unreadable_and_unknown_files_are_doubts() {
        for text in
            [&b""[..], b"plain text", b"#!\n", b"#!/usr/bin/env", b"\x7fELF", b"\x7fELF\x02\x01"]
        {
            let result = checked(text);
            assert!(matches!(result, Loadable::CouldNotTell { .. }), "{text:?}: {result:?}");
        }
        let gone = check_program(Path::new("/nowhere"), None);
        let doubt = LoadDoubt::Unreadable(std::io::ErrorKind::NotFound);
        assert_eq!(gone, Loadable::CouldNotTell { file: "/nowhere".into(), doubt });
        assert!(matches!(check_program(Path::new("/"), None), Loadable::CouldNotTell { .. }));
    }

    #[test]
    fn a_cycle_of_scripts_is_nested() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("itself");
        std::fs::write(&file, format!("#!{}\n", file.display())).unwrap();
        let result = check_program(&file, None);
        assert_eq!(result, Loadable::CouldNotTell { file, doubt: LoadDoubt::Nested });
    }

    #[test]
    fn other_machines_are_refused() {
        let result = checked(b"\x7fELF\x01\x01\x01");
        assert!(
            matches!(result, Loadable::No { obstacle: Obstacle::OtherMachine, .. }),
            "{result:?}"
        );
    }
}
