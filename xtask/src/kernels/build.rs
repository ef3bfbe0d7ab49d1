//! The programs that run in the guest: built by cargo, debug like those of `cargo test`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::host::{self, Failure};
use super::machine::Payload;
use crate::workspace::root;

/// Every file of the guest's /payload.
pub(crate) fn payload(sameport: Option<&Path>) -> Result<Payload, Failure> {
    let sameport = match sameport {
        Some(file) if file.is_file() => file.to_owned(),
        Some(file) => return Err(Failure::failed(format!("{} is not a file", file.display()))),
        None => cargo("sameport", &["build", "--package", "sameport-cli", "--bin", "sameport"])?,
    };
    let rules = ["test", "--no-run", "--package", "sameport-tests", "--test", "kernel_rules"];
    let root = root();
    Ok(vec![
        ("sameport", sameport),
        ("kernel_rules", cargo("kernel_rules", &rules)?),
        ("named_http_server.py", root.join("crates/cli/tests/programs/named_http_server.py")),
        ("sameport-guard.service", root.join("packaging/systemd/sameport-guard.service")),
    ])
}

/// Builds, and finds the executable of this name.
fn cargo(name: &str, arguments: &[&str]) -> Result<PathBuf, Failure> {
    host::say(&format!("building {name}"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let format = ["--message-format=json-render-diagnostics", "--quiet"];
    let arguments = [arguments, &format[..]].concat();
    let manifest = root().join("Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let messages =
        host::output(&cargo, &[&arguments[..], &["--manifest-path", &manifest]].concat())?;
    executable(&messages, name)
        .ok_or_else(|| Failure::failed(format!("cargo built no executable {name}")))
}

/// The executable of the target of this name among cargo's messages, one line of JSON each.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_target = message["target"]["name"] == name;
        let executable = message["executable"].as_str().filter(|_| is_target)?;
        Some(PathBuf::from(executable))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_that_of_the_named_target() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"sameport"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"hello"},"executable":"/t/examples/hello"}
{"reason":"compiler-artifact","target":{"name":"sameport"},"executable":"/t/debug/sameport"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages, "sameport"), Some("/t/debug/sameport".into()));
        assert_eq!(executable(messages, "kernel_rules"), None);
        assert_eq!(executable("not json", "sameport"), None);
    }
}
