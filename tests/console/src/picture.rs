//! A session as a picture: SVG, readable on light and dark backgrounds.

use std::fmt::Write as _;

use crate::Step;

/// Width of a character and height of a line, in pixels.
const CHARACTER: usize = 8;
const LINE: usize = 19;
const MARGIN: usize = 16;
/// Longer lines are broken.
const COLUMNS: usize = 100;
const INDENT: &str = "    ";

const STYLE: &str = "rect{fill:#f6f8fa;stroke:#d0d7de}\
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;\
fill:#24292f;white-space:pre}.p{fill:#6e7781}.c{fill:#0550ae;font-weight:600}.n{fill:#6e7781}\
@media(prefers-color-scheme:dark){rect{fill:#161b22;stroke:#30363d}text{fill:#e6edf3}\
.p{fill:#8d96a0}.c{fill:#79c0ff}.n{fill:#8d96a0}}";

/// The text alternative of `docs/session.svg`.
pub const SESSION: &str =
    "a terminal: two workers share a port, and a restart under load loses no request";

/// Draws the commands and their printed output.
#[must_use]
pub fn draw(steps: &[Step], title: &str) -> String {
    let mut lines: Vec<String> = vec![];
    for step in steps {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let prompt = if step.is_root { "# " } else { "$ " };
        for (index, line) in step.command.lines().enumerate() {
            lines.push(command(if index == 0 { prompt } else { "" }, line));
        }
        for line in &step.output {
            lines.extend(broken(line).iter().map(|line| span("", line)));
        }
    }
    let width = MARGIN * 2 + COLUMNS * CHARACTER;
    let height = MARGIN * 2 + lines.len() * LINE;
    let mut body = String::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let y = MARGIN + index * LINE + LINE - 5;
        let _ =
            writeln!(body, "<text xml:space=\"preserve\" x=\"{MARGIN}\" y=\"{y}\">{line}</text>");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n\
         <rect x=\"1\" y=\"1\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n{body}</svg>\n",
        escaped(title),
        width - 2,
        height - 2
    )
}

/// A line of a command, with its comment in another color.
fn command(prompt: &str, line: &str) -> String {
    let (line, comment) = match line.find("  # ") {
        Some(at) => line.split_at(at),
        None => (line, ""),
    };
    span("p", prompt) + &span("c", line) + &span("n", comment)
}

fn span(class: &str, text: &str) -> String {
    match (class, text) {
        (_, "") => String::new(),
        ("", text) => escaped(text),
        (class, text) => format!("<tspan class=\"{class}\">{}</tspan>", escaped(text)),
    }
}

/// Breaks a line at blanks.
fn broken(line: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut rest = line.to_owned();
    while rest.chars().count() > COLUMNS {
        let end = rest.char_indices().nth(COLUMNS).map_or(rest.len(), |(at, _)| at);
        let Some(blank) = rest[..end].trim_end().rfind(' ').filter(|at| *at > INDENT.len()) else {
            break;
        };
        let next = format!("{INDENT}{}", rest[blank..].trim_start());
        rest.truncate(blank);
        lines.push(std::mem::replace(&mut rest, next));
    }
    lines.push(rest);
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_at_blanks_and_lose_nothing() {
        let line = "word ".repeat(50);
        let lines = broken(line.trim_end());
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:#?}");
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!(words(&lines.join(" ")), 50);
        // Nothing to break at.
        assert_eq!(broken(&"x".repeat(300)), ["x".repeat(300)]);
    }

    #[test]
    fn text_is_escaped() {
        let step = Step {
            is_root: false,
            command: "echo '<&>'  # comment".to_owned(),
            line: 1,
            height: 1,
            output: vec!["<&>".to_owned()],
        };
        let drawn = draw(&[step], "a \"title\"");
        for part in [
            "&quot;title&quot;",
            "<tspan class=\"c\">echo '&lt;&amp;&gt;'</tspan>",
            "<tspan class=\"n\">  # comment</tspan>",
            ">&lt;&amp;&gt;</text>",
        ] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
    }
}
