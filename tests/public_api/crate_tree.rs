//! The modules of a crate, and the items that it exports at its root.

use std::fs;
use std::path::Path;

use syn::{Attribute, Expr, ExprLit, Item, ItemUse, Lit, Meta, MetaNameValue, UseTree, Visibility};

/// A parsed crate.
pub(crate) struct Tree {
    root: Module,
}

/// A module with its submodules. Its conditions (`#[cfg]`) are those of its parents as well.
#[derive(Default)]
pub(crate) struct Module {
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) items: Vec<Item>,
    /// Several can have one name: one for each system.
    modules: Vec<(String, Module)>,
}

/// An exported item, and the conditions on it.
pub(crate) struct Export<'a> {
    pub(crate) name: String,
    /// With the public modules: `tokio::connect`.
    pub(crate) path: String,
    pub(crate) item: Option<&'a Item>,
    pub(crate) conditions: Vec<Attribute>,
    /// The path of an item of another crate.
    pub(crate) foreign: Option<String>,
}

impl Module {
    fn inner(&self, name: &String) -> Option<&Self> {
        self.modules.iter().find(|(it, _)| it == name).map(|(_, module)| module)
    }
}

impl Tree {
    pub(crate) fn read(lib: &Path) -> Self {
        let folder = lib.parent().expect("a folder");
        Self { root: module(items(lib), folder, Vec::new()) }
    }

    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Self {
        let file = syn::parse_file(text).expect("Rust");
        Self { root: module(file.items, Path::new("/nonexistent"), Vec::new()) }
    }

    /// Every module, the root first.
    pub(crate) fn modules(&self) -> Vec<&Module> {
        let mut found = vec![&self.root];
        let mut next = 0;
        while let Some(module) = found.get(next).copied() {
            found.extend(module.modules.iter().map(|(_, module)| module));
            next += 1;
        }
        found
    }

    /// The public items and re-exports of the root and of its public modules.
    ///
    /// # Panics
    ///
    /// For a glob: this reader does not follow it.
    pub(crate) fn exports(&self) -> Vec<Export<'_>> {
        let mut found = Vec::new();
        self.exports_of(&self.root, "", &mut found);
        found
    }

    fn exports_of<'a>(&'a self, module: &'a Module, path: &str, found: &mut Vec<Export<'a>>) {
        let before = found.len();
        for item in &module.items {
            match item {
                Item::Use(item) if is_public(&item.vis) => self.re_exports(module, item, found),
                Item::Mod(item) if is_public(&item.vis) => {
                    let name = item.ident.to_string();
                    let inner = module.inner(&name).expect("a module");
                    self.exports_of(inner, &format!("{path}{name}::"), found);
                }
                _ => {
                    if let Some(name) = public_name(item) {
                        let mut conditions = module.conditions.clone();
                        conditions.extend(self::conditions(attributes(item)));
                        found.push(Export {
                            name,
                            path: String::new(),
                            item: Some(item),
                            conditions,
                            foreign: None,
                        });
                    }
                }
            }
        }
        for export in &mut found[before..] {
            dedup(&mut export.conditions);
            if export.path.is_empty() {
                export.path = format!("{path}{}", export.name);
            }
        }
    }

    fn re_exports<'a>(&'a self, at: &'a Module, item: &ItemUse, found: &mut Vec<Export<'a>>) {
        for (path, name) in paths(&item.tree) {
            let (last, parents) = path.split_last().expect("a path");
            // A path starts in the module itself, else in the root (`crate::`).
            let from = |start| parents.iter().try_fold(start, Module::inner);
            let module = from(at).or_else(|| from(&self.root));
            let mut conditions = at.conditions.clone();
            conditions.extend(self::conditions(&item.attrs));
            let Some(module) = module else {
                let foreign = Some(path.join("::"));
                found.push(Export { name, path: String::new(), item: None, conditions, foreign });
                continue;
            };
            conditions.extend(module.conditions.iter().cloned());
            // One item for each system can have the same name.
            let same = module.items.iter().filter(|it| public_name(it).as_ref() == Some(last));
            let before = found.len();
            for item in same {
                let mut conditions = conditions.clone();
                conditions.extend(self::conditions(attributes(item)));
                dedup(&mut conditions);
                found.push(Export {
                    name: name.clone(),
                    path: String::new(),
                    item: Some(item),
                    conditions,
                    foreign: None,
                });
            }
            for item in &module.items {
                let Item::Use(inner) = item else { continue };
                let renamed = paths(&inner.tree).into_iter().find(|(_, name)| name == last);
                if let (true, Some((path, _))) = (is_public(&inner.vis), renamed) {
                    let mut conditions = conditions.clone();
                    conditions.extend(self::conditions(&inner.attrs));
                    let foreign = Some(path.join("::"));
                    found.push(Export {
                        name: name.clone(),
                        path: String::new(),
                        item: None,
                        conditions,
                        foreign,
                    });
                }
            }
            assert!(found.len() > before, "`{}` is not found", path.join("::"));
        }
    }
}

fn items(file: &Path) -> Vec<Item> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display())).items
}

fn module(items: Vec<Item>, folder: &Path, conditions: Vec<Attribute>) -> Module {
    let mut modules = Vec::new();
    for item in &items {
        let Item::Mod(item) = item else { continue };
        let name = item.ident.to_string();
        let mut inner = conditions.clone();
        inner.extend(self::conditions(&item.attrs));
        if inner.iter().any(is_test) {
            continue;
        }
        if let Some((_, content)) = &item.content {
            modules.push((name.clone(), module(content.clone(), &folder.join(&name), inner)));
            continue;
        }
        let file = match path_attribute(&item.attrs) {
            Some(file) => folder.join(file),
            None => Some(folder.join(format!("{name}.rs")))
                .filter(|file| file.exists())
                .unwrap_or_else(|| folder.join(&name).join("mod.rs")),
        };
        modules.push((name.clone(), module(self::items(&file), &folder.join(&name), inner)));
    }
    Module { conditions, items, modules }
}

/// The file of `#[path = "FILE"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|it| match &it.meta {
        Meta::NameValue(MetaNameValue {
            path,
            value: Expr::Lit(ExprLit { lit: Lit::Str(file), .. }),
            ..
        }) if path.is_ident("path") => Some(file.value()),
        _ => None,
    })
}

fn is_test(condition: &Attribute) -> bool {
    condition.meta.require_list().is_ok_and(|list| {
        let tokens = list.tokens.to_string();
        tokens == "test" || tokens == "doctest"
    })
}

/// The paths of a `use`, without `crate` and `self`, each with its name here.
///
/// # Panics
///
/// For a glob.
fn paths(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(it) => {
            let first = it.ident.to_string();
            let mut inner = paths(&it.tree);
            if first != "crate" && first != "self" {
                inner.iter_mut().for_each(|(path, _)| path.insert(0, first.clone()));
            }
            inner
        }
        UseTree::Name(it) => vec![(vec![it.ident.to_string()], it.ident.to_string())],
        UseTree::Rename(it) => vec![(vec![it.ident.to_string()], it.rename.to_string())],
        UseTree::Group(it) => it.items.iter().flat_map(paths).collect(),
        UseTree::Glob(_) => panic!("a glob: name what is exported"),
    }
}

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The name of an item that is public where it stands. Not of `use` and `mod`.
fn public_name(item: &Item) -> Option<String> {
    let (visibility, name) = match item {
        Item::Const(it) => (&it.vis, &it.ident),
        Item::Enum(it) => (&it.vis, &it.ident),
        Item::Fn(it) => (&it.vis, &it.sig.ident),
        Item::Static(it) => (&it.vis, &it.ident),
        Item::Struct(it) => (&it.vis, &it.ident),
        Item::Trait(it) => (&it.vis, &it.ident),
        Item::Type(it) => (&it.vis, &it.ident),
        Item::Union(it) => (&it.vis, &it.ident),
        _ => return None,
    };
    is_public(visibility).then(|| name.to_string())
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        _ => &[],
    }
}

pub(crate) fn conditions(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|it| it.path().is_ident("cfg")).cloned().collect()
}

/// Each condition once.
pub(crate) fn dedup(conditions: &mut Vec<Attribute>) {
    let mut seen = Vec::new();
    conditions.retain(|condition| {
        let is_new = !seen.contains(condition);
        seen.push(condition.clone());
        is_new
    });
}
