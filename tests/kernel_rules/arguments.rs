//! The options of libtest that cargo and cargo-nextest use.

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) list: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
    excluded: Vec<String>,
}

impl Arguments {
    /// Err: the unknown argument.
    pub(crate) fn parse(args: Vec<String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => parsed.list = true,
                "--exact" => parsed.exact = true,
                "--ignored" => parsed.ignored = true,
                "--skip" => parsed.excluded.extend(args.next()),
                "--format" | "--test-threads" | "--color" => drop(args.next()),
                "--nocapture" | "--no-capture" | "--include-ignored" | "--quiet" | "-q"
                | "--show-output" => {}
                known if known.starts_with("--format=") => {}
                known if known.starts_with("--test-threads=") => {}
                known if known.starts_with("--color=") => {}
                unknown if unknown.starts_with('-') => return Err(arg),
                _ => parsed.filters.push(arg),
            }
        }
        Ok(parsed)
    }

    /// Whether the test of this name is to run. No test is ignored.
    pub(crate) fn selects(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact { name == pattern } else { name.contains(pattern.as_str()) }
        };
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.excluded.iter().any(matches)
    }
}
