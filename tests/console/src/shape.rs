//! Whether output has the printed shape.

/// A line without what differs from run to run: numbers, and the widths of columns. Ports stay.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut previous = ' ';
    let text = words.join(" ");
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let begins = character.is_ascii_digit() && !previous.is_ascii_alphanumeric();
        previous = character;
        if !begins {
            shape.push(character);
            continue;
        }
        let is_port = shape.ends_with(':');
        let mut number = String::from(character);
        while let Some(next) = rest.next_if(|it| it.is_ascii_digit() || *it == ',') {
            number.push(next);
        }
        previous = '0';
        match is_port {
            true => shape.push_str(&number),
            false => shape.push('0'),
        }
        // A comma behind the number belongs to the sentence.
        if number.ends_with(',') && !is_port {
            shape.push(',');
        }
    }
    shape
}

/// A line without the counts at its end that are not printed when they are zero: `, 2 connections open, 1 in hand`.
fn without_counts(line: &str) -> &str {
    let Some(at) = line.find(" connection").filter(|at| line[*at..].contains(" open")) else {
        return line;
    };
    line[..at].rfind(", ").map_or(line, |comma| &line[..comma])
}

/// Whether a line is a printed line. `…` stands for any text.
fn is_line(printed: &str, line: &str) -> bool {
    let [printed, line] = [printed, line].map(|line| shape(without_counts(line)));
    let mut parts = printed.split('…');
    let mut rest = match line.strip_prefix(parts.next().unwrap_or_default()) {
        Some(rest) => rest,
        None => return false,
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        Some(part) => part.is_empty() || line.ends_with(part),
        None => rest.is_empty(),
    }
}

/// Whether output is as printed: from the first line to the last, or, because the order of what several
/// processes do is not fixed, the same lines in another order.
#[must_use]
pub fn same(printed: &[String], output: &[String]) -> bool {
    let has_gap = printed.iter().any(|line| line.trim() == "…");
    in_order(printed, output) || !has_gap && same_set(printed, output)
}

/// Whether each line is one of the other lines. A line may be repeated.
fn same_set(printed: &[String], output: &[String]) -> bool {
    let is_printed = |line: &String| printed.iter().any(|printed| is_line(printed, line));
    let is_output = |printed: &String| output.iter().any(|line| is_line(printed, line));
    output.iter().all(is_printed) && printed.iter().all(is_output)
}

fn in_order(printed: &[String], output: &[String]) -> bool {
    let Some((first, more)) = printed.split_first() else { return output.is_empty() };
    if first.trim() == "…" {
        return (0..=output.len()).any(|skipped| in_order(more, &output[skipped..]));
    }
    output.split_first().is_some_and(|(line, rest)| is_line(first, line) && in_order(more, rest))
}

/// Whether output contains the printed lines among others, in any order. Lines that differ in a number only, such
/// as those of several workers, need as many lines of the output.
#[must_use]
pub fn contains(printed: &[String], output: &[String]) -> bool {
    let mut left: Vec<&String> = output.iter().collect();
    printed.iter().filter(|printed| printed.trim() != "…").all(|printed| {
        let found = left.iter().position(|line| is_line(printed, line));
        found.map(|at| left.swap_remove(at)).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_and_widths_may_differ_and_ports_may_not() {
        let cases = [
            ("pid 4121 (hello)", "pid 7 (hello)", true),
            ("tcp  0.0.0.0:8080  4121", "tcp 0.0.0.0:8080    12", true),
            ("0.0.0.0:8080", "0.0.0.0:8081", false),
            ("0 of 8,411,252, all", "0 of 12, all", true),
            ("a … z", "a b c z", true),
            ("a … z", "a b c", false),
            ("a …", "a b", true),
            ("SO_REUSEPORT", "SO_REUSEADDR", false),
            ("SINCE 2 s", "SINCE 17 s", true),
            ("web2", "web3", false),
            ("worker 1 drains", "worker 2 drains, 3 connections open, 1 in hand", true),
        ];
        for (printed, line, expected) in cases {
            assert_eq!(is_line(printed, line), expected, "{printed}: {line}");
        }
    }

    #[test]
    fn a_gap_stands_for_any_lines() {
        let output = lines("a\nb\nc\nd");
        for (printed, is_same, is_contained) in [
            ("a\nb\nc\nd", true, true),
            ("a\n…\nd", true, true),
            ("a\n…", true, true),
            ("…\nb\nc\nd", true, true),
            ("a\nd", false, true),
            ("d\na", false, true),
            ("d\ne", false, false),
            ("d\nb\na\nc", true, true),
            ("", false, true),
        ] {
            let printed = lines(printed);
            let found = (same(&printed, &output), contains(&printed, &output));
            assert_eq!(found, (is_same, is_contained), "{printed:?}");
        }
    }
}
