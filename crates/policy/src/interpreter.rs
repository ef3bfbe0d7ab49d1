//! Programs that execute their arguments, so that their file says little about their behaviour.

use std::path::Path;

const INTERPRETERS: &[&str] = &[
    "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "java", "beam",
    "beam.smp", "erl", "erlexec", "lua", "luajit", "sh", "bash", "dash", "zsh", "ksh", "mksh",
    "fish", "ash", "tclsh", "wish", "R", "Rscript", "guile", "dotnet", "mono", "julia", "escript",
    "gawk", "mawk",
];

const TOOLS: &[&str] = &[
    "socat",
    "nc",
    "ncat",
    "netcat",
    "ssh",
    "openssl",
    "busybox",
    "toybox",
    "gdb",
    "env",
    "xinetd",
    "inetd",
    "systemd-socket-activate",
    "tcpserver",
    "ld",
];

/// Prefixes of the names of versioned tools, dynamic loaders and emulators.
const TOOL_PREFIXES: &[&str] = &["nc.", "ld-", "ld.so", "qemu-", "wine", "memfd:"];

/// Whether the program executes its arguments: an interpreter, or a tool such as `socat`.
#[must_use]
pub fn runs_arguments(executable: &Path) -> bool {
    let name = name(executable);
    runs_scripts(executable)
        || TOOLS.contains(&name.as_str())
        || TOOL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the program is an interpreter: its first argument is a script.
#[must_use]
pub fn runs_scripts(executable: &Path) -> bool {
    let name = name(executable);
    let without_version =
        name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name.as_str()) || INTERPRETERS.contains(&without_version)
}

/// The file name. The kernel appends " (deleted)" to the name of a replaced file.
fn name(executable: &Path) -> String {
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_and_tools_are_recognized_by_name() {
        let interpreters = ["python3.11", "/usr/bin/python", "node", "bash", "perl5.36", "php8.2"];
        for name in interpreters {
            assert!(runs_scripts(Path::new(name)) && runs_arguments(Path::new(name)), "{name}");
        }
        for name in ["qemu-aarch64-static", "socat", "nc.openbsd", "ld-linux.so.2"] {
            assert!(runs_arguments(Path::new(name)) && !runs_scripts(Path::new(name)), "{name}");
        }
        for name in ["nginx", "api", "nodexporter", "postgres", "sshd", "3", ""] {
            assert!(!runs_arguments(Path::new(name)), "{name}");
        }
    }
}
