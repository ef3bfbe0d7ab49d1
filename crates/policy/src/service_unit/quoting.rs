//! Words and values of unit files. Each function gives `None` for bytes that systemd cannot read there.
//!
//! Source: `systemd.syntax(7)`, "Quoting"; `systemd.service(5)`, "Command lines"; `systemd.exec(5)`.

use std::ffi::OsStr;
use std::path::Path;

/// Whether `$` begins a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dollar {
    /// In the arguments of a command, where `$$` is one `$`.
    Doubled,
    /// In the path of a command and in `Environment=`.
    Plain,
}

/// An argument of `ExecStart=`. systemd reads any bytes there.
pub(super) fn argument(word: &OsStr) -> String {
    quoted(word.as_encoded_bytes(), Dollar::Doubled)
}

/// The program of `ExecStart=`. systemd refuses a path with a control character or with invalid UTF-8.
pub(super) fn program(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| text.starts_with('/'))?;
    (!text.contains(char::is_control)).then(|| quoted(text.as_bytes(), Dollar::Plain))
}

/// One assignment of `Environment=`. The manager refuses other names than those of a shell, invalid UTF-8, and
/// control characters except tab and newline.
pub(super) fn variable(name: &OsStr, value: &OsStr) -> Option<String> {
    let (name, value) = (name.to_str()?, value.to_str()?);
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let begins = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let is_shown = |c: char| !c.is_control() || matches!(c, '\t' | '\n');
    (begins && name.chars().all(is_name) && value.chars().all(is_shown))
        .then(|| quoted(format!("{name}={value}").as_bytes(), Dollar::Plain))
}

/// The value of `WorkingDirectory=`, which has no quotes: blanks at its ends are lost, and `\` at its end
/// continues the line.
pub(super) fn directory(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| text.starts_with('/'))?;
    let is_kept = !text.contains(char::is_control)
        && text.trim_end_matches([' ', '\t']) == text
        && !text.ends_with('\\');
    is_kept.then(|| text.replace('%', "%%"))
}

/// The value of `EnvironmentFile=`, a pattern of `glob(7)` without quotes.
pub(super) fn environment_file(path: &Path) -> Option<String> {
    let text = directory(path)?;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Some(escaped)
}

/// A word in quotes, unless every reader reads it as it is.
fn quoted(word: &[u8], dollar: Dollar) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./+@:,=".contains(byte);
    // Before a program these characters are prefixes with a meaning.
    let has_prefix = dollar == Dollar::Plain && word.starts_with(b"-");
    if !word.is_empty() && !has_prefix && word.iter().all(is_plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    let mut text = String::from("\"");
    for chunk in word.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut text, c, dollar));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}

fn push(text: &mut String, c: char, dollar: Dollar) {
    match c {
        '"' | '\\' => text.extend(['\\', c]),
        '%' => text.push_str("%%"),
        '$' if dollar == Dollar::Doubled => text.push_str("$$"),
        '\n' => text.push_str("\\n"),
        '\t' => text.push_str("\\t"),
        c if c.is_control() => {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("\\x{byte:02x}"));
            }
        }
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted() {
        for (word, expected) in [
            ("-n", "-n"),
            ("http://127.0.0.1:80/", "http://127.0.0.1:80/"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("'", "\"'\""),
            ("\"\\", "\"\\\"\\\\\""),
            ("100%i", "\"100%%i\""),
            ("$HOME ${X}", "\"$$HOME $${X}\""),
            ("a\nb\tc\r", "\"a\\nb\\tc\\x0d\""),
            (";", "\";\""),
            ("\u{85}é", "\"\\xc2\\x85é\""),
        ] {
            assert_eq!(argument(OsStr::new(word)), expected, "{word:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        use std::os::unix::ffi::OsStrExt as _;
        let word = OsStr::from_bytes(b"a\xff\xc3 b");
        assert_eq!(argument(word), "\"a\\xff\\xc3 b\"");
        assert_eq!(program(Path::new(OsStr::from_bytes(b"/a\xff"))), None);
        assert_eq!(directory(Path::new(OsStr::from_bytes(b"/a\xff"))), None);
        assert_eq!(variable(OsStr::new("A"), word), None);
    }

    #[test]
    fn a_program_has_no_variables() {
        for (path, expected) in [
            ("/usr/bin/sameport", Some("/usr/bin/sameport")),
            ("/opt/my $x 5%/sp", Some("\"/opt/my $x 5%%/sp\"")),
            ("sameport", None),
            ("/a\nb", None),
        ] {
            assert_eq!(program(Path::new(path)).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn variables_that_the_manager_refuses_are_none() {
        for (name, value, expected) in [
            ("A", "1", Some("A=1")),
            ("_A1", "b $c 5%\n", Some("\"_A1=b $c 5%%\\n\"")),
            ("A", "", Some("A=")),
            ("1A", "", None),
            ("A.B", "", None),
            ("A", "\u{1b}[31m", None),
        ] {
            let found = variable(OsStr::new(name), OsStr::new(value));
            assert_eq!(found.as_deref(), expected, "{name}={value:?}");
        }
    }

    #[test]
    fn paths_without_quotes_keep_their_ends() {
        for (path, expected) in [
            ("/srv/my web", Some("/srv/my web")),
            ("/srv/5%", Some("/srv/5%%")),
            ("/srv/\"a\"", Some("/srv/\"a\"")),
            ("/srv/a ", None),
            ("/srv/a\\", None),
            ("/srv/a\nb", None),
            ("srv", None),
        ] {
            assert_eq!(directory(Path::new(path)).as_deref(), expected, "{path:?}");
        }
        let found = environment_file(Path::new("/etc/a*[b]\\c?.env"));
        assert_eq!(found.as_deref(), Some("/etc/a\\*\\[b]\\\\c\\?.env"));
    }
}
