//! Comments: runs of `//` lines, and block comments.

use crate::blank::Span;

/// One comment. Comment lines of the same kind without a line of code between them are one comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The line on which it begins.
    pub line: usize,
    /// The text of each line without `//`, `///` and `//!`.
    pub lines: Vec<String>,
    /// True for documentation (`///`, `//!`, `/** */`).
    pub is_documentation: bool,
    /// True in a test file and within a test item.
    pub is_for_tests: bool,
}

impl Comment {
    /// Each line of the text with its number, without code blocks.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_code = false;
        let lines = self.lines.iter().zip(self.line..).filter(|(line, _)| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        lines.map(|(line, number)| (number, line.as_str())).collect()
    }
}

/// Reads the comments at `spans`; those within `tests` are for tests.
pub(crate) fn comments(text: &str, spans: &[Span], tests: &[Span]) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let mut last: Option<(usize, &str)> = None;
    for span in spans {
        let comment = &text[span.clone()];
        let mark = ["///", "//!", "//", "/*"].into_iter().find(|mark| comment.starts_with(mark));
        let mark = mark.filter(|_| !comment.starts_with("////")).unwrap_or("//");
        let begin = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let is_alone = text[begin..span.start].trim().is_empty();
        let goes_on = last.is_some_and(|(end, before)| {
            is_alone
                && before == mark
                && mark != "/*"
                && text[end..span.start].trim().is_empty()
                && text[end..span.start].matches('\n').count() == 1
        });
        let lines = comment.lines().map(|line| {
            line.trim().trim_start_matches(['/', '*', '!']).trim_end_matches("*/").trim().to_owned()
        });
        match found.last_mut().filter(|_| goes_on) {
            Some(comment) => comment.lines.extend(lines),
            None => found.push(Comment {
                line: text[..span.start].matches('\n').count() + 1,
                lines: lines.collect(),
                is_documentation: matches!(mark, "///" | "//!") || comment.starts_with("/**"),
                is_for_tests: tests.iter().any(|it| it.contains(&span.start)),
            }),
        }
        last = Some((span.end, mark)).filter(|_| is_alone);
    }
    found
}

#[test]
fn runs_of_lines_are_one_comment() {
    let text = "//! a\n//! b\n\n// c\n/// d\nfn e() {} // f\n// g\n/* h\n i */\n// j\n\n// k\n";
    let (_, spans) = crate::blank::blanked(text);
    let found = comments(text, &spans, &[]);
    let lines: Vec<_> = found.iter().map(Comment::prose).collect();
    let expected: [&[_]; 8] = [
        &[(1, "a"), (2, "b")],
        &[(4, "c")],
        &[(5, "d")],
        &[(6, "f")],
        &[(7, "g")],
        &[(8, "h"), (9, "i")],
        &[(10, "j")],
        &[(12, "k")],
    ];
    assert_eq!(lines, expected);
    let documentation: Vec<_> =
        found.iter().filter(|it| it.is_documentation).map(|it| it.line).collect();
    assert_eq!(documentation, [1, 5]);
}

#[test]
fn code_blocks_are_no_prose() {
    let text = "/// a\n/// ```\n/// b\n/// ```\n/// c\n";
    let (_, spans) = crate::blank::blanked(text);
    assert_eq!(comments(text, &spans, &[])[0].prose(), [(1, "a"), (5, "c")]);
}
