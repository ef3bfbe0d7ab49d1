//! Measures the sources.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use source_tree::{Kind, SHARED_TYPE_NAMES, Source, cycles, imports};

use super::dialect;

/// The numbers of a tree. Tests are left out, except from `markers_with_tests`.
#[derive(Debug, Serialize)]
pub(super) struct Survey {
    pub(super) all: Numbers,
    pub(super) packages: BTreeMap<String, Numbers>,
    pub(super) files: Lengths,
    pub(super) functions: Lengths,
    pub(super) markers: Share,
    pub(super) markers_with_tests: Share,
    /// How often each marker occurs, tests included.
    pub(super) phrases: BTreeMap<&'static str, usize>,
}

/// The numbers of a package, or of all.
#[derive(Debug, Default, Serialize)]
pub(super) struct Numbers {
    pub(super) files: usize,
    pub(super) lines: usize,
    /// Types whose name another type of the workspace has too.
    pub(super) shared_names: Share,
    /// The same without `Args`, `Error` and `Options`.
    pub(super) shared_names_beside_exceptions: Share,
    pub(super) pub_in: usize,
    pub(super) inline_comment_lines: usize,
    pub(super) import_cycles: usize,
    pub(super) files_in_cycles: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    pub(super) part: usize,
    pub(super) whole: usize,
}

/// Lengths in lines.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Lengths {
    pub(super) count: usize,
    pub(super) median: usize,
    pub(super) longest: usize,
    /// The file, or the file and the function.
    pub(super) longest_is: String,
}

impl Survey {
    pub(super) fn of(sources: &[Source]) -> Self {
        let shipped = || sources.iter().filter(|it| !it.is_test());
        let mut packages: BTreeMap<String, Numbers> = BTreeMap::new();
        let of_types = type_names(shipped());
        for source in shipped() {
            let numbers = packages.entry(source.package().to_owned()).or_default();
            numbers.add_file(source, &of_types);
        }
        for (package, numbers) in &mut packages {
            let found = cycles(&imports(sources, package));
            numbers.import_cycles = found.len();
            numbers.files_in_cycles = found.iter().map(Vec::len).sum();
        }
        let mut all = Numbers::default();
        for numbers in packages.values() {
            all.add(numbers);
        }
        let files = shipped().map(|it| (it.shipped_lines(), it.path.clone()));
        let functions = shipped().flat_map(|source| {
            let items = source.items().into_iter().filter(|it| it.kind == Kind::Function);
            items.map(|it| (it.lines, format!("{}:{} {}", source.path, it.line, it.name)))
        });
        let (markers, markers_with_tests, phrases) = comments(sources);
        let (files, functions) = (Lengths::of(files), Lengths::of(functions));
        Self { all, packages, files, functions, markers, markers_with_tests, phrases }
    }
}

impl Numbers {
    fn add_file(&mut self, source: &Source, of_types: &BTreeMap<String, usize>) {
        self.files += 1;
        self.lines += source.shipped_lines();
        self.pub_in += source.code.matches("pub(in ").count();
        let inline = source.comments().iter().filter(|it| !it.is_documentation && !it.is_for_tests);
        self.inline_comment_lines += inline.map(|it| it.lines.len()).sum::<usize>();
        for name in types(source) {
            let is_shared = of_types.get(&name).is_some_and(|count| *count > 1);
            let is_excepted = SHARED_TYPE_NAMES.contains(&name.as_str());
            self.shared_names.count(is_shared);
            self.shared_names_beside_exceptions.count(is_shared && !is_excepted);
        }
    }

    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.shared_names.add(other.shared_names);
        self.shared_names_beside_exceptions.add(other.shared_names_beside_exceptions);
        self.pub_in += other.pub_in;
        self.inline_comment_lines += other.inline_comment_lines;
        self.import_cycles += other.import_cycles;
        self.files_in_cycles += other.files_in_cycles;
    }
}

impl Share {
    fn count(&mut self, is_part: bool) {
        self.part += usize::from(is_part);
        self.whole += 1;
    }

    fn add(&mut self, other: Self) {
        self.part += other.part;
        self.whole += other.whole;
    }
}

impl Lengths {
    fn of(all: impl Iterator<Item = (usize, String)>) -> Self {
        let mut all: Vec<_> = all.collect();
        all.sort();
        let median = all.get(all.len() / 2).map_or(0, |(lines, _)| *lines);
        let count = all.len();
        let (longest, longest_is) = all.pop().unwrap_or_default();
        Self { count, median, longest, longest_is }
    }
}

fn types(source: &Source) -> impl Iterator<Item = String> {
    source.items().into_iter().filter(|it| it.kind == Kind::Type).map(|it| it.name)
}

/// How many types have each name.
fn type_names<'a>(sources: impl Iterator<Item = &'a Source>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for name in sources.flat_map(types) {
        *found.entry(name).or_default() += 1;
    }
    found
}

/// The share of measured comments with a marker, outside tests and in all, and the markers' counts.
fn comments(sources: &[Source]) -> (Share, Share, BTreeMap<&'static str, usize>) {
    let (mut shipped, mut all) = (Share::default(), Share::default());
    let mut phrases = BTreeMap::new();
    let comments = sources.iter().flat_map(Source::comments);
    for comment in comments.filter(|it| dialect::is_measured(it)) {
        let markers: BTreeSet<_> =
            dialect::markers(comment).into_iter().map(|it| it.phrase).collect();
        all.count(!markers.is_empty());
        if !comment.is_for_tests {
            shipped.count(!markers.is_empty());
        }
        for phrase in markers {
            *phrases.entry(phrase).or_default() += 1;
        }
    }
    (shipped, all, phrases)
}

#[test]
fn a_small_tree_is_measured() {
    let sources = [
        ("crates/a/src/lib.rs", "//! The first file of all.\nmod b;\npub struct C(b::C);\n"),
        (
            "crates/a/src/b.rs",
            "//! The other file, of which nobody is told.\nuse crate::C as D;\n// Inline.\n\
             pub(in crate::b) struct C {\n    d: D,\n}\nfn e() {\n}\n\
             #[cfg(test)]\nmod tests {\n    // What it does is this.\n    struct C;\n}\n",
        ),
        ("xtask/src/main.rs", "//! The chores of a tree.\nstruct Error;\nstruct G;\n"),
        ("xtask/src/h.rs", "//! A file that nothing includes.\nenum Error {}\n"),
        ("crates/a/tests/f.rs", "//! What is tested, and so on.\nstruct C;\n"),
    ];
    let survey = Survey::of(&sources.map(|(path, text)| Source::new(path, text)));
    assert_eq!((survey.all.files, survey.all.lines, survey.all.pub_in), (4, 16, 1));
    assert_eq!(survey.all.shared_names, Share { part: 4, whole: 5 });
    assert_eq!(survey.all.shared_names_beside_exceptions, Share { part: 2, whole: 5 });
    assert_eq!(survey.packages["xtask"].shared_names, Share { part: 2, whole: 3 });
    assert_eq!((survey.all.import_cycles, survey.all.files_in_cycles), (1, 2));
    assert_eq!(survey.all.inline_comment_lines, 1);
    assert_eq!(survey.markers, Share { part: 1, whole: 4 });
    assert_eq!(survey.markers_with_tests, Share { part: 3, whole: 6 });
    assert_eq!(survey.phrases["what"], 2);
    assert_eq!((survey.files.median, survey.files.longest), (3, 8));
    let function = "crates/a/src/b.rs:7 e".to_owned();
    assert_eq!(survey.functions, Lengths { count: 1, median: 2, longest: 2, longest_is: function });
}
