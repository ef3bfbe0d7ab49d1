//! The sources of the project, with what is not code blanked out.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub(crate) struct Source {
    /// From the root of the project, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text without comments, without what is in quotes, and without test modules. Lines keep
    /// their numbers.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_tests(path, blanked(text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Every line of code, numbered as an editor does.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// Every Rust file of the project.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for room in ["crates", "xtask", "tests"] {
        collect(&root().join(room), &mut found);
    }
    assert!(found.len() > 20, "only {} sources found below {}", found.len(), root().display());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            let short = path.strip_prefix(root()).expect("below the root");
            found.push(Source::new(&short.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}

/// Replaces comments and what is in quotes by spaces.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let opaque = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, 1, '"'),
            'r' if !code.ends_with(in_a_name) => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if opaque == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..opaque].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[opaque..];
        }
    }
    code
}

pub(crate) fn in_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of a block comment, in which others may nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of something in quotes that begins after `start` bytes, with backslashes.
fn quoted(text: &str, start: usize, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().filter(|(at, _)| *at >= start) {
        if !escaped && c == end {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Length of `r"…"` or `r#"…"#`; 0 for a name that begins with r.
fn raw_string(text: &str) -> usize {
    let after = text[1..].trim_start_matches('#');
    let hashes = text.len() - 1 - after.len();
    if !after.starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = 2 + hashes;
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut after = text[1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) => quoted(text, 1, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Tests may print why they are skipped and read what they like: a file of tests is no code of the
/// house, nor is `#[cfg(test)] mod … { … }`.
fn without_tests(path: &str, code: String) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name == "tests.rs" || name.ends_with("_tests.rs") {
        return String::new();
    }
    let mut rest = code.as_str();
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let item = from["#[cfg(test)]".len()..].trim_start();
        let block = match (item.starts_with("mod "), from.find('{'), from.find(';')) {
            (true, Some(open), semicolon) if semicolon.is_none_or(|at| open < at) => {
                open + braces(&from[open..])
            }
            _ => "#[cfg(test)]".len(),
        };
        kept.extend(from[..block].chars().filter(|c| *c == '\n'));
        rest = &from[block..];
    }
    kept.push_str(rest);
    kept
}

/// Length of a block in braces.
fn braces(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[test]
fn what_is_not_code_is_blanked() {
    let cases = [
        ("a // println!\nb", "a            \nb"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (r#"f("a \" // b") + 1"#, r#"f(           ) + 1"#),
        ("r\"\\\" + r#\"a\"b\"# + ring", "     +          + ring"),
        ("fn f<'a>(x: &'a str) { '\\'' ; '{' ; 'ä' }", "fn f<'a>(x: &'a str) {      ;     ;     }"),
    ];
    for (text, code) in cases {
        assert_eq!(blanked(text), code, "{text}");
    }
}

#[test]
fn test_modules_are_left_out_and_nothing_else() {
    let text =
        "a\n#[cfg(test)]\nmod tests {\n  fn f() { println!() }\n}\nb\n#[cfg(test)]\nmod it;\nc";
    let source = Source::new("x.rs", text);
    let lines: Vec<_> = source.lines().filter(|(_, line)| !line.trim().is_empty()).collect();
    assert_eq!(lines, [(1, "a"), (6, "b"), (8, "mod it;"), (9, "c")]);
    assert_eq!(Source::new("crates/x/look/tests.rs", text).code, "");
}
