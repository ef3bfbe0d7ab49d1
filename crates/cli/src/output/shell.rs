//! Commands for a shell. Other programs chose their words, so every word is quoted.

use std::ffi::OsStr;

use super::text::controls_terminal;

/// The longest excerpt of a command in characters; it is cut between words.
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

/// A command line, whole: a user may paste it.
pub(crate) fn command<Word: AsRef<str>>(words: impl IntoIterator<Item = Word>) -> String {
    command_within(usize::MAX, words)
}

/// The beginning of a command line, which tells what a program is. A long one ends with `…` between two words.
pub(crate) fn excerpt<Word: AsRef<str>>(words: impl IntoIterator<Item = Word>) -> String {
    command_within(LIMIT, words)
}

/// A command line of at most `limit` characters.
fn command_within<Word: AsRef<str>>(limit: usize, words: impl IntoIterator<Item = Word>) -> String {
    let (mut line, mut length) = (String::new(), 0_usize);
    for next in words {
        let next = word(next.as_ref());
        length = length.saturating_add(next.chars().count());
        if length > limit {
            line.push('…');
            return line;
        }
        line.push_str(&next);
        line.push(' ');
        length += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// The beginning of a command line by which root executes the rest as this user: a name, or a number without
/// one.
pub(crate) fn as_user(user: &str) -> String {
    match user.parse::<u32>() {
        Ok(uid) => format!("setpriv --reuid={uid} --regid={uid} --clear-groups "),
        Err(_) => format!("runuser -u {} -- ", word(user)),
    }
}

/// The command line of words that need not be UTF-8, whole.
pub(crate) fn os_command<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> String {
    command(lossy(words))
}

/// [`excerpt`] of words that need not be UTF-8.
pub(crate) fn os_excerpt<Word: AsRef<OsStr>>(words: impl IntoIterator<Item = Word>) -> String {
    excerpt(lossy(words))
}

fn lossy<Word: AsRef<OsStr>>(
    words: impl IntoIterator<Item = Word>,
) -> impl Iterator<Item = String> {
    words.into_iter().map(|word| word.as_ref().to_string_lossy().into_owned())
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
    fn an_excerpt_is_cut_between_words_only_and_a_command_nowhere() {
        let long = "x y".repeat(100);
        assert_eq!(excerpt(["python3", "-c", &long, "b"]), "python3 -c …");
        assert_eq!(excerpt([&long]), "…");
        assert_eq!(excerpt(["a"; 200]).chars().count(), 2 * LIMIT / 2 + 1);
        assert_eq!(command(["python3", "-c", &long, "b"]), format!("python3 -c '{long}' b"));
        assert_eq!(os_command(["a"; 200]), ["a"; 200].join(" "));
    }
}
