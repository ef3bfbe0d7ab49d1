//! Tables of the readers: what is written, and what it is or why not.

mod variables;

use std::path::Path;

use super::context::FileContext;
use super::model::ServiceFile;
use super::tree::{FileEntry, FileNode, FilePosition, FileValue};
use super::*;

/// A file of services as JSON with places: each key is in a line of its own, as in most files.
fn root(json: &str) -> Vec<FileEntry> {
    let mut line = 0;
    let serde_json::Value::Object(services) = serde_json::from_str(json).unwrap() else { panic!() };
    services.into_iter().map(|(key, value)| entry(&mut line, key, value, 0)).collect()
}

fn entry(line: &mut usize, key: String, value: serde_json::Value, depth: usize) -> FileEntry {
    *line += usize::from(depth < 2);
    let at = FilePosition { line: *line, column: 1 };
    let node =
        FileNode { at: FilePosition { column: 5, ..at }, value: value_of(line, value, depth) };
    FileEntry { key, at, node }
}

fn value_of(line: &mut usize, value: serde_json::Value, depth: usize) -> FileValue {
    let at = FilePosition { line: *line, column: 9 };
    match value {
        serde_json::Value::String(text) => FileValue::Text(text),
        serde_json::Value::Bool(is) => FileValue::Boolean(is),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => FileValue::Integer(number),
            None => FileValue::Other(number.to_string()),
        },
        serde_json::Value::Array(items) => FileValue::List(
            items.into_iter().map(|item| FileNode { at, value: value_of(line, item, 9) }).collect(),
        ),
        serde_json::Value::Object(table) => FileValue::Table(
            table.into_iter().map(|(key, value)| entry(line, key, value, depth + 1)).collect(),
        ),
        serde_json::Value::Null => FileValue::Other("nan".into()),
    }
}

fn read_file(root: &[FileEntry]) -> Result<ServiceFile, Vec<ServiceFault>> {
    let variable = |name: &str| match name {
        "HOME" => Some("/home/me".to_owned()),
        "PATH" => Some("/bin".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let load = |path: &Path| match path.to_str() {
        Some("/srv/app/.env") => Ok("A=file\nB=file\nSECRET='p$w'\n".to_owned()),
        Some("/srv/app/bad.env") => Ok("A\n1B=2\n".to_owned()),
        _ => Err(("no such file".to_owned(), None)),
    };
    let path = Path::new("/srv/app/sameport.toml");
    read::read(root, &FileContext { path, variable: &variable, load: &load })
}

fn faults(json: &str) -> Vec<String> {
    match read_file(&root(json)) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// The words of the command line of the only service.
fn words(json: &str) -> String {
    let file = read_file(&root(json)).unwrap();
    let words: Vec<String> = file.services[0]
        .run_arguments()
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

#[test]
fn a_service_is_a_command_line_of_run() {
    let end = "-n 1 --directory /srv/app -- node";
    for (keys, expected) in [
        ("", format!("run --name web {end}")),
        (r#","workers":"auto""#, "run --name web -n auto --directory /srv/app -- node".into()),
        (
            r#","directory":"../v2/""#,
            "run --name web -n 1 --directory /srv/app/../v2 -- node".into(),
        ),
        (r#","directory":"/v2""#, "run --name web -n 1 --directory /v2 -- node".into()),
        (r#","port":8080,"join":true"#, format!("run --name web --port 8080 --join {end}")),
        (r#","expect":["80/udp",81]"#, format!("run --name web --expect 80/udp --expect 81 {end}")),
        (r#","map":{"80":8080}"#, format!("run --name web --map 80=8080 {end}")),
        (r#","map":["80=8080"]"#, format!("run --name web --map 80=8080 {end}")),
        (r#","hold":false"#, format!("run --name web --no-hold {end}")),
        (r#","hold":true,"join":false"#, format!("run --name web {end}")),
        // What holds by default is not written.
        (r#","drain":"busy","surge":1,"grace":30"#, format!("run --name web {end}")),
        (r#","drain-timeout":"2m""#, format!("run --name web --drain-timeout 120s {end}")),
        (r#","ready-timeout":"500ms""#, format!("run --name web --ready-timeout 500ms {end}")),
        (r#","stop-signal":3"#, format!("run --name web --stop-signal SIGQUIT {end}")),
        (r#","stop-signal":"term""#, format!("run --name web {end}")),
        (r#","log":"web.log""#, format!("run --name web --log /srv/app/web.log {end}")),
        (r#","policy":"cpu""#, format!("run --name web --policy cpu {end}")),
        (r#","policy":{"name":"auto"}"#, format!("run --name web --policy auto {end}")),
        // A value is not for the eyes of every user; the second would change the supervisor.
        (
            r#","env":{"TOKEN":"secret","XDG_RUNTIME_DIR":"/x"}"#,
            format!("run --name web --env TOKEN --env XDG_RUNTIME_DIR=/x {end}"),
        ),
    ] {
        let json = format!(r#"{{"web":{{"command":["node"]{keys}}}}}"#);
        assert_eq!(words(&json), expected, "{keys}");
    }
    let shell = words(r#"{"web":{"command":"node a.js | tee log"}}"#);
    assert!(shell.ends_with("-- sh -c node a.js | tee log"), "{shell}");
}

#[test]
fn variables_are_resolved_in_layers() {
    let json = r#"{"web":{"command":["node"],"env-file":".env",
        "env":{"A":"own","URL":"${A}-${B}","HOME":"${HOME}/web","N":3,"ON":true,"COST":"$$5 $x"}}}"#;
    let file = read_file(&root(json)).unwrap();
    let shown: Vec<String> = file.services[0]
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "A=own",
            "B=file",
            "COST=$5 $x",
            "HOME=/home/me/web",
            "N=3",
            "ON=true",
            "SECRET=p$w",
            "URL=own-file"
        ]
    );
    let names: Vec<&str> = file.services[0].process_environment().map(|(name, _)| name).collect();
    assert!(names.contains(&"SECRET") && !names.contains(&"HOME"), "{names:?}");
}

#[test]
fn a_canary_and_a_policy_have_tables_of_their_own() {
    let json = r#"{"web":{"command":["node"],"workers":2,"env":{"A":"1"},
        "policy":{"name":"weights","values":{"1":9,"web.2":1}},
        "canary":{"share":"2.5%","after":"10m","env":{"B":"${A}2"},"directory":"v2"}}}"#;
    let file = read_file(&root(json)).unwrap();
    let service = &file.services[0];
    let policy = service.policy.as_ref().unwrap();
    let values: Vec<String> = policy.values.iter().map(ToString::to_string).collect();
    assert_eq!(
        (policy.policy.to_string(), values),
        ("weights".into(), vec!["web.1=9".into(), "web.2=1".into()])
    );
    let canary = service.canary.as_ref().unwrap();
    assert_eq!(canary.share.to_string(), "2.5%");
    assert_eq!(canary.after.map(|after| after.as_secs()), Some(600));
    assert_eq!(canary.directory.as_deref(), Some(Path::new("/srv/app/v2")));
    assert_eq!(canary.environment, [("B".to_owned(), "12".to_owned())]);
    assert_eq!(canary.command, None);
}

#[test]
fn wrong_values_are_named_with_what_they_must_be() {
    for (keys, expected) in [
        (
            r#""workers":"four""#,
            "workers must be a number from 1 to 1024 or \"auto\", not \"four\"",
        ),
        (r#""workers":0"#, "workers must be a number from 1 to 1024 or \"auto\", not 0"),
        (r#""workers":1.5"#, "workers must be a number from 1 to 1024 or \"auto\", not 1.5"),
        (r#""workers":[4]"#, "workers must be a number from 1 to 1024 or \"auto\", not an array"),
        (r#""join":"yes""#, "join must be true or false, not \"yes\""),
        (r#""drain":"some""#, "drain must be \"none\", \"busy\" or \"all\", not \"some\""),
        (r#""surge":2000"#, "surge must be a number from 0 to 1024, not 2000"),
        (r#""surge":"2""#, "surge must be a number from 0 to 1024, not \"2\""),
        (
            r#""grace":"1d""#,
            "grace must be a time up to 24h, such as \"500ms\", \"30s\" or \"2m\", not \"1d\"",
        ),
        (
            r#""listen":"80/udp""#,
            "listen must be a port or an address, such as 8080 or \"127.0.0.1:8080\", not \"80/udp\": TCP only: write no /udp",
        ),
        (r#""port":[80,80]"#, "port has 80 twice"),
        (
            r#""ready":"http""#,
            "ready must be \"tcp\", \"http:/PATH\", \"http://HOST[:PORT]/PATH\", \"notify\" or \"exec:COMMAND\", not \"http\"",
        ),
        (
            r#""user":"a b""#,
            "user must be a user, such as \"www-data\" or \"1000:1000\", not \"a b\"",
        ),
        (r#""env":["A=1"]"#, "env must be a table of variables, not an array"),
        (r#""env":{"A":1.5}"#, "env.A must be a string, a whole number, true or false, not 1.5"),
        (r#""env":{"A=B":"1"}"#, "\"A=B\" is not the name of a variable"),
        (r#""env":{"LISTEN_FDS":"1"}"#, "LISTEN_FDS: sameport sets this variable itself"),
        (
            r#""env":{"A":"${"}"#,
            "A: a reference has no end: write ${NAME}, or $$ for a dollar sign",
        ),
        (r#""env":{"A":"${B}"}"#, "A: B is not set, in no env file and not by the caller"),
        (r#""env":{"A":"${B}","B":"${A}"}"#, "A refers to itself: A -> B -> A"),
        (r#""env-file":"none.env""#, "env-file none.env: no such file"),
        (r#""env-file":5"#, "env-file must be a path, or an array of paths, not 5"),
        (
            r#""policy":"leastconn""#,
            "policy: \"leastconn\" is not a policy: they are hash, random, weights, sticky, round-robin, standby, least-connections, two-choices, cpu, numa",
        ),
        (r#""policy":{"values":{}}"#, "web.policy has no name"),
        (r#""policy":{"name":"weights","values":{"2":1}}"#, "policy.values: web has no worker 2"),
        (
            r#""policy":{"name":"weights","values":{"api.1":1}}"#,
            "policy.values: \"api.1\" is no worker of web",
        ),
        (
            r#""policy":{"name":"weights","values":{"1":-1}}"#,
            "policy.values.1 must be a number from 0 to 4294967295, not -1",
        ),
        (r#""canary":"10%""#, "canary must be a table with share and what differs, not \"10%\""),
        (r#""canary":{"share":"10%"}"#, "the canary is what the service is"),
        (r#""canary":{"env":{"A":"1"}}"#, "the canary has no share"),
        (
            r#""canary":{"share":"100%","env":{"A":"1"}}"#,
            "canary.share must be a share from \"0.01%\" to \"99.99%\", not \"100%\"",
        ),
        (
            r#""group":"a b""#,
            "group must be the name of a group, such as \"site\", not \"a b\": \"a b\": a name has no ' ', only letters, digits, \".\", \"_\" and \"-\"",
        ),
        (r#""worker":4"#, "web has no key \"worker\""),
        (r#""log":"""#, "log must be a path, not \"\": it is empty"),
    ] {
        let json = format!(r#"{{"web":{{"command":["node"],{keys}}}}}"#);
        let found = faults(&json);
        let found: Vec<&str> =
            found.iter().filter_map(|fault| fault.split_once(": ").map(|it| it.1)).collect();
        assert_eq!(found, [expected], "{keys}");
    }
}

#[test]
fn commands_and_tables_that_are_none() {
    for (json, expected) in [
        (r#"{}"#, "1:1: the file has no service"),
        (r#"{"web":{}}"#, "1:1: web has no command"),
        (r#"{"command":"node"}"#, "1:1: command is in no service"),
        (r#"{"web":[{"command":"node"}]}"#, "1:1: web must be a table, not an array of tables"),
        (
            r#"{"we b":{"command":"node"}}"#,
            "1:1: \"we b\": a name has no ' ', only letters, digits, \".\", \"_\" and \"-\"",
        ),
        (
            r#"{"web":{"command":[]}}"#,
            "2:5: command must be an array of the program and its arguments, or a string for sh -c, not an array: it has no program",
        ),
        (
            r#"{"web":{"command":" "}}"#,
            "2:5: command must be an array of the program and its arguments, or a string for sh -c, not \" \": it is empty",
        ),
        (
            r#"{"web":{"command":["a",true]}}"#,
            "2:9: an argument of command must be a string, not true",
        ),
        (
            r#"{"web":{"command":["a\u0000"]}}"#,
            "2:5: command must be an array of the program and its arguments, or a string for sh -c, not an array: it has a NUL",
        ),
    ] {
        assert_eq!(faults(json), [expected], "{json}");
    }
}

#[test]
fn every_mistake_is_reported_in_order() {
    let json = r#"{"api":{"command":["a"],"worker":2,"surge":"x"},"web":{"drain":"no","env-file":"bad.env"}}"#;
    assert_eq!(
        faults(json),
        [
            "3:5: surge must be a number from 0 to 1024, not \"x\"",
            "4:1: api has no key \"worker\"",
            "5:1: web has no command",
            "6:5: drain must be \"none\", \"busy\" or \"all\", not \"no\"",
            "bad.env:1:1: \"A\" sets no variable",
            "bad.env:2:1: \"1B\" is not the name of a variable",
        ]
    );
}

#[test]
fn advice_names_the_key_that_was_meant() {
    for (key, expected) in [
        ("worker", "the nearest key is workers"),
        ("ready_timeout", "the nearest key is ready-timeout"),
        ("environment", "write env"),
        ("cwd", "write directory"),
        ("no-hold", "write hold = false"),
        ("name", "the name of a service is that of its table: [web]"),
    ] {
        let json = format!(r#"{{"web":{{"command":["node"],"{key}":1}}}}"#);
        let faults = read_file(&root(&json)).unwrap_err();
        assert_eq!(faults[0].hint.as_deref(), Some(expected), "{key}");
    }
    let nested = read_file(&root(r#"{"services":{"web":{"command":["node"]}}}"#)).unwrap_err();
    let hint = nested.iter().filter_map(|fault| fault.hint.as_deref());
    assert!(hint.into_iter().any(|hint| hint.ends_with("write [web]")), "{nested:?}");
    let far = read_file(&root(r#"{"web":{"command":["node"],"zzzzzzzzz":1}}"#)).unwrap_err();
    assert!(far[0].hint.as_deref().unwrap().starts_with("the keys are command, workers"));
}

#[test]
fn a_port_is_of_one_service_or_of_a_group() {
    for (web, api, expected) in [
        (r#""listen":80"#, r#""listen":80"#, Some("listen")),
        (r#""listen":"127.0.0.1:80""#, r#""listen":"127.0.0.2:80""#, None),
        (r#""listen":"127.0.0.1:80""#, r#""listen":"localhost:80""#, Some("listen")),
        (r#""listen":"0.0.0.0:80""#, r#""expect":"127.0.0.2:80""#, Some("expect")),
        (r#""listen":80"#, r#""expect":"80/udp""#, None),
        (r#""expect":80"#, r#""port":"80/udp""#, Some("port")),
        (r#""port":80,"map":{"80":81}"#, r#""port":80"#, None),
        (r#""port":80,"map":{"80":81}"#, r#""port":81"#, Some("port")),
        (r#""each":9229,"workers":4"#, r#""listen":9232"#, Some("listen")),
        (r#""each":9229,"workers":4"#, r#""listen":9233"#, None),
        (r#""listen":80,"group":"x""#, r#""listen":80,"group":"x""#, None),
        (r#""listen":80,"group":"x""#, r#""listen":80,"group":"y""#, Some("listen")),
        (r#""listen":80,"group":"x""#, r#""listen":80"#, Some("listen")),
        (r#""expect":80,"join":true"#, r#""expect":80,"join":true"#, None),
        (r#""expect":80,"join":true"#, r#""expect":80"#, Some("expect")),
    ] {
        let json =
            format!(r#"{{"api":{{"command":["a"],{api}}},"web":{{"command":["b"],{web}}}}}"#);
        let found = read_file(&root(&json)).err().unwrap_or_default();
        assert_eq!(found.len(), usize::from(expected.is_some()), "{web} {api}: {found:?}");
        if let Some(fault) = found.first() {
            assert!(fault.message.contains("without a common group"), "{fault}");
        }
    }
    // The same command in the same directory is one group.
    let same = r#"{"a":{"command":["s"],"expect":80},"b":{"command":["s"],"expect":80}}"#;
    assert_eq!(faults(same), [""; 0]);
}
