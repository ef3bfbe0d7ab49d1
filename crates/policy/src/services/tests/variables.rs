//! References between variables, env files and Procfiles.

use std::path::Path;

use crate::services::environment::{WrittenVariable, parts, resolve};
use crate::services::tree::FilePosition;
use crate::services::{env_file, procfile};

fn variable(name: &str, value: &str) -> WrittenVariable {
    let at = FilePosition { line: 1, column: 1 };
    WrittenVariable { name: name.into(), file: None, at, value: parts(value).unwrap() }
}

#[test]
fn references_have_one_meaning() {
    let caller = |name: &str| (name == "OUT").then(|| "out".to_owned());
    let value = |layers: &[&[(&str, &str)]], name: &str| {
        let layers: Vec<Vec<WrittenVariable>> = layers
            .iter()
            .map(|layer| layer.iter().map(|(name, value)| variable(name, value)).collect())
            .collect();
        match resolve(&layers, &caller) {
            Ok(values) => values.into_iter().find(|(other, _)| other == name).unwrap().1,
            Err(faults) => {
                faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ")
            }
        }
    };
    for (layers, expected) in [
        (&[&[("A", "${OUT}")][..]][..], "out"),
        (&[&[("A", "${B:-x}")]], "x"),
        (&[&[("A", "${B:-x}"), ("B", "")]], "x"),
        (&[&[("A", "${B}"), ("B", "")]], ""),
        (&[&[("A", "$${B} $ $B ${OUT}$")]], "${B} $ $B out$"),
        (&[&[("A", "${OUT}${OUT}")]], "outout"),
        // The value that counts, wherever the reference is.
        (&[&[("A", "${B}"), ("B", "1")], &[("B", "2")]], "2"),
        // Its own name: the value without this line.
        (&[&[("OUT", "${OUT}:x"), ("A", "${OUT}")]], "out:x"),
        (&[&[("A", "1")], &[("A", "${A}2")], &[("A", "${A}3")]], "123"),
        (&[&[("A", "${A}")]], "A: A is not set, in no env file and not by the caller"),
        (&[&[("A", "${A:-}")]], ""),
        (&[&[("A", "${B}"), ("B", "${C}"), ("C", "${B}")]], "B refers to itself: B -> C -> B"),
        (&[&[("A", "${B}")], &[("B", "${A}"), ("A", "${A}")]], "A refers to itself: A -> B -> A"),
    ] {
        assert_eq!(value(layers, "A"), expected, "{layers:?}");
    }
    for text in ["${", "${A", "${}", "${A B}", "${1A}", "${A-}"] {
        assert!(parts(text).is_err(), "{text}");
    }
}

/// Each value is twice the one before: the result would have a million times the length of the file.
#[test]
fn values_that_grow_are_refused_before_they_are_long() {
    let mut layer = vec![variable("V0", &"x".repeat(1024))];
    for number in 1..60 {
        let before = format!("${{V{}}}", number - 1);
        layer.push(variable(&format!("V{number}"), &format!("{before}{before}")));
    }
    let faults = resolve(&[layer], &|_| None).unwrap_err();
    assert!(faults[0].message.ends_with("is longer than 128 KiB"), "{faults:?}");
    let chain: Vec<WrittenVariable> = (0..2_000)
        .map(|number| variable(&format!("V{number:05}"), &format!("${{V{:05}:-}}", number + 1)))
        .collect();
    let faults = resolve(&[chain], &|_| None).unwrap_err();
    assert!(faults[0].message.ends_with("is more than 100 references deep"), "{:?}", faults[0]);
}

#[test]
fn env_files_are_read_as_other_programs_do() {
    let caller = |_: &str| None;
    for (text, expected) in [
        ("A=1", "1"),
        ("A=1\r\n", "1"),
        ("\u{feff}A=1\n", "1"),
        ("# c\n\n  export A = 1  # c\n", "1"),
        ("export\tA=1", "1"),
        ("A=", ""),
        ("A= # c", ""),
        ("A=#c", ""),
        ("A=a#b", "a#b"),
        ("A=a b c", "a b c"),
        ("A='a # $b ${c}\\n'", "a # $b ${c}\\n"),
        ("A='a\nb' # c\n", "a\nb"),
        ("A=\"a\\nb\\\"\\\\\\x\\$B\"", "a\nb\"\\\\x$B"),
        ("A=\"a # b\"#c", "a # b"),
        ("B=2\nA=\"${B}\"", "2"),
        ("A=${B}\nB=2", "2"),
        ("A=a=b", "a=b"),
        ("A=it's", "it's"),
        ("export=1\nA=2", "2"),
    ] {
        let read = env_file::read(text, ".env").unwrap();
        let values = resolve(&[read], &caller).unwrap();
        let value = values.iter().find(|(name, _)| name == "A").map(|(_, value)| value.as_str());
        assert_eq!(value, Some(expected), "{text:?}");
    }
    for (text, expected) in [
        ("A", ".env:1:1: \"A\" sets no variable"),
        ("B=1\n  A: 2", ".env:2:3: \"A: 2\" sets no variable"),
        ("A B=1", ".env:1:1: \"A B\" is not the name of a variable"),
        ("=1", ".env:1:1: \"\" is not the name of a variable"),
        ("A='x", ".env:1:3: the quote ' has no end"),
        ("A=\"x\\\"", ".env:1:3: the quote \" has no end"),
        ("A='x'y", ".env:1:3: \"y\" follows the closing quote"),
        ("A=1\nA=2", ".env:2:3: A is set twice: also in line 1"),
        ("A=${B", ".env:1:3: a reference has no end: write ${NAME}, or $$ for a dollar sign"),
        ("A=\0", ".env:1:3: the value has a NUL, which no variable can have"),
        ("LISTEN_FDS=1", ".env:1:1: LISTEN_FDS: sameport sets this variable itself"),
    ] {
        let faults = env_file::read(text, ".env").unwrap_err();
        assert_eq!(faults[0].to_string(), expected, "{text:?}");
    }
}

#[test]
fn a_procfile_is_read_as_foreman_does() {
    let path = Path::new("/srv/app/Procfile");
    let read = |text: &str, env: &str| {
        let variables = env_file::read(env, ".env").unwrap();
        procfile::read(text, path, &variables, &|_| None)
    };
    let file = read("# all\n\nweb: node a.js -p $PORT\r\nclock:bin/clock a:b\n", "A=1\n").unwrap();
    let shown: Vec<String> = file
        .services
        .iter()
        .map(|it| {
            format!("{} {} {:?} {:?} {}", it.line, it.name, it.command, it.environment, it.workers)
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"3 web ["sh", "-c", "node a.js -p $PORT"] [("A", "1"), ("PORT", "5000")] 1"#,
            r#"4 clock ["sh", "-c", "bin/clock a:b"] [("A", "1"), ("PORT", "5100")] 1"#,
        ]
    );
    assert_eq!(file.services[0].directory, Path::new("/srv/app"));
    let ports = |env: &str| -> Vec<String> {
        let file = read("a: x\nb: y\n", env).unwrap();
        file.services.iter().map(|service| service.environment[0].1.clone()).collect()
    };
    assert_eq!(ports("PORT=8080"), ["8080", "8180"]);
    for (text, env, expected) in [
        ("", "", "1:1: the file has no service"),
        ("web node\n", "", "1:1: \"web node\" is no service"),
        ("a: x\n web :\n", "", "2:2: web has no command"),
        ("a: x\nb: y\na: z\n", "", "3:1: a is there twice: also in line 1"),
        (
            "a b: x\n",
            "",
            "1:1: \"a b\": a name has no ' ', only letters, digits, \".\", \"_\" and \"-\"",
        ),
        ("a: x\n", "PORT=x", ".env:1:6: PORT must be a number from 1 to 65535, not \"x\""),
        ("a: x\nb: y\n", "PORT=65500", "2:1: b: its PORT would be above 65535"),
    ] {
        let faults = read(text, env).unwrap_err();
        assert_eq!(faults[0].to_string(), expected, "{text:?} {env:?}");
    }
}

/// Whatever is typed half: no reader panics.
#[test]
fn no_prefix_of_a_text_panics() {
    let env = "export A='x\ny' # c\nB=\"a\\\"${A:-é}$$\" \nC=${B}${\n\u{feff}'";
    let proc = "# é\nweb: node é\r\nclock : x:y\n";
    for (at, _) in env.char_indices() {
        let _ = env_file::read(&env[..at], "é");
        let _ = parts(&env[..at]);
    }
    for (at, _) in proc.char_indices() {
        let _ = procfile::read(&proc[..at], Path::new("/"), &[], &|_| None);
    }
}
