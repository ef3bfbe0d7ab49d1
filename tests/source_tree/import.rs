//! The imports between files, by `use` declarations and by paths in the code.
//!
//! A path leads to the file that defines the item, through re-exports, if the text shows it, or
//! else to the file of the last module in the path. A `mod x;` is not an import, nor is a re-export
//! of a name that the file itself does not use.

use std::collections::{BTreeMap, BTreeSet};

use crate::blank::closing;
use crate::item::items;
use crate::module::{Module, modules};
use crate::source::Source;
use crate::token::{Token, tokens};

/// One name that a `use` declaration brings into a module.
struct Import {
    /// `*` for all names of a module.
    name: String,
    path: Vec<String>,
    is_public: bool,
}

/// The names that the code of a module uses.
#[derive(Default)]
struct Uses {
    imports: Vec<Import>,
    /// Paths of two names and more within the code.
    paths: BTreeSet<Vec<String>>,
    /// Every word outside `use` declarations.
    words: BTreeSet<String>,
}

/// The target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(usize),
    File(usize),
    /// A file that the build makes.
    Generated,
}

/// The limit of a chain of re-exports, which ends cyclic chains.
const LONGEST_CHAIN: usize = 16;

/// For each file of a package, the files of the project from which it imports.
pub fn imports(sources: &[Source], package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(sources, package);
    let mut uses: Vec<Uses> = modules.iter().map(|_| Uses::default()).collect();
    for root in (0..modules.len()).filter(|it| modules[*it].inside.is_empty()) {
        read(&sources[modules[root].file], root, &modules, &mut uses);
    }
    let tree = Tree { modules: &modules, uses: &uses };
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, it) in modules.iter().enumerate() {
        let from = &sources[it.file].path;
        let files = tree.files_of(module);
        let others = files.into_iter().filter(|file| *file != it.file);
        found
            .entry(from.clone())
            .or_default()
            .extend(others.map(|file| sources[file].path.clone()));
    }
    found
}

/// Records the modules of a file.
fn read(source: &Source, root: usize, modules: &[Module], uses: &mut [Uses]) {
    let tokens = tokens(&source.code);
    let items = items(&tokens);
    let of_path: Vec<usize> = items.paths.iter().map(|path| inner(modules, root, path)).collect();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let uses = &mut uses[of_path[items.module_of.get(at).copied().unwrap_or(0)]];
        let after = at.checked_sub(1).map_or("", text);
        if token.text == "pub" && text(at + 1) == "(" {
            let close = closing(&tokens, at + 1).unwrap_or(at + 1);
            if text(close + 1) != "use" {
                at = close + 1;
                continue;
            }
            at = close;
        } else if token.text == "use" && text(at + 1) != "<" {
            let end = (at..tokens.len()).find(|it| text(*it) == ";").unwrap_or(tokens.len());
            let is_public = matches!(after, "pub" | ")");
            tree_of_use(&tokens[at + 1..end], &[], is_public, &mut uses.imports);
            at = end;
        } else if token.is_name() {
            uses.words.insert(token.text.to_owned());
            let path = if matches!(after, "::" | ".") { vec![] } else { path_at(&tokens[at..]) };
            if path.len() > 1 {
                uses.paths.insert(path);
            }
        }
        at += 1;
    }
}

fn inner(modules: &[Module], root: usize, path: &[String]) -> usize {
    path.iter().fold(root, |module, name| {
        let children = modules[module].children.get(name);
        let same_file = |it: &&usize| modules[**it].file == modules[root].file;
        children.and_then(|all| all.iter().find(same_file)).copied().unwrap_or(module)
    })
}

/// `a::b::c` at the beginning of these tokens.
fn path_at(tokens: &[Token<'_>]) -> Vec<String> {
    let mut path = Vec::new();
    for pair in tokens.chunks(2) {
        let Some(name) = pair.first().filter(|it| it.is_name()) else { break };
        path.push(name.text.to_owned());
        if pair.get(1).is_none_or(|it| it.text != "::") {
            break;
        }
    }
    path
}

/// The names of `a::{b, c as d, e::*}`.
fn tree_of_use(tokens: &[Token<'_>], prefix: &[String], is_public: bool, found: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                let end = closing(tokens, at).unwrap_or(tokens.len());
                let mut rest = &tokens[at + 1..end];
                while !rest.is_empty() {
                    let length = comma(rest);
                    tree_of_use(&rest[..length], &path, is_public, found);
                    rest = &rest[(length + 1).min(rest.len())..];
                }
                return;
            }
            "*" => {
                found.push(Import { name: "*".into(), path, is_public });
                return;
            }
            "as" => {
                let name = tokens.get(at + 1).map_or_else(String::new, |it| it.text.to_owned());
                found.push(Import { name, path, is_public });
                return;
            }
            // `a::{self}` is `a`.
            "self" if !path.is_empty() => {}
            // A path of another crate, `::a`, has the empty name first.
            "::" if at == 0 && path.is_empty() => path.push(String::new()),
            "::" => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        found.push(Import { name, path, is_public });
    }
}

/// The length up to the first comma outside brackets.
fn comma(tokens: &[Token<'_>]) -> usize {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "," => return at,
            "{" => at = closing(tokens, at).unwrap_or(tokens.len()),
            _ => at += 1,
        }
    }
    tokens.len()
}

struct Tree<'a> {
    modules: &'a [Module],
    uses: &'a [Uses],
}

impl Tree<'_> {
    /// The files from which a module imports.
    fn files_of(&self, module: usize) -> BTreeSet<usize> {
        let uses = &self.uses[module];
        let mut found = BTreeSet::new();
        for import in &uses.imports {
            let targets = self.resolve(module, &import.path, 0);
            if import.name == "*" {
                found.extend(targets.into_iter().flat_map(|it| self.globbed(it, &uses.words)));
                continue;
            }
            // A path that begins with the name of a module is more precise than the name.
            let is_module = targets.iter().all(|it| matches!(it, Target::Module(_)));
            let leads_on = is_module && uses.paths.iter().any(|path| path[0] == import.name);
            let is_used = !import.is_public || uses.words.contains(&import.name);
            if is_used && !leads_on {
                found.extend(targets.into_iter().filter_map(|it| self.file(it)));
            }
        }
        for path in &uses.paths {
            found.extend(self.resolve(module, path, 0).into_iter().filter_map(|it| self.file(it)));
        }
        found
    }

    fn file(&self, target: Target) -> Option<usize> {
        match target {
            Target::Module(module) => Some(self.modules[module].file),
            Target::File(file) => Some(file),
            Target::Generated => None,
        }
    }

    /// The files that define what the words mean, by `use target::*`.
    fn globbed(&self, target: Target, words: &BTreeSet<String>) -> Vec<usize> {
        let Target::Module(module) = target else { return Vec::new() };
        let named = words.iter().flat_map(|it| self.lookup(module, it, &[], 0));
        named.filter_map(|it| self.file(it)).collect()
    }

    /// Empty for a path of another crate.
    fn resolve(&self, module: usize, path: &[String], depth: usize) -> BTreeSet<Target> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        let parent = |module: usize| self.modules[module].parent;
        match first.as_str() {
            "crate" => {
                let root = std::iter::successors(Some(module), |it| parent(*it)).last();
                self.walk(root.unwrap_or(module), rest, depth)
            }
            "self" => self.walk(module, rest, depth),
            "super" => {
                let Some(above) = parent(module) else { return BTreeSet::new() };
                if rest.first().is_some_and(|it| it == "super") {
                    return self.resolve(above, rest, depth);
                }
                self.walk(above, rest, depth)
            }
            name => self.lookup(module, name, rest, depth),
        }
    }

    /// Continues from a module of the project. The answer is its file if its text does not have the
    /// name.
    fn walk(&self, module: usize, path: &[String], depth: usize) -> BTreeSet<Target> {
        let Some((name, rest)) = path.split_first() else {
            return BTreeSet::from([Target::Module(module)]);
        };
        let found = self.lookup(module, name, rest, depth);
        if found.is_empty() { BTreeSet::from([Target::Module(module)]) } else { found }
    }

    /// The targets of a name in a module.
    fn lookup(&self, module: usize, name: &str, rest: &[String], depth: usize) -> BTreeSet<Target> {
        let it = &self.modules[module];
        if depth > LONGEST_CHAIN {
            return BTreeSet::new();
        }
        if let Some(children) = it.children.get(name) {
            return children.iter().flat_map(|child| self.walk(*child, rest, depth)).collect();
        }
        if it.generated.contains(name) {
            return BTreeSet::from([Target::Generated]);
        }
        if it.items.contains(name) {
            return BTreeSet::from([Target::File(it.file)]);
        }
        let imports = &self.uses[module].imports;
        if let Some(import) = imports.iter().find(|it| it.name == name) {
            // `use look;` within `look` itself, or the name of another crate.
            if import.path.first().is_some_and(|it| it == name) {
                return BTreeSet::new();
            }
            let path = [&import.path[..], rest].concat();
            return self.resolve(module, &path, depth + 1);
        }
        let globs = imports.iter().filter(|it| it.name == "*");
        let modules = globs.flat_map(|it| self.resolve(module, &it.path, depth + 1));
        let modules = modules.filter_map(|it| match it {
            Target::Module(it) if it != module => Some(it),
            _ => None,
        });
        modules.flat_map(|it| self.lookup(it, name, rest, depth + 1)).collect()
    }
}
