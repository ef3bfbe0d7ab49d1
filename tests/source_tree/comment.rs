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
    /// The whole text as one line, without code blocks.
    pub fn text(&self) -> String {
        let mut is_code = false;
        let prose = self.lines.iter().map(|line| line.trim()).filter(|line| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        prose.collect::<Vec<_>>().join(" ")
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
    let found: Vec<_> = comments(text, &spans, &[])
        .iter()
        .map(|it| (it.line, it.text(), it.is_documentation))
        .collect();
    let expected = [
        (1, "a b", true),
        (4, "c", false),
        (5, "d", true),
        (6, "f", false),
        (7, "g", false),
        (8, "h i", false),
        (10, "j", false),
        (12, "k", false),
    ];
    assert_eq!(found, expected.map(|(line, text, is)| (line, text.to_owned(), is)));
    let code = Comment {
        line: 1,
        lines: vec!["a".into(), "```".into(), "b".into(), "```".into()],
        is_documentation: true,
        is_for_tests: false,
    };
    assert_eq!(code.text(), "a");
}
