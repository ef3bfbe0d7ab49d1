//! Loads the Rust files of a project, and separates shipped code from tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::slice;

use crate::blank::{blanked, without_tests};
use crate::comment::{Comment, comments};
use crate::declaration::declared_file;
use crate::item::{Item, Kind, items};
use crate::token::tokens;

/// Directories of the project with Rust sources.
const FOLDERS: &[&str] = &["crates", "xtask", "tests", "benches"];

/// One Rust file.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root of the project, with `/`.
    pub path: String,
    /// The whole file.
    pub text: String,
    /// The text without comments, literals and test items. Bytes and lines keep their places.
    pub code: String,
    /// Files that `mod` declarations can mean.
    pub(crate) modules: BTreeSet<String>,
    /// The same, of declarations below `#[cfg(test)]`.
    test_modules: BTreeSet<String>,
    comments: Vec<Comment>,
    is_test: bool,
    test_lines: usize,
}

impl Source {
    /// Reads a text as the file at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let (code, spans) = blanked(text);
        let all = items(&tokens(&code)).all;
        let declared = |is_for_tests: bool| {
            let modules = all.iter().filter(|it| it.kind == Kind::Declaration);
            let these = modules.filter(|it| it.is_for_tests == is_for_tests);
            these.flat_map(|it| declared_file(path, text, it)).collect()
        };
        let (modules, test_modules) = (declared(false), declared(true));
        let (code, tests) = without_tests(&code);
        let test_lines = tests.iter().map(|it| text[it.clone()].lines().count()).sum();
        let (path, text) = (path.to_owned(), text.to_owned());
        let is_test = is_in_test_folder(&path);
        let whole = 0..text.len();
        let comments =
            comments(&text, &spans, if is_test { slice::from_ref(&whole) } else { &tests });
        let mut source =
            Self { path, text, code, modules, test_modules, comments, is_test, test_lines };
        if is_named_after_tests(&source.path) {
            source.becomes_test();
        }
        source
    }

    /// Every line of code, numbered as an editor does.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// True for a file without shipped code.
    pub fn is_test(&self) -> bool {
        self.is_test
    }

    /// The number of lines outside tests, comments and empty lines included.
    pub fn shipped_lines(&self) -> usize {
        if self.is_test { 0 } else { self.text.lines().count() - self.test_lines }
    }

    /// The items of the code.
    pub fn items(&self) -> Vec<Item> {
        items(&tokens(&self.code)).all
    }

    /// The comments of the whole file.
    pub fn comments(&self) -> &[Comment] {
        &self.comments
    }

    /// The package of the file, as a path from the root.
    pub fn package(&self) -> &str {
        let mut ends = self.path.match_indices('/').map(|(at, _)| at);
        let end = if self.path.starts_with("crates/") { ends.nth(1) } else { ends.next() };
        &self.path[..end.unwrap_or(self.path.len())]
    }

    /// Files of other packages that are modules of this one, by `#[path]`.
    pub fn foreign_modules(&self) -> impl Iterator<Item = &str> {
        let own = format!("{}/", self.package());
        self.modules.iter().map(String::as_str).filter(move |it| !it.starts_with(&own))
    }

    fn becomes_test(&mut self) {
        self.is_test = true;
        self.code = self.code.chars().filter(|c| *c == '\n').collect();
        for comment in &mut self.comments {
            comment.is_for_tests = true;
        }
        self.test_modules.append(&mut self.modules);
    }
}

/// True for files of unit tests.
fn is_named_after_tests(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "tests.rs" || name.ends_with("_tests.rs")
}

/// True for integration tests. The library below `tests` is not a test.
fn is_in_test_folder(path: &str) -> bool {
    path.contains("/tests/") || path.starts_with("tests/") && !path.starts_with("tests/source_tree")
}

/// Every Rust file below the root of a project.
///
/// # Panics
///
/// If a file cannot be read.
pub fn sources(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in FOLDERS.iter().map(|folder| root.join(folder)).filter(|it| it.is_dir()) {
        collect(root, &folder, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(root, &path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            let short = path.strip_prefix(root).expect("below the root");
            found.push(Source::new(&short.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}

/// Removes the code of files that only test modules declare.
fn mark_test_modules(sources: &mut [Source]) {
    loop {
        let shipped: BTreeSet<String> =
            sources.iter().flat_map(|it| it.modules.iter().cloned()).collect();
        let tests: BTreeSet<String> =
            sources.iter().flat_map(|it| it.test_modules.difference(&shipped).cloned()).collect();
        let mut is_changed = false;
        for source in sources.iter_mut().filter(|it| tests.contains(&it.path)) {
            is_changed |= !source.modules.is_empty();
            source.becomes_test();
        }
        if !is_changed {
            return;
        }
    }
}

#[test]
fn test_modules_of_test_modules_have_no_code() {
    let mut sources = [
        ("a/src/lib.rs", "#[cfg(test)] mod turns; mod kept; #[cfg(test)] mod kept;"),
        ("a/src/turns.rs", "mod deep; fn f() {}"),
        ("a/src/turns/deep.rs", "fn g() {}"),
        ("a/src/kept.rs", "fn h() {}"),
        ("a/src/kept_tests.rs", "fn i() {}"),
    ]
    .map(|(path, text)| Source::new(path, text));
    mark_test_modules(&mut sources);
    assert_eq!(sources.map(|it| it.is_test()), [false, true, true, false, true]);
}

#[test]
fn a_file_knows_its_package_and_its_lines() {
    let text =
        "//! a\nfn b() {}\n#[cfg(test)]\nmod t {\n    // c\n}\n#[path = \"../../d.rs\"]\nmod d;\n";
    let source = Source::new("crates/a/src/lib.rs", text);
    assert_eq!((source.package(), source.shipped_lines()), ("crates/a", 4));
    assert_eq!(source.foreign_modules().collect::<Vec<_>>(), ["crates/d.rs"]);
    let for_tests: Vec<_> = source.comments().iter().map(|it| it.is_for_tests).collect();
    assert_eq!(for_tests, [false, true]);
    for path in ["crates/a/tests/b.rs", "tests/a/b.rs", "crates/a/src/b_tests.rs"] {
        assert_eq!(Source::new(path, text).shipped_lines(), 0, "{path}");
    }
    assert_eq!(Source::new("xtask/src/main.rs", "").package(), "xtask");
}
