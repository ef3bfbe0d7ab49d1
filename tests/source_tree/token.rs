//! Splits blanked code into words and signs.

/// One word or sign of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// Byte offset in the code.
    pub(crate) at: usize,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// True for a word that is not a number.
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| in_a_name(c) && !c.is_numeric())
    }
}

/// True for a character of identifiers.
pub fn in_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The tokens of code without comments and literals. `::` and lifetimes are one token each.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = code[at..].chars().next() {
        let rest = &code[at..];
        let word =
            |from: usize| from + rest[from..].find(|c| !in_a_name(c)).unwrap_or(rest.len() - from);
        let length = match first {
            _ if rest.starts_with("r#") => word(2),
            _ if in_a_name(first) => word(0),
            '\'' => word(1),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        if first == '\n' {
            line += 1;
        } else if !first.is_whitespace() {
            found.push(Token { text: &rest[..length], at, line });
        }
        at += length;
    }
    found
}

#[test]
fn words_and_signs_are_split() {
    let texts = |code| tokens(code).iter().map(|it| it.text).collect::<Vec<_>>();
    assert_eq!(texts("a::b_1<'c>;"), ["a", "::", "b_1", "<", "'c", ">", ";"]);
    assert_eq!(texts("r#type: ring"), ["r#type", ":", "ring"]);
    let lines: Vec<_> = tokens("a\n\n b").iter().map(|it| (it.line, it.at)).collect();
    assert_eq!(lines, [(1, 0), (3, 4)]);
}
