//! Commands for a shell. Other programs chose their words, so every word is quoted.

use std::ffi::OsStr;

use super::text::controls_terminal;

/// The longest command in characters; it is cut between words.
const LIMIT: usize = 200;

/// Quotes one word for the shell and escapes control characters.
pub(crate) fn word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else if word.chars().any(controls_terminal) {
        format!("$'{}'", word.chars().map(escaped).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Within `$'…'`.
fn escaped(c: char) -> String {
    match c {
        '\n' => r"\n".to_owned(),
        '\t' => r"\t".to_owned(),
        '\\' => r"\\".to_owned(),
        // A shell without `$'…'` would end the quote at `\'` and execute the rest.
        '\'' => r"\x27".to_owned(),
        c if controls_terminal(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    }
}

/// A command line. A long one ends with `…` between two words.
pub(crate) fn command<Word: AsRef<str>>(words: impl IntoIterator<Item = Word>) -> String {
    command_within(LIMIT, words)
}

/// A command line of at most `limit` characters.
fn command_within<Word: AsRef<str>>(limit: usize, words: impl IntoIterator<Item = Word>) -> String {
    let mut line = String::new();
    for next in words {
        let next = word(next.as_ref());
        if line.chars().count().saturating_add(next.chars().count()) > limit {
            line.push('…');
            return line;
        }
        line.push_str(&next);
        line.push(' ');
    }
    line.truncate(line.trim_end().len());
    line
}

/// The whole command line of words that need not be UTF-8, in a table.
pub(crate) fn whole_command<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> String {
    let words = words.into_iter().map(|word| word.as_ref().to_string_lossy().into_owned());
    command_within(usize::MAX, words)
}

/// The command line of words that need not be UTF-8.
pub(crate) fn os_command<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> String {
    command(words.into_iter().map(|word| word.as_ref().to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        assert_eq!(command(["node", "-e", "listen(80)"]), "node -e 'listen(80)'");
        assert_eq!(command(["a", "", "it's", "$(b); `c`"]), r"a '' 'it'\''s' '$(b); `c`'");
        assert_eq!(command(["a\nb'c\\", "\u{1b}[2J\u{9b}"]), r"$'a\nb\x27c\\' $'\u001b[2J\u009b'");
    }

    #[test]
    fn a_command_is_cut_between_words_only() {
        let long = "x y".repeat(100);
        assert_eq!(command(["python3", "-c", &long, "b"]), "python3 -c …");
        assert_eq!(command([&long]), "…");
        assert_eq!(command(["a"; 200]).chars().count(), 2 * LIMIT / 2 + 1);
    }
}
