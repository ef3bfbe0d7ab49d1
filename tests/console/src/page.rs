//! A page of the documentation: its blocks of code, and the commands in them.

/// A Markdown file.
#[derive(Debug, Clone)]
pub struct Page {
    lines: Vec<String>,
}

/// A fenced block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The first word after the fence: `console`, `sh`, `ini`; empty without one.
    pub language: String,
    /// The second word: who runs the block. Empty: the test of the pages.
    pub mark: String,
    /// The index of its first line in the page, which is the number of the line with the fence.
    pub line: usize,
    /// Its lines.
    pub lines: Vec<String>,
}

/// A command with its printed output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whether the prompt is `#`.
    pub is_root: bool,
    /// All lines of the command, without prompt.
    pub command: String,
    /// The number of the line of the page with the prompt, from 1.
    pub line: usize,
    /// The number of lines of the command.
    pub height: usize,
    /// The printed output.
    pub output: Vec<String>,
}

impl Page {
    /// Takes the text of a file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The whole text, with a line feed at its end.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// All blocks of code, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![];
        let mut open: Option<Block> = None;
        for (index, line) in self.lines.iter().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    let mut words = info.split_whitespace().map(str::to_owned);
                    let (language, mark) = (words.next(), words.next());
                    open = Some(Block {
                        language: language.unwrap_or_default(),
                        mark: mark.unwrap_or_default(),
                        line: index + 1,
                        lines: vec![],
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.lines.push(line.clone()),
                (None, None) => {}
            }
        }
        blocks
    }

    /// Replaces the printed output of a step of this page, which changes the numbers of later lines.
    pub fn replace_output(&mut self, step: &Step, output: Vec<String>) {
        let begin = step.line - 1 + step.height;
        self.lines.splice(begin..begin + step.output.len(), output);
    }
}

impl Block {
    /// The commands of a console block. A line before the first command is an error.
    ///
    /// # Errors
    ///
    /// The number of a line that belongs to no command.
    pub fn steps(&self) -> Result<Vec<Step>, String> {
        let mut steps: Vec<Step> = vec![];
        let mut lines = self.lines.iter().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let prompt = ["$ ", "# "].iter().position(|prompt| line.starts_with(prompt));
            let line_number = self.line + index + 1;
            let Some(prompt) = prompt else {
                let Some(step) = steps.last_mut() else {
                    return Err(format!("line {line_number} belongs to no command"));
                };
                step.output.push(line.clone());
                continue;
            };
            let mut command = line[2..].to_owned();
            let end = here_document(&command);
            let mut height = 1;
            let is_open = |command: &str| match &end {
                Some(end) => command.lines().last() != Some(end),
                None => command.ends_with('\\'),
            };
            while is_open(&command) {
                let Some((_, next)) = lines.next() else { break };
                command.push('\n');
                command.push_str(next);
                height += 1;
            }
            let (is_root, output) = (prompt == 1, vec![]);
            steps.push(Step { is_root, command, line: line_number, height, output });
        }
        Ok(steps)
    }
}

/// The word that ends the here-document of a command.
fn here_document(command: &str) -> Option<String> {
    let (_, word) = command.split_once("<<")?;
    let word = word.split_whitespace().next()?;
    Some(word.trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n```console\n$ one \\\n  two\nout\n# cat > f <<'END'\n$ text\nEND\n$ \
                        three\n```\n\n```sh build\ncargo build\n```\n";

    #[test]
    fn commands_and_their_output_are_found() {
        let page = Page::new(TEXT);
        let blocks = page.blocks();
        let steps = blocks[0].steps().unwrap();
        let of = |it: &Step| (it.is_root, it.command.clone(), it.line, it.output.clone());
        let found: Vec<_> = steps.iter().map(of).collect();
        let expected = [
            (false, "one \\\n  two".to_owned(), 4, vec!["out".to_owned()]),
            (true, "cat > f <<'END'\n$ text\nEND".to_owned(), 7, vec![]),
            (false, "three".to_owned(), 10, vec![]),
        ];
        assert_eq!(found, expected);
        let other = (blocks[1].language.as_str(), blocks[1].mark.as_str(), blocks[1].line);
        assert_eq!(other, ("sh", "build", 13));
        assert!(Block { lines: vec!["x".into()], ..blocks[0].clone() }.steps().is_err());
    }

    #[test]
    fn output_is_replaced_in_place() {
        let mut page = Page::new(TEXT);
        let steps = page.blocks()[0].steps().unwrap();
        page.replace_output(&steps[2], vec!["new".to_owned()]);
        page.replace_output(&steps[0], vec!["a".to_owned(), "b".to_owned()]);
        let expected = TEXT.replace("\nout\n", "\na\nb\n").replace("three\n", "three\nnew\n");
        assert_eq!(page.text(), expected);
    }
}
