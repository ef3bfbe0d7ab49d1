//! The text of a public interface: every exported item without its body, documentation and private
//! parts, then what is implemented for it.

use syn::{
    Attribute, Block, Field, Fields, FieldsNamed, File, ImplItem, Item, ItemImpl, ItemTrait,
    TraitItem, Type, parse_quote,
};

use crate::crate_tree::{Tree, attributes, conditions, dedup, is_public};

/// Attributes that a user notices.
const KEPT: &[&str] = &["cfg", "deprecated", "derive", "must_use", "non_exhaustive", "repr"];

/// A field for the private fields of a struct.
const PRIVATE: &str = "private_fields";

pub(crate) fn text(tree: &Tree) -> String {
    let exports = tree.exports();
    let mut parts: Vec<(String, String)> = Vec::new();
    for export in &exports {
        let conditions = &export.conditions;
        let part = match (export.item, &export.foreign) {
            (Some(item), _) => printed(without_private_parts(item, conditions)),
            (None, Some(path)) => {
                let name = &export.name;
                let renamed = if path.ends_with(&format!("::{name}")) {
                    String::new()
                } else {
                    format!(" as {name}")
                };
                format!("{}pub use {path}{renamed};\n", condition_lines(conditions))
            }
            (None, None) => unreachable!("an export is one of the two"),
        };
        let place = match export.path.rsplit_once("::") {
            Some((module, _)) => format!("// in {module}\n"),
            None => String::new(),
        };
        parts.push((format!("{} 0", export.path), place + &part));
    }
    for module in tree.modules() {
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            let own = Vec::from(attributes(&Item::Impl(item.clone())));
            let mut all = module.conditions.clone();
            all.extend(conditions(&own));
            dedup(&mut all);
            let Some(subject) =
                subject(item, &exports.iter().map(|it| &*it.name).collect::<Vec<_>>())
            else {
                continue;
            };
            if let Some(part) = implementation(item, &all) {
                parts.push((
                    format!("{subject} {} {part}", 1 + u8::from(item.trait_.is_some())),
                    part,
                ));
            }
        }
    }
    parts.sort();
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join("\n")
}

fn condition_lines(conditions: &[Attribute]) -> String {
    use quote::ToTokens as _;

    let line = |it: &Attribute| {
        let Ok(list) = it.meta.require_list() else { return String::new() };
        let tokens = list.tokens.to_token_stream().to_string();
        format!("#[cfg({})]\n", tokens.replace(" ,", ",").replace(" (", "(").replace("( ", "("))
    };
    conditions.iter().map(line).collect()
}

/// The exported name that an implementation is about: its type, else its trait.
fn subject(item: &ItemImpl, exported: &[&str]) -> Option<String> {
    let of_type = last_name(&item.self_ty);
    let of_trait =
        item.trait_.as_ref().and_then(|path| Some(path.0.segments.last()?.ident.to_string()));
    let is_exported = |name: &String| exported.contains(&name.as_str());
    // `impl From<Error> for io::Error`: the exported name is the argument of the trait.
    let argument = item.trait_.as_ref().and_then(|path| {
        let syn::PathArguments::AngleBracketed(arguments) = &path.0.segments.last()?.arguments
        else {
            return None;
        };
        let syn::GenericArgument::Type(first) = arguments.args.first()? else { return None };
        last_name(first)
    });
    let is_foreign = |it: &Type| matches!(it, Type::Path(path) if path.path.segments.len() > 1);
    let own_type = of_type.filter(|_| !is_foreign(&item.self_ty));
    [own_type, of_trait, argument].into_iter().flatten().find(is_exported)
}

fn last_name(it: &Type) -> Option<String> {
    match it {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Type::Reference(inner) => last_name(&inner.elem),
        _ => None,
    }
}

fn kept(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter(|it| KEPT.iter().any(|name| it.path().is_ident(name)))
        .cloned()
        .collect()
}

/// The kept attributes of an item, with its conditions first.
fn with_conditions(attributes: &[Attribute], conditions: &[Attribute]) -> Vec<Attribute> {
    let others = kept(attributes).into_iter().filter(|it| !it.path().is_ident("cfg"));
    conditions.iter().cloned().chain(others).collect()
}

fn empty() -> Block {
    parse_quote!({})
}

fn without_private_parts(item: &Item, conditions: &[Attribute]) -> Item {
    let mut item = item.clone();
    let attrs = with_conditions(attributes(&item), conditions);
    match &mut item {
        Item::Const(it) => {
            it.attrs = attrs;
            // The value is no part of the interface.
            *it.expr = parse_quote!(_);
        }
        Item::Enum(it) => {
            it.attrs = attrs;
            for variant in &mut it.variants {
                variant.attrs = kept(&variant.attrs);
                for field in &mut variant.fields {
                    field.attrs = kept(&field.attrs);
                }
            }
        }
        Item::Fn(it) => {
            it.attrs = attrs;
            *it.block = empty();
            for input in &mut it.sig.inputs {
                without_mut(input);
            }
        }
        Item::Struct(it) => {
            it.attrs = attrs;
            fields(&mut it.fields);
        }
        Item::Trait(it) => {
            it.attrs = attrs;
            trait_items(it);
        }
        Item::Type(it) => it.attrs = attrs,
        other => panic!("an exported item that this reader does not know: {other:?}"),
    }
    item
}

/// `mut` of an argument is no part of the interface.
fn without_mut(input: &mut syn::FnArg) {
    match input {
        syn::FnArg::Receiver(it) => it.mutability = None,
        syn::FnArg::Typed(it) => {
            if let syn::Pat::Ident(name) = &mut *it.pat {
                name.mutability = None;
            }
        }
    }
}

fn fields(all: &mut Fields) {
    let hide = |named: &mut FieldsNamed| {
        let is_private = |field: &Field| !is_public(&field.vis);
        if named.named.iter().any(is_private) {
            named.named = named.named.iter().filter(|field| !is_private(field)).cloned().collect();
            let name = syn::Ident::new(PRIVATE, proc_macro2::Span::call_site());
            let field: FieldsNamed = parse_quote!({ #name: () });
            named.named.extend(field.named);
        }
        named.named.iter_mut().for_each(|field| field.attrs = kept(&field.attrs));
    };
    match all {
        Fields::Named(named) => hide(named),
        Fields::Unnamed(it) => {
            for field in &mut it.unnamed {
                field.attrs = kept(&field.attrs);
                if !is_public(&field.vis) {
                    field.ty = parse_quote!(_);
                }
            }
        }
        Fields::Unit => {}
    }
}

fn trait_items(it: &mut ItemTrait) {
    for item in &mut it.items {
        match item {
            TraitItem::Fn(it) => {
                it.attrs = kept(&it.attrs);
                it.default = it.default.as_ref().map(|_| empty());
            }
            TraitItem::Type(it) => it.attrs = kept(&it.attrs),
            TraitItem::Const(it) => it.attrs = kept(&it.attrs),
            _ => {}
        }
    }
}

/// The public functions of an implementation, or the head and types of that of a trait.
fn implementation(item: &ItemImpl, conditions: &[Attribute]) -> Option<String> {
    let mut item = item.clone();
    item.attrs = with_conditions(&item.attrs, conditions);
    let is_of_trait = item.trait_.is_some();
    item.items.retain(|it| match it {
        ImplItem::Type(_) => true,
        ImplItem::Fn(it) => !is_of_trait && is_public(&it.vis),
        ImplItem::Const(it) => is_of_trait || is_public(&it.vis),
        _ => false,
    });
    for it in &mut item.items {
        match it {
            ImplItem::Fn(it) => {
                it.attrs = kept(&it.attrs);
                it.block = empty();
                it.sig.inputs.iter_mut().for_each(without_mut);
            }
            ImplItem::Type(it) => it.attrs = kept(&it.attrs),
            ImplItem::Const(it) => it.attrs = kept(&it.attrs),
            _ => {}
        }
    }
    (is_of_trait || !item.items.is_empty()).then(|| printed(Item::Impl(item)))
}

/// The text of an item as rustfmt would write it, nearly.
fn printed(item: Item) -> String {
    let is_trait = matches!(item, Item::Trait(_));
    let text = prettyplease::unparse(&File {
        shebang: None,
        frontmatter: None,
        attrs: Vec::new(),
        items: vec![item],
    });
    let text = text.replace(&format!("{PRIVATE}: (),"), "// private fields");
    // A trait's function with `{}` has a default. Elsewhere the body is left out.
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_head = line.starts_with("impl")
            || line.starts_with("pub enum")
            || line.starts_with("pub struct");
        match line.strip_suffix(" {}") {
            Some(head) if !is_trait && !is_head => lines.push(format!("{head};")),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_left_out() {
        let tree = Tree::parse(
            "mod a {
                /// A doc.
                #[derive(Clone)] #[non_exhaustive] pub struct S { pub open: u8, hidden: u16 }
                pub struct T(u8);
                struct Hidden;
                impl S { /// Doc.
                    #[must_use] pub fn f(mut self, x: &str) -> u8 { self.open } fn g() {} }
                impl Hidden { pub fn h() {} }
                impl From<S> for std::io::Error { fn from(s: S) -> Self { todo!() } }
                #[cfg(unix)] impl Drop for S { fn drop(&mut self) {} }
                pub trait Tr { type X; fn one(&self); fn two() { one() } }
                impl Tr for u16 { type X = u8; fn one(&self) {} }
                pub(crate) fn inner() {}
             }
             #[cfg(feature = \"x\")] pub use a::{S, T as U, Tr};
             #[cfg(windows)] pub mod open { pub fn deep() {} pub use crate::a::Tr; }
             pub fn outer(mut x: impl Into<u8>) -> u8 { x.into() }
             pub const C: u8 = 3;",
        );
        let expected = "\
pub const C: u8 = _;

#[cfg(feature = \"x\")]
#[derive(Clone)]
#[non_exhaustive]
pub struct S {
    pub open: u8,
    // private fields
}

impl S {
    #[must_use]
    pub fn f(self, x: &str) -> u8;
}

#[cfg(unix)]
impl Drop for S {}

impl From<S> for std::io::Error {}

#[cfg(feature = \"x\")]
pub trait Tr {
    type X;
    fn one(&self);
    fn two() {}
}

impl Tr for u16 {
    type X = u8;
}

#[cfg(feature = \"x\")]
pub struct T(_);

// in open
#[cfg(windows)]
pub trait Tr {
    type X;
    fn one(&self);
    fn two() {}
}

// in open
#[cfg(windows)]
pub fn deep();

pub fn outer(x: impl Into<u8>) -> u8;
";
        assert_eq!(text(&tree), expected);
    }

    #[test]
    fn what_is_not_of_this_crate_is_a_path() {
        let tree = Tree::parse(
            "mod a { #[cfg(unix)] pub use std::os::fd::AsFd as Handle; }
             pub use a::Handle; pub use other::Thing;",
        );
        let expected =
            "#[cfg(unix)]\npub use std::os::fd::AsFd as Handle;\n\npub use other::Thing;\n";
        assert_eq!(text(&tree), expected);
    }

    #[test]
    #[should_panic(expected = "a glob")]
    fn a_glob_is_refused() {
        text(&Tree::parse("pub use a::*;"));
    }
}
