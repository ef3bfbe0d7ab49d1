//! The markers of the private dialect: words that a comment in plain technical English lacks.

use source_tree::{Comment, in_a_name};

/// Where in a sentence a phrase is a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning of a sentence that is not a question.
    Beginning,
    Anywhere,
    End,
}

/// Whole words, in lower case.
const MARKERS: &[(Place, &[&str])] = &[
    // Relative clauses as subjects.
    (Place::Beginning, &["what", "who", "whoever", "those who", "those that"]),
    // Constructions for which there is a verb or a noun.
    (
        Place::Anywhere,
        &[
            "told of",
            "is told",
            "are told",
            "none is",
            "are none",
            "is let",
            "goes by",
            "so many",
            "nobody",
            "somebody",
            "whoever",
            "of which",
            "whom",
            "for who",
            "of who",
            "to who",
            "it is to",
            "is to be",
            "are to be",
            "cannot be had",
            "to be had",
        ],
    ),
    (Place::End, &["therefore"]),
    // Metaphors.
    (
        Place::Anywhere,
        &[
            "house", "houses", "room", "rooms", "wall", "walls", "letter", "clothes", "victim",
            "victims", "door", "doors", "stage", "stages", "cast", "kin",
        ],
    ),
];

/// Phrases of the field in which a marker is none.
const TERMS: &[&str] = &[
    "wall clock",
    "wall-clock",
    "wall time",
    "room for",
    "room in",
    "letter by letter",
    "upper-case letter",
    "lower-case letter",
    "two-stage",
];

/// One marker in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) phrase: &'static str,
    /// The sentence, cut to its beginning.
    pub(super) sentence: String,
}

/// True for a comment that is long enough to be measured.
pub(super) fn is_measured(comment: &Comment) -> bool {
    let words = comment.prose().into_iter().map(|(_, line)| line.split_whitespace().count());
    words.sum::<usize>() >= 4
}

/// The markers of a comment, in the order of its text.
pub(super) fn markers(comment: &Comment) -> Vec<Found> {
    let (mut text, mut lines) = (String::new(), Vec::new());
    for (number, line) in comment.prose() {
        lines.push((text.len(), number));
        text.push_str(&without_code(line).to_lowercase());
        text.push(' ');
    }
    let mut found = Vec::new();
    for (begin, sentence) in sentences(&text) {
        for (place, phrase) in
            MARKERS.iter().flat_map(|(place, all)| all.iter().map(move |it| (place, it)))
        {
            for at in occurrences(sentence, phrase)
                .filter(|at| is_in_place(*place, sentence, *at, phrase))
            {
                let line = lines.iter().rev().find(|(offset, _)| *offset <= begin + at);
                let line = line.map_or(comment.line, |(_, number)| *number);
                let sentence = sentence.trim().chars().take(70).collect();
                found.push((begin + at, Found { line, phrase, sentence }));
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    // "whoever" at the beginning is a marker once.
    found.dedup_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, it)| it).collect()
}

/// Blanks out what is in backticks and in double quotes.
fn without_code(line: &str) -> String {
    let mut inside = None;
    let blank = |c: char| match inside {
        None if matches!(c, '`' | '"') => {
            inside = Some(c);
            '_'
        }
        None => c,
        Some(end) => {
            inside = inside.filter(|_| c != end);
            '_'
        }
    };
    line.chars().map(blank).collect()
}

/// Sentences with their offsets. A line of a list or a heading begins a sentence too.
fn sentences(text: &str) -> Vec<(usize, &str)> {
    let ends = text.char_indices().filter(|(at, c)| {
        let after = &text[at + c.len_utf8()..];
        matches!(c, '.' | '?' | '!') && (after.is_empty() || after.starts_with(' '))
    });
    let (mut begin, mut found) = (0, Vec::new());
    for (at, c) in ends {
        let end = at + c.len_utf8();
        found.push((begin, &text[begin..end]));
        begin = end;
    }
    found.push((begin, &text[begin..]));
    found
}

/// Offsets at which the phrase stands as whole words, outside of terms.
fn occurrences<'a>(sentence: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_in_term = move |at: usize| {
        TERMS.iter().any(|term| {
            sentence.match_indices(term).any(|(begin, _)| (begin..begin + term.len()).contains(&at))
        })
    };
    sentence.match_indices(phrase).map(|(at, _)| at).filter(move |&at| {
        let before = sentence[..at].chars().next_back();
        let after = sentence[at + phrase.len()..].chars().next();
        let is_joined =
            |edge: Option<char>| edge.is_some_and(|c| in_a_name(c) || c == '-' || c == '/');
        !is_joined(before) && !is_joined(after) && !is_in_term(at)
    })
}

fn is_in_place(place: Place, sentence: &str, at: usize, phrase: &str) -> bool {
    match place {
        Place::Anywhere => true,
        Place::Beginning => {
            let is_first = !sentence[..at].contains(in_a_name);
            is_first && !sentence.ends_with('?')
        }
        Place::End => !sentence[at + phrase.len()..].contains(in_a_name),
    }
}

#[cfg(test)]
mod tests {
    use source_tree::Source;

    use super::*;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        let source = Source::new("a.rs", text);
        source.comments().iter().flat_map(markers).map(|it| (it.line, it.phrase)).collect()
    }

    #[test]
    fn every_marker_is_found() {
        for (place, phrases) in MARKERS {
            for phrase in *phrases {
                let text = match place {
                    Place::Beginning => format!("// One. {phrase} may come\n"),
                    Place::Anywhere => format!("// Before\n// {phrase} and after.\n"),
                    Place::End => format!("// It goes on, {phrase}.\n"),
                };
                let line = if *place == Place::Anywhere { 2 } else { 1 };
                assert!(found(&text).contains(&(line, phrase)), "{text}");
                let code =
                    format!("// In `{phrase}`, \"{phrase}\", a{phrase}, {phrase}x, {phrase}-x\n");
                assert_eq!(found(&code), [], "{code}");
                assert_eq!(found(&format!("let a = \"{phrase}\";\n")), []);
            }
        }
    }

    #[test]
    fn what_is_no_marker_is_not_found() {
        for text in [
            "/// Returns what the kernel said.\n",
            "/// What is left?\n",
            "/// Ignored, therefore, by the worker.\n",
            "/// The wall clock has room for 8 bytes.\n",
            "/// ```\n/// nobody is told of it\n/// ```\n",
            "/// Runs as the user `nobody`.\n",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn lines_and_order_are_those_of_the_text() {
        let text =
            "/// Whoever asks is\n/// told of it. What remains\n/// is kept, so\n/// many are.\n";
        let expected =
            [(1, "whoever"), (1, "is told"), (2, "told of"), (2, "what"), (3, "so many")];
        assert_eq!(found(text), expected);
        assert!(is_measured(&Source::new("a.rs", text).comments()[0]));
        assert!(!is_measured(&Source::new("a.rs", "// a b c\n").comments()[0]));
    }
}
