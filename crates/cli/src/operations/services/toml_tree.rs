//! TOML as the values of `sameport_policy::services::tree`, and its syntax errors in our words.

use sameport_policy::services::ServiceFault;
use sameport_policy::services::tree::{
    FileEntry, FileLines, FileNode, FilePosition, FileValue, quoted,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// Parses a file.
///
/// # Errors
///
/// Every syntax error: one a line, for the parser often finds more of them behind the first.
pub(super) fn parse(text: &str) -> Result<Vec<FileEntry>, Vec<ServiceFault>> {
    let lines = FileLines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(entries(&lines, table.get_ref()));
    }
    let mut faults: Vec<ServiceFault> = errors.iter().map(|error| fault(&lines, error)).collect();
    faults.sort_by_key(|fault| fault.at);
    faults.dedup_by_key(|fault| fault.at.line);
    Err(faults)
}

/// The entries in the order of the file; the parser sorts them by name.
fn entries(lines: &FileLines<'_>, table: &DeTable<'_>) -> Vec<FileEntry> {
    let mut entries: Vec<(usize, FileEntry)> = table
        .iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let at = lines.position(start);
            (start, FileEntry { key: key.get_ref().to_string(), at, node: node(lines, value) })
        })
        .collect();
    entries.sort_by_key(|(start, _)| *start);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn node(lines: &FileLines<'_>, value: &Spanned<DeValue<'_>>) -> FileNode {
    let at = lines.position(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(string) => FileValue::Text(string.to_string()),
        DeValue::Boolean(is) => FileValue::Boolean(*is),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| FileValue::Other(number.as_str().to_owned()), FileValue::Integer),
        DeValue::Float(number) => FileValue::Other(number.as_str().to_owned()),
        DeValue::Datetime(time) => FileValue::Other(time.to_string()),
        DeValue::Array(items) => {
            FileValue::List(items.iter().map(|item| node(lines, item)).collect())
        }
        DeValue::Table(table) => FileValue::Table(entries(lines, table)),
    };
    FileNode { at, value }
}

/// The messages of the parser that have better words, by their beginning: the message, and the next step.
const WORDS: &[(&str, &str, &str)] = &[
    ("missing assignment between key-value pairs", "a key has no =", "write KEY = VALUE"),
    ("key with no value", "a key has no value", "write KEY = VALUE, or [NAME] for a service"),
    ("missing value for key", "a key has no value", "write KEY = VALUE"),
    ("missing value", "a value is missing", "write KEY = VALUE"),
    (
        "invalid value",
        "this is no value",
        "a text is in quotes; others are numbers, true, false, […] and {…}",
    ),
    ("unclosed array", "an array has no end", "write ] behind its last item"),
    ("unclosed table", "the name of a table has no end", "write [NAME]"),
    ("unclosed array table", "the name of a table has no end", "write [NAME]"),
    ("unclosed inline table", "a table has no end", "write } behind its last value"),
    (
        "missing comma between array elements",
        "two items of an array have no comma between them",
        "write [\"one\", \"two\"]",
    ),
    (
        "missing comma between key-value pairs",
        "two values of a table have no comma between them",
        "write { ONE = 1, TWO = 2 }",
    ),
    ("extra comma", "there is a comma too many", "leave it out"),
    ("extra `=`", "there is a = too many", "leave it out"),
    ("extra assignment", "there is a = too many", "leave it out"),
    (
        "unexpected `=` in array",
        "an array has values, no keys",
        "write [\"one\", \"two\"], or { ONE = 1 } for a table",
    ),
    (
        "invalid unquoted key",
        "this is no key",
        "a key has letters, digits, - and _; others are in quotes",
    ),
    ("unquoted keys cannot be empty", "a key is empty", "write KEY = VALUE"),
    (
        "unexpected leading zero",
        "a number begins with 0",
        "leave the 0 out, or write the value in quotes",
    ),
    ("invalid basic string", "a text in quotes has no end in its line", "write \" behind it"),
    ("invalid literal string", "a text in quotes has no end in its line", "write ' behind it"),
    (
        "missing escaped value",
        "this is no escape of a text in quotes",
        r"write \\ for a backslash, or the text in single quotes",
    ),
    (
        "invalid multi-line",
        "a text of several lines has no end",
        "write the same three quotes behind it",
    ),
    ("invalid float", "this is no number", "write digits, or a text in quotes"),
    ("invalid integer", "this is no number", "write digits, or a text in quotes"),
    ("`_` may only go between digits", "this is no number", "write digits, or a text in quotes"),
    (
        "cannot recurse further",
        "tables or arrays are nested too deeply",
        "a value of a service needs no more than three levels",
    ),
    ("cannot extend value", "this key has a value already", "write the table in one place"),
    (
        "unexpected key or value",
        "there is more behind the value",
        "write each KEY = VALUE in a line of its own",
    ),
];

/// A value that is written without quotes.
const NO_QUOTES: (&str, &str) = ("a text is in quotes", "write \"…\"");

fn fault(lines: &FileLines<'_>, error: &Error) -> ServiceFault {
    let text = lines.text();
    let span = error.span().unwrap_or(0..0);
    let start = span.start;
    let at = lines.position(start);
    let found = text.get(span).unwrap_or_default().lines().next().unwrap_or_default().trim();
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let message = error.message();
    let (words, hint, shown) = match message {
        _ if message.starts_with("duplicate key") => {
            let fault = ServiceFault::new(at, format!("{} is there twice", quoted(found)));
            return fault.hint("leave one of the two out, or give one another name");
        }
        // The parser takes the first letter for that of `nan`, `inf`, `true` or `false`.
        _ if message.starts_with("invalid float") && word_at(line, at).is_some() => {
            (NO_QUOTES.0, NO_QUOTES.1, word_at(line, at).unwrap_or_default())
        }
        _ if message.starts_with("string values must be quoted") => match found {
            "" => ("a value is missing", "write KEY = VALUE", String::new()),
            found => (NO_QUOTES.0, NO_QUOTES.1, found.to_owned()),
        },
        _ if message.starts_with("unclosed array") && line.trim_start().starts_with('[') => {
            ("the name of a table has no end", "write [NAME]", String::new())
        }
        _ => match WORDS.iter().find(|(beginning, ..)| message.starts_with(beginning)) {
            Some((_, words, hint)) => (*words, *hint, found.to_owned()),
            None => {
                let fault = ServiceFault::new(at, format!("this is not TOML: {message}"));
                return fault.hint("a service is [NAME] and lines KEY = VALUE: https://toml.io");
            }
        },
    };
    let message = match shown.as_str() {
        "" => words.to_owned(),
        shown => format!("{words}: {}", quoted(shown)),
    };
    ServiceFault::new(at, message).hint(hint)
}

/// The word without quotes around a place of a line; `None`: it begins with no letter.
fn word_at(line: &str, at: FilePosition) -> Option<String> {
    let ends = |c: &char| c.is_whitespace() || ",[]{}#=\"'".contains(*c);
    let before: Vec<char> = line.chars().take(at.column - 1).collect();
    let start = before.iter().rposition(ends).map_or(0, |place| place + 1);
    let word: String = line.chars().skip(start).take_while(|c| !ends(c)).collect();
    word.starts_with(char::is_alphabetic).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_are_in_our_words() {
        for (text, expected) in [
            ("command = node\n", "1:11: a text is in quotes: \"node\""),
            ("command = [npm, \"start\"]\n", "1:12: a text is in quotes: \"npm\""),
            ("user = www-data\n", "1:8: a text is in quotes: \"www-data\""),
            ("hold = yes\n", "1:8: a text is in quotes: \"yes\""),
            ("command\n", "1:8: a key has no value"),
            ("command =\n", "1:10: a value is missing"),
            ("[web\n", "1:5: the name of a table has no end"),
            ("[[web]\n", "1:7: the name of a table has no end"),
            ("command = [\"a\"\n", "1:15: an array has no end"),
            ("command = [\"a\" \"b\"]\n", "1:16: two items of an array have no comma between them"),
            (
                "env = { A = \"1\" B = 2 }\n",
                "1:17: two values of a table have no comma between them",
            ),
            ("env = { A = 1\n", "1:14: a table has no end"),
            ("command = \"a\n", "1:13: a text in quotes has no end in its line"),
            ("command = 'a\n", "1:13: a text in quotes has no end in its line"),
            ("workers = 04\n", "1:11: a number begins with 0: \"0\""),
            ("workers = \"4\" surge = 1\n", "1:15: there is more behind the value"),
            ("a = 1\na = 2\n", "2:1: \"a\" is there twice"),
            ("[web]\n[web]\n", "2:2: \"web\" is there twice"),
            ("e = { A = 1 }\ne.B = 2\n", "2:1: this key has a value already: \"e\""),
            ("command = [\"a\",, \"b\"]\n", "1:16: there is a comma too many: \",\""),
            ("= 4\n", "1:1: a key is empty"),
            ("$x = 4\n", "1:1: this is no key: \"$\""),
            ("workers == 4\n", "1:10: there is a = too many: \"=\""),
            ("x = \"\\q\"\n", "1:7: this is no escape of a text in quotes"),
            ("x = \"\"\"a\n", "2:1: a text of several lines has no end"),
            ("x = '''a\n", "2:1: a text of several lines has no end"),
            ("x = 1__0\n", "1:6: this is no number: \"_\""),
            ("x = 0z1\n", "1:5: a text is in quotes: \"0z1\""),
        ] {
            let faults = parse(text).unwrap_err();
            assert_eq!(faults[0].to_string(), expected, "{text}");
            assert!(faults[0].hint.is_some(), "{text}");
        }
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let text = "[web]\ncommand = node\nworkers = 2\n[api]\ncommand =\n$ = 3\n";
        let faults = parse(text).unwrap_err();
        let lines: Vec<usize> = faults.iter().map(|fault| fault.at.line).collect();
        assert_eq!(lines, [2, 5, 6]);
    }

    #[test]
    fn entries_are_in_the_order_of_the_file() {
        let root = parse("[web]\nz = 1\na = [0x10, 1.5, true]\nz2.y = 'é'\n[api]\n").unwrap();
        let keys: Vec<&str> = root.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["web", "api"]);
        let FileValue::Table(web) = &root[0].node.value else { panic!("{root:?}") };
        let shown = |entry: &FileEntry| format!("{} {} {}", entry.at, entry.key, entry.node.value);
        let lines: Vec<String> = web.iter().map(shown).collect();
        assert_eq!(lines, ["2:1 z 1", "3:1 a an array", "4:1 z2 a table"]);
        let FileValue::List(items) = &web[1].node.value else { panic!("{web:?}") };
        let shown = |item: &FileNode| format!("{} {}", item.at, item.value);
        let items: Vec<String> = items.iter().map(shown).collect();
        assert_eq!(items, ["3:6 16", "3:12 1.5", "3:17 true"]);
    }
}
