//! The reference of `sameport.toml` and its JSON schema, compared with the keys that the reader knows.
//!
//! `RENEW=1 cargo test -p sameport-policy --test service_reference` writes both.

use std::fmt::Write as _;
use std::path::PathBuf;

use sameport_policy::services::keys::{CANARY_KEYS, KEYS, KeyKind, POLICY_KEYS, ServiceKey};
use sameport_policy::services::value_kind::ValueKind;
use sameport_policy::traffic::TrafficPolicy;
use serde_json::{Map, Value, json};

const RENEW: &str = "RENEW=1 cargo test -p sameport-policy --test service_reference";

/// The lines of the page around what is generated.
const BEGIN: &str = "<!-- keys: generated -->\n";
const END: &str = "<!-- end of keys -->\n";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

fn compare(name: &str, expected: &str) {
    let path = path(name);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    panic!("docs/{name} is not what the keys say: {RENEW}");
}

#[test]
fn the_schema_has_every_key() {
    compare(
        "sameport.schema.json",
        &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()),
    );
}

#[test]
fn the_reference_has_every_key() {
    let page = std::fs::read_to_string(path("sameport-toml.md")).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
    let (_, after) = rest.split_once(END).expect(END);
    compare("sameport-toml.md", &format!("{before}{BEGIN}\n{}{END}{after}", reference()));
}

/// The complete example of the page is what each key is for.
#[test]
fn the_example_has_every_key() {
    let page = std::fs::read_to_string(path("sameport-toml.md")).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|it| it.split("```").next()).unwrap();
    for key in KEYS {
        let starts =
            |line: &str| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name));
        assert!(example.lines().any(starts), "the first example has no {}", key.name);
    }
}

/// A section for each key.
fn reference() -> String {
    let mut text = String::new();
    for key in KEYS {
        let _ = writeln!(text, "### {}\n\n{}.\n", key.name, key.help);
        let _ = writeln!(text, "```toml\n{} = {}\n```\n", key.name, key.example);
        let _ = writeln!(text, "- Value: {}", value_in_words(key));
        let _ = writeln!(text, "- Default: {}", default_in_words(key));
        if let Some(option) = key.option() {
            let dashes = if option.len() == 1 { "-" } else { "--" };
            let _ = writeln!(text, "- Option of `sameport run`: `{dashes}{option}`");
        }
        text.push('\n');
    }
    text
}

fn value_in_words(key: &ServiceKey) -> String {
    match key.kind {
        KeyKind::Command => "an array of strings, or a string".into(),
        KeyKind::Workers => "a number from 1 to 1024, or `\"auto\"`".into(),
        KeyKind::Directory => "a path".into(),
        KeyKind::Variables => "a table of strings, whole numbers, `true` and `false`".into(),
        KeyKind::EnvFiles => "a path, or an array of paths".into(),
        KeyKind::Policy => {
            let names: Vec<String> =
                policies().iter().map(|name| format!("`\"{name}\"`")).collect();
            format!("{}; or a table with `name` and `values`", names.join(", "))
        }
        KeyKind::Canary => {
            "a table with `share` and at least one of `command`, `directory`, `env`".into()
        }
        KeyKind::Switch | KeyKind::Negated => "`true` or `false`".into(),
        KeyKind::One(kind) => kind.expected(),
        KeyKind::Many(kind) => format!("{}; or an array of them", kind.expected()),
        KeyKind::Pairs(kind) => format!("{}; or an array of them, or a table", kind.expected()),
    }
}

fn default_in_words(key: &ServiceKey) -> String {
    match key.default.strip_prefix('(').and_then(|words| words.strip_suffix(')')) {
        Some(words) => words.to_owned(),
        None => format!("`{}`", default_value(key).unwrap_or_default()),
    }
}

/// The default as JSON, if it is a value.
fn default_value(key: &ServiceKey) -> Option<Value> {
    if key.default.starts_with('(') {
        return None;
    }
    Some(serde_json::from_str(key.default).unwrap_or_else(|_| json!(key.default)))
}

fn policies() -> Vec<&'static str> {
    TrafficPolicy::ALL.iter().map(|policy| policy.name()).chain(["auto"]).collect()
}

fn schema() -> Value {
    let properties: Map<String, Value> =
        KEYS.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "sameport.toml",
        "description": "The services that `sameport up` starts: a table for each, with the name of the run",
        "type": "object",
        "minProperties": 1,
        "propertyNames": value(ValueKind::Name),
        "additionalProperties": {
            "type": "object",
            "required": ["command"],
            "additionalProperties": false,
            "properties": properties,
        },
    })
}

fn property(key: &ServiceKey) -> Value {
    let mut schema = match key.kind {
        KeyKind::Command => command(),
        KeyKind::Workers => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1024 }, { "const": "auto" }] })
        }
        KeyKind::Directory => value(ValueKind::Path),
        KeyKind::Variables => variables(),
        KeyKind::EnvFiles => many(&value(ValueKind::Path)),
        KeyKind::Policy => policy(),
        KeyKind::Canary => canary(),
        KeyKind::Switch | KeyKind::Negated => json!({ "type": "boolean" }),
        KeyKind::One(kind) => value(kind),
        KeyKind::Many(kind) => many(&value(kind)),
        KeyKind::Pairs(kind) => json!({
            "anyOf": [
                many(&value(kind)),
                { "type": "object", "additionalProperties": { "type": ["string", "integer"] } },
            ],
        }),
    };
    let object = schema.as_object_mut().unwrap();
    object.insert("description".into(), json!(key.help));
    if let Some(default) = default_value(key) {
        object.insert("default".into(), default);
    }
    schema
}

fn command() -> Value {
    json!({ "anyOf": [
        { "type": "string", "pattern": r"\S" },
        { "type": "array", "minItems": 1, "items": { "type": ["string", "integer"] } },
    ] })
}

fn variables() -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[^=]+$" },
        "additionalProperties": { "type": ["string", "integer", "boolean"] },
    })
}

fn many(one: &Value) -> Value {
    json!({ "anyOf": [one, { "type": "array", "items": one, "uniqueItems": true }] })
}

fn policy() -> Value {
    let [name, values] = POLICY_KEYS;
    json!({ "anyOf": [
        { "enum": policies() },
        {
            "type": "object",
            "required": [name],
            "additionalProperties": false,
            "properties": {
                name: { "enum": policies() },
                values: {
                    "type": "object",
                    "additionalProperties": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
                },
            },
        },
    ] })
}

fn canary() -> Value {
    let [share, command_key, directory, env, after] = CANARY_KEYS;
    json!({
        "type": "object",
        "required": [share],
        "anyOf": [{ "required": [command_key] }, { "required": [directory] }, { "required": [env] }],
        "additionalProperties": false,
        "properties": {
            share: { "anyOf": [
                { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%?$" },
                { "type": "number", "minimum": 0.01, "maximum": 99.99 },
            ] },
            command_key: command(),
            directory: value(ValueKind::Path),
            env: variables(),
            after: value(ValueKind::Duration),
        },
    })
}

/// The schema of one value.
fn value(kind: ValueKind) -> Value {
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65_535 });
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let seconds = json!({ "type": "integer", "minimum": 0, "maximum": 86_400 });
    match kind {
        ValueKind::Port => json!({ "anyOf": [port, text("^[0-9]+(/(tcp|udp))?$")] }),
        ValueKind::Listen => json!({ "anyOf": [port, text("(^|:)[0-9]+(/tcp)?$")] }),
        ValueKind::Expect => json!({ "anyOf": [port, text("(^|:)[0-9]+(/(tcp|udp))?$")] }),
        ValueKind::MapRule => text("^[^=]+=[^=]+$"),
        ValueKind::Source => text("^[][0-9a-fA-F.:]+$"),
        ValueKind::Duration => json!({ "anyOf": [seconds, text("^[0-9]+(ms|s|m|h)?$")] }),
        ValueKind::Size => json!({ "anyOf": [
            { "type": "integer", "minimum": 65_536 },
            text("^[0-9]+([KkMmGg]|[KMG]iB)?$"),
        ] }),
        ValueKind::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        ValueKind::Word(words) => json!({ "enum": words }),
        ValueKind::Ready => text(r"^(tcp|notify|http:/.*|exec:.*\S.*)$"),
        ValueKind::Signal => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 64 },
            text("^[A-Za-z0-9+-]+$"),
        ] }),
        ValueKind::User => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            text("^[^:/ ,]+(:[^:/ ,]+)?$"),
        ] }),
        ValueKind::Name => text("^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"),
        ValueKind::Path => json!({ "type": "string", "minLength": 1 }),
    }
}
