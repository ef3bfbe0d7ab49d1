//! The JSON schema of `sameport.toml` by Debian's validator: the examples of the documentation are right, and
//! mistakes are not. `sameport-policy` compares the schema with the keys.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

/// Reads `[schema, [[text, whether it is right], …]]`, and prints each text that is judged otherwise.
const VALIDATOR: &str = "\
import json, sys, tomllib, jsonschema
schema, cases = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for text, right in cases:
    errors = [error.message for error in validator.iter_errors(tomllib.loads(text))]
    if right != (not errors): print(text, errors)
";

/// The examples of a page: whole files, and lines of a service.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole = |block: &str| match block.contains("command = ") {
        true if block.contains("\n[") || block.starts_with('[') => block.to_owned(),
        true => format!("[web]\n{block}"),
        false => format!("[web]\ncommand = \"true\"\n{block}"),
    };
    blocks.map(whole).collect()
}

#[test]
fn the_schema_accepts_what_is_right_and_refuses_mistakes() {
    let docs: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let found = Command::new("python3").args(["-c", "import jsonschema, tomllib"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        return sameport_skips::skip("service_schema", "python3-jsonschema is not installed");
    }
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let mut cases: Vec<(String, bool)> =
        examples(&read("sameport-toml.md")).into_iter().map(|text| (text, true)).collect();
    assert!(cases.len() > 30, "{}", cases.len());
    for mistake in [
        "workers = \"four\"",
        "workers = 0",
        "worker = 4",
        "ready_timeout = \"30s\"",
        "ready = \"http\"",
        "ready-timeout = \"1d\"",
        "join = \"yes\"",
        "listen = \"80/udp\"",
        "port = 70000",
        "port = [80, 80]",
        "drain = \"some\"",
        "env = [\"A=1\"]",
        "env = { A = 1.5 }",
        "env-file = 5",
        "policy = \"leastconn\"",
        "policy = { values = { 1 = 9 } }",
        "policy = { name = \"weights\", values = { 1 = -1 } }",
        "canary = \"10%\"",
        "canary = { share = \"10%\" }",
        "canary = { share = \"10%\", env = {}, workers = 2 }",
        "log-size = \"10X\"",
        "group = \"a b\"",
        "map = \"80\"",
    ] {
        cases.push((format!("[web]\ncommand = \"true\"\n{mistake}\n"), false));
    }
    for whole in
        ["", "command = \"true\"", "[web]", "[\"we b\"]\ncommand = \"true\"", "[web]\ncommand = []"]
    {
        cases.push((whole.to_owned(), false));
    }
    let schema: serde_json::Value = serde_json::from_str(&read("sameport.schema.json")).unwrap();
    let mut validator = Command::new("python3")
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!([schema, cases]).to_string();
    validator.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = validator.wait_with_output().unwrap();
    let (found, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && found.is_empty(), "{found}{error}");
}
