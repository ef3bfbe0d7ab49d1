//! Blanks out what is not code: comments and literals, then test items.

use crate::token::{Token, in_a_name, tokens};

/// The position of a comment in a text.
pub(crate) type Span = std::ops::Range<usize>;

/// Replaces comments and quoted literals by spaces. Every byte keeps its offset and its line.
///
/// Also returns the spans of the comments.
pub(crate) fn blanked(text: &str) -> (String, Vec<Span>) {
    let mut code = String::with_capacity(text.len());
    let mut comments = Vec::new();
    while let Some(first) = text[code.len()..].chars().next() {
        let (at, rest) = (code.len(), &text[code.len()..]);
        let (opaque, is_comment) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (block_comment(rest), true),
            '"' => (quoted(rest, 1, '"'), false),
            'r' if !code.ends_with(in_a_name) || is_literal_prefix(&code) => {
                (raw_string(rest), false)
            }
            '\'' => (character(rest), false),
            _ => (0, false),
        };
        if opaque == 0 {
            code.push(first);
            continue;
        }
        if is_comment {
            comments.push(at..at + opaque);
        }
        erase(&mut code, &rest[..opaque]);
    }
    (code, comments)
}

/// Appends a space for each byte of the text, and its line ends as they are.
fn erase(code: &mut String, text: &str) {
    code.extend(text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

/// True after the `b` or `c` of `br"…"` or `cr"…"`.
fn is_literal_prefix(code: &str) -> bool {
    let before = code.strip_suffix(['b', 'c']);
    before.is_some_and(|before| !before.ends_with(in_a_name))
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

/// Length of a quoted literal with backslashes that begins after `start` bytes.
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

/// Blanks out every item, statement or field below `#[cfg(test)]` or `#[cfg(all(test, …))]`.
///
/// Also returns the spans of the test items.
pub(crate) fn without_tests(code: &str) -> (String, Vec<Span>) {
    let tokens = tokens(code);
    let (mut kept, mut spans) = (String::with_capacity(code.len()), Vec::new());
    for (index, token) in tokens.iter().enumerate() {
        if token.at < kept.len() || !is_test_attribute(&tokens[index..]) {
            continue;
        }
        let end = item_end(&tokens, index).map_or(code.len(), Token::end);
        kept.push_str(&code[kept.len()..token.at]);
        erase(&mut kept, &code[token.at..end]);
        spans.push(token.at..end);
    }
    kept.push_str(&code[kept.len()..]);
    (kept, spans)
}

pub(crate) fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    let begins = |words: &[&str]| {
        tokens.len() > words.len() && words.iter().zip(tokens).all(|(word, it)| it.text == *word)
    };
    begins(&["#", "[", "cfg", "(", "test", ")"])
        || begins(&["#", "[", "cfg", "(", "all", "(", "test", ","])
}

/// The last token of the item that begins with attributes at `index`.
fn item_end<'a, 'b>(tokens: &'b [Token<'a>], index: usize) -> Option<&'b Token<'a>> {
    let mut at = index;
    while tokens.get(at)?.text == "#" {
        at = closing(tokens, at + 1)? + 1;
    }
    let first = tokens[at..].iter().take_while(|it| !matches!(it.text, ";" | "{" | ","));
    let words: Vec<_> = first.map(|it| it.text).collect();
    let has = |keyword: &str| words.contains(&keyword);
    let is_use = has("use");
    let is_item = ["fn", "mod", "struct", "enum", "impl", "trait", "const", "static", "type"];
    let ends_at_comma = !is_use && !is_item.iter().any(|keyword| has(keyword));
    loop {
        match tokens.get(at)?.text {
            ";" => return tokens.get(at),
            "," if ends_at_comma => return tokens.get(at),
            ")" | "]" | "}" => return tokens.get(at.checked_sub(1)?),
            "{" if !is_use && !has("=") => return tokens.get(closing(tokens, at)?),
            "{" | "(" | "[" => at = closing(tokens, at)?,
            _ => {}
        }
        at += 1;
    }
}

/// The index of the bracket that closes the one at `index`.
pub(crate) fn closing(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(index) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[test]
fn comments_and_literals_are_blanked() {
    let cases = [
        ("a // println!\nb", "a            \nb", 1),
        ("a /* x /* y */ z */ b", "a                   b", 1),
        (r#"f("a \" // b") + 1"#, r#"f(           ) + 1"#, 0),
        ("r\"\\\" + r#\"a\"b\"# + ring", "     +          + ring", 0),
        ("br\"\\\" + b\"a\"", "b     + b   ", 0),
        ("f::<'a>('\\'' ; '{' ; 'ä')", "f::<'a>(     ;     ;     )", 0),
    ];
    for (text, expected, comments) in cases {
        let (code, found) = blanked(text);
        assert_eq!((code.as_str(), found.len()), (expected, comments), "{text}");
    }
}

#[test]
fn test_items_are_blanked_and_nothing_else() {
    let cases = [
        ("a #[cfg(test)] mod t { fn f() {} } b", "a b"),
        ("a #[cfg(test)] #[path = ] mod t; b", "a b"),
        ("#[cfg(test)] use a::{b, c}; d", "d"),
        ("#[cfg(all(test, unix))] fn f(a: [u8; 4]) -> u8 { 1 } d", "d"),
        ("struct A { #[cfg(test)] b: u8, c: u8 }", "struct A { c: u8 }"),
        ("A { #[cfg(test)] b: 1 }", "A { }"),
        ("#[cfg(test)] const A: B = B { c: [1; 2] }; d", "d"),
        ("#[cfg(not(test))] fn f() {}", "#[cfg(not(test))] fn f() {}"),
    ];
    for (text, expected) in cases {
        let (code, _) = without_tests(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
    }
}
