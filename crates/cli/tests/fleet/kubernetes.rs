//! The manifests of docs/kubernetes: they are what the schemas of Kubernetes permit, and their commands are what
//! sameport accepts.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{User, sameport, skip, spawn_process, start_command};

/// Prints the documents of YAML files as JSON, and fails with each violation of the schema.
const CHECK: &str = "
import json, sys, warnings
warnings.simplefilter('ignore')
import jsonschema, yaml
schema = json.load(open(sys.argv[1]))
kinds = {'Deployment': 'apps', 'DaemonSet': 'apps', 'Service': 'core'}
documents, failed = [], False
for name in sys.argv[2:]:
    for document in yaml.safe_load_all(open(name)):
        documents.append(document)
        kind = document['kind']
        root = {'$defs': schema['$defs'], '$ref': f'#/$defs/io.k8s.api.{kinds[kind]}.v1.{kind}'}
        for error in jsonschema.Draft202012Validator(root).iter_errors(document):
            failed = True
            print(name, '/'.join(map(str, error.absolute_path)), error.message, file=sys.stderr)
print(json.dumps(documents))
sys.exit(failed)
";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubernetes")
}

/// The exit code of the check, the documents, and the violations; `None` without its modules.
fn check(test: &str, files: &[PathBuf]) -> Option<(i32, Value, String)> {
    const PYTHON: &str = "/usr/bin/python3";
    let modules = ["-c", "import jsonschema, yaml"];
    if !Path::new(PYTHON).exists()
        || start_command(User::Current, PYTHON, &modules).wait().code != 0
    {
        skip(test, "no /usr/bin/python3 with jsonschema and yaml");
        return None;
    }
    let schema = directory().join("schema.json");
    let words = ["-c", CHECK].map(PathBuf::from).into_iter().chain([schema]);
    let words: Vec<PathBuf> = words.chain(files.iter().cloned()).collect();
    let exited = start_command(User::Current, PYTHON, &words).wait();
    Some((exited.code, serde_json::from_str(&exited.stdout).unwrap_or_default(), exited.stderr))
}

fn manifests() -> Vec<PathBuf> {
    ["daemonset.yaml", "deployment.yaml", "hostnetwork.yaml"].map(|it| directory().join(it)).into()
}

#[test]
fn the_manifests_are_as_the_schemas_of_kubernetes_permit() {
    let Some((code, documents, violations)) = check("kubernetes-schema", &manifests()) else {
        return;
    };
    assert_eq!(code, 0, "{violations}");
    assert_eq!(documents.as_array().map(Vec::len), Some(4), "{documents}");
}

#[test]
fn a_wrong_field_is_a_violation() {
    let text = std::fs::read_to_string(directory().join("hostnetwork.yaml")).unwrap();
    for (wrong, of) in [
        (text.replace("maxSurge: 1", "maxSurges: 1"), "maxSurges"),
        (text.replace("replicas: 1", "replicas: one"), "'one'"),
        (text.replace("add: [SYS_PTRACE]", "add: SYS_PTRACE"), "'SYS_PTRACE'"),
    ] {
        let file = crate::harness::in_test_dir("wrong.yaml");
        std::fs::write(&file, wrong).unwrap();
        let Some((code, _, violations)) = check("kubernetes-wrong", &[file]) else { return };
        assert_eq!(code, 1, "{of}: {violations}");
        assert!(violations.contains(of), "{of}: {violations}");
    }
}

/// Every command of sameport in a value.
fn commands(of: &Value, found: &mut Vec<Vec<String>>) {
    match of {
        Value::Object(fields) => {
            if let Some(command) = fields.get("command").and_then(Value::as_array) {
                let rest = fields.get("args").and_then(Value::as_array).into_iter().flatten();
                let words = command.iter().chain(rest).map(|it| it.as_str().unwrap().to_owned());
                found.push(words.collect());
            }
            fields.values().for_each(|value| commands(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| commands(value, found)),
        _ => {}
    }
}

#[test]
fn the_commands_of_the_manifests_exist() {
    let Some((_, documents, _)) = check("kubernetes-commands", &manifests()) else { return };
    let mut found = Vec::new();
    commands(&documents, &mut found);
    assert_eq!(found.len(), 9, "{found:?}");
    for words in found {
        assert_eq!(words[0], "sameport");
        // A wrong command line exits with 2 before anything else, also with --help at its end.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let mut known: Vec<&str> = words[1..end].iter().map(String::as_str).collect();
        let verb = known.remove(0);
        let help = spawn_process(crate::harness::command_for(
            User::Current,
            sameport(),
            &[verb, "--help"],
        ));
        let help = help.wait().stdout;
        for option in known.iter().filter(|word| word.starts_with('-')) {
            assert!(help.contains(option), "{words:?}: {option} is not in the help of {verb}");
        }
    }
}
