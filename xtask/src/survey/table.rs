//! The survey as text.

use std::fmt::Write as _;

use super::measure::{Lengths, Numbers, Share, Survey};

/// The rows of the whole tree, then one row a package.
pub(super) fn text(survey: &Survey) -> String {
    let all = &survey.all;
    let rows = [
        ("files", all.files.to_string()),
        ("lines", all.lines.to_string()),
        ("lines of a file", lengths(&survey.files)),
        ("functions", survey.functions.count.to_string()),
        ("lines of a function", lengths(&survey.functions)),
        ("types that share a name", share(all.shared_names)),
        ("  beside Args, Error, Options", share(all.shared_names_beside_exceptions)),
        ("pub(in …) per 1,000 lines", per_thousand(all)),
        ("lines of inline comments", share(inline(all))),
        ("import cycles", format!("{} of {} files", all.import_cycles, all.files_in_cycles)),
        ("comments with dialect", share(survey.markers)),
        ("  tests included", share(survey.markers_with_tests)),
    ];
    let mut text = String::from("Outside tests, all packages:\n");
    for (name, value) in rows {
        line(&mut text, &format!("  {name:<32}{value}"));
    }
    text.push('\n');
    line(
        &mut text,
        &format!(
            "{:<20}{:>6}{:>8}{:>18}{:>10}{:>18}{:>18}",
            "package",
            "files",
            "lines",
            "shared names",
            "pub(in",
            "inline comments",
            "import cycles"
        ),
    );
    for (name, it) in &survey.packages {
        let cycles = format!("{} of {} files", it.import_cycles, it.files_in_cycles);
        line(
            &mut text,
            &format!(
                "{name:<20}{:>6}{:>8}{:>18}{:>10}{:>18}{cycles:>18}",
                it.files,
                it.lines,
                share(it.shared_names),
                per_thousand(it),
                share(inline(it)),
            ),
        );
    }
    let mut phrases: Vec<_> = survey.phrases.iter().collect();
    phrases.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let phrases = phrases.iter().map(|(phrase, count)| format!("{phrase} {count}"));
    line(&mut text, &format!("\nMarkers: {}", phrases.collect::<Vec<_>>().join(", ")));
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

fn lengths(it: &Lengths) -> String {
    format!("median {}, longest {} ({})", it.median, it.longest, it.longest_is)
}

/// `12.5 % of 16`.
fn share(share: Share) -> String {
    let tenths = (share.part * 1000 + share.whole / 2).checked_div(share.whole).unwrap_or(0);
    format!("{}.{} % of {}", tenths / 10, tenths % 10, share.whole)
}

fn per_thousand(numbers: &Numbers) -> String {
    let tenths = (numbers.pub_in * 10_000).checked_div(numbers.lines).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn inline(numbers: &Numbers) -> Share {
    Share { part: numbers.inline_comment_lines, whole: numbers.lines }
}

#[test]
fn numbers_are_rounded() {
    assert_eq!(share(Share { part: 1, whole: 8 }), "12.5 % of 8");
    assert_eq!(share(Share { part: 2, whole: 3 }), "66.7 % of 3");
    assert_eq!(share(Share { part: 0, whole: 0 }), "0.0 % of 0");
    assert_eq!(per_thousand(&Numbers { pub_in: 3, lines: 2000, ..Numbers::default() }), "1.5");
}

#[test]
fn the_table_has_the_tree_and_each_package() {
    let source = source_tree::Source::new("crates/a/src/lib.rs", "//! What it is, nobody knows.\n");
    let text = text(&Survey::of(&[source]));
    assert!(text.contains("  comments with dialect           100.0 % of 1\n"), "{text}");
    assert!(text.contains("\ncrates/a "), "{text}");
    assert!(text.ends_with("Markers: nobody 1, what 1\n"), "{text}");
}
