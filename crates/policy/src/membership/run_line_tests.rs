//! Command lines of other processes.

use super::*;

fn read(line: &str) -> Option<(Option<String>, Option<String>, String)> {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let RunLine { name, group, command, directory: _ } = RunLine::read(&words)?;
    let text = |name: RunName| name.as_str().to_owned();
    let command: Vec<_> = command.iter().map(|word| word.to_str().unwrap()).collect();
    Some((name.map(text), group.map(text), command.join(" ")))
}

#[test]
fn run_lines_are_read() {
    let cases = [
        ("sameport run -- api 80", (None, None, "api 80")),
        ("/usr/bin/sameport run --name web -n4 -- api", (Some("web"), None, "api")),
        ("sameport run --name=web --group=g -qn 4 -- api", (Some("web"), Some("g"), "api")),
        ("sameport run --port 80 --port=81 -n=4 --group g -- a", (None, Some("g"), "a")),
        ("sameport run --private -- api -- --name x", (None, None, "api -- --name x")),
        ("sameport run --source 127.0.0.9 --join -- api", (None, None, "api")),
        ("sameport run --user www:www --env A=--name -- api", (None, None, "api")),
        ("sameport run --wait --detach --wait=2m --name web -- api", (Some("web"), None, "api")),
    ];
    for (line, (name, group, command)) in cases {
        let expected = (name.map(str::to_owned), group.map(str::to_owned), command.to_owned());
        assert_eq!(read(line), Some(expected), "{line}");
    }
}

#[test]
fn without_a_directory_every_other_word_stays() {
    for (line, expected) in [
        ("--directory /app -- api --directory x", "-- api --directory x"),
        ("-n 2 --directory=/app -q -- api", "-n 2 -q -- api"),
        ("--name --directory --join -- api", "--name --directory --join -- api"),
    ] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(without_directory(&words).join(" "), expected, "{line}");
    }
}

#[test]
fn the_words_of_the_first_process_are_left_out_and_put_back() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let text = |words: Vec<OsString>| words.join(OsStr::new(" ")).into_string().unwrap();
    for (line, without, with) in [
        ("sp run --detach -- a", "sp run -- a", "sp run --detach -- a"),
        (
            "sp run --wait=2m --name web --detach --wait -n4 -- a --detach --wait",
            "sp run --name web -n4 -- a --detach --wait",
            "sp run --name web -n4 --detach -- a --detach --wait",
        ),
        (
            "sp run --name --detach --env --wait -- a",
            "sp run --name --detach --env --wait -- a",
            "sp run --name --detach --env --wait --detach -- a",
        ),
    ] {
        assert_eq!(text(undetached(&words(line))), without, "{line}");
        assert_eq!(text(detached(&words(line))), with, "{line}");
    }
}

#[test]
fn the_directory_is_part_of_the_identity() {
    let directory = |line: &str, own: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        RunLine::read(&words).unwrap().identity(Some(Path::new(own))).directory
    };
    for (line, own, expected) in [
        ("sameport run -- api", "/srv", "/srv"),
        ("sameport run --directory /app -- api", "/srv", "/app"),
        ("sameport run --directory=current -- api", "/srv", "/srv/current"),
    ] {
        assert_eq!(directory(line, own), Some(expected.into()), "{line}");
    }
}

#[test]
fn lines_are_rewritten() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let rewrite = |line: &str, directory: Option<&str>| {
        let line = rewritten(&words(line), 3, directory.map(Path::new), &words("b --x"))?;
        Some(line.join(OsStr::new(" ")).into_string().unwrap())
    };
    for (line, directory, expected) in [
        ("sameport run -- a", None, "sameport run -n3 -- b --x"),
        ("sp run -n 4 --name web -- a -n 9", None, "sp run -n3 --name web -- b --x"),
        ("sp run -qn4 -n=2 --quiet -- a", None, "sp run -n3 -q --quiet -- b --x"),
        ("sp run -qn 4 --group=g -- a", None, "sp run -n3 -q --group=g -- b --x"),
        ("sp run --directory d -- a", None, "sp run -n3 --directory d -- b --x"),
        ("sp run --directory d -- a", Some("/e"), "sp run -n3 --directory /e -- b --x"),
        ("sp run --directory=d -q -- a", Some("/e"), "sp run -n3 --directory /e -q -- b --x"),
    ] {
        assert_eq!(rewrite(line, directory).as_deref(), Some(expected), "{line}");
    }
    for line in ["sameport ls 80", "sameport run --unknown -- a", "sameport run --"] {
        assert_eq!(rewrite(line, None), None, "{line}");
    }
}

#[test]
fn other_lines_are_not() {
    for line in [
        "",
        "sameport",
        "sameport ls 80",
        "sameport run",
        "sameport run api",
        "sameport run --",
        "sameport run - -- api",
        "sameport run --new-option 1 -- api",
        "sameport run -x -- api",
        "sameport run --quiet=yes -- api",
        "sameport run --name",
        "sameport run --name ../web -- api",
        "sameport --name web run -- api",
    ] {
        assert_eq!(read(line), None, "{line}");
    }
}
