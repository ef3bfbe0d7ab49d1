//! The module trees of a package, from its `mod` declarations.

use std::collections::{BTreeMap, BTreeSet};

use crate::declaration::declared_file;
use crate::item::Kind;
use crate::source::Source;

/// One module of one crate. A file that two crates include is two modules.
pub(crate) struct Module {
    /// Index of its file among the sources.
    pub(crate) file: usize,
    /// Names of the inline modules of the file that lead to it.
    pub(crate) inside: Vec<String>,
    pub(crate) parent: Option<usize>,
    /// `cfg` attributes can give one name to several files.
    pub(crate) children: BTreeMap<String, Vec<usize>>,
    /// Names that the module itself defines.
    pub(crate) items: BTreeSet<String>,
    /// Names of modules whose files a build script generates.
    pub(crate) generated: BTreeSet<String>,
}

/// The modules of all crates of a package.
pub(crate) fn modules(sources: &[Source], package: &str) -> Vec<Module> {
    let index: BTreeMap<&str, usize> =
        sources.iter().enumerate().map(|(index, it)| (it.path.as_str(), index)).collect();
    let declared: BTreeSet<&String> = sources.iter().flat_map(|it| &it.modules).collect();
    let mut found = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        let is_root = !source.is_test() && !declared.contains(&source.path);
        if is_root && source.package() == package {
            add(sources, &index, file, None, &mut found);
        }
    }
    found
}

/// Adds a file with its inline modules and the files that it declares. Returns its module.
fn add(
    sources: &[Source],
    index: &BTreeMap<&str, usize>,
    file: usize,
    parent: Option<usize>,
    found: &mut Vec<Module>,
) -> usize {
    let source = &sources[file];
    let module = |inside: &[String], parent| Module {
        file,
        inside: inside.to_vec(),
        parent,
        children: BTreeMap::new(),
        items: BTreeSet::new(),
        generated: BTreeSet::new(),
    };
    let root = found.len();
    found.push(module(&[], parent));
    let mut of_path = BTreeMap::from([(Vec::new(), root)]);
    for item in source.items().iter().filter(|it| it.is_in_scope) {
        let Some(&scope) = of_path.get(&item.modules) else { continue };
        let child = match item.kind {
            Kind::Module => {
                let inside = [&item.modules[..], std::slice::from_ref(&item.name)].concat();
                found.push(module(&inside, Some(scope)));
                of_path.insert(inside, found.len() - 1);
                found.len() - 1
            }
            Kind::Declaration => {
                let files = declared_file(&source.path, &source.text, item);
                let file = files.iter().find_map(|it| index.get(it.as_str()));
                let Some(&file) = file else {
                    found[scope].generated.insert(item.name.clone());
                    continue;
                };
                add(sources, index, file, Some(scope), found)
            }
            _ => {
                found[scope].items.insert(item.name.clone());
                continue;
            }
        };
        found[scope].children.entry(item.name.clone()).or_default().push(child);
    }
    root
}
