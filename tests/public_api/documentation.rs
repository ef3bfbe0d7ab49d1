//! The documentation of public functions: whether it has an example that is compiled.

use syn::{Attribute, Expr, ExprLit, ImplItem, Item, Lit, Meta, TraitItem};

use crate::crate_tree::{Tree, is_public};

/// A public function.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) has_example: bool,
}

/// The exported functions, and the public functions of exported types and traits.
pub(crate) fn functions(tree: &Tree) -> Vec<Function> {
    let exports = tree.exports();
    let mut found = Vec::new();
    let mut add = |name: String, attributes: &[Attribute]| {
        found.push(Function { name, has_example: has_example(&text(attributes)) });
    };
    for export in &exports {
        match export.item {
            Some(Item::Fn(it)) => add(export.path.clone(), &it.attrs),
            Some(Item::Trait(it)) => {
                for item in &it.items {
                    let TraitItem::Fn(function) = item else { continue };
                    // The example of a trait with one function is that of the trait.
                    let all: Vec<_> = function.attrs.iter().chain(&it.attrs).cloned().collect();
                    add(format!("{}::{}", export.path, function.sig.ident), &all);
                }
            }
            _ => {}
        }
    }
    for module in tree.modules() {
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            let syn::Type::Path(of) = &*item.self_ty else { continue };
            let Some(of) = of.path.segments.last().map(|it| it.ident.to_string()) else { continue };
            if item.trait_.is_some() || !exports.iter().any(|export| export.name == of) {
                continue;
            }
            for it in &item.items {
                let ImplItem::Fn(it) = it else { continue };
                if is_public(&it.vis) {
                    add(format!("{of}::{}", it.sig.ident), &it.attrs);
                }
            }
        }
    }
    found
}

/// The text of `///` comments and `#[doc = "…"]`.
fn text(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(it) if it.path.is_ident("doc") => match &it.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Whether there is a block of code that rustdoc compiles.
fn has_example(text: &str) -> bool {
    let fences = text.lines().filter_map(|line| line.trim().strip_prefix("```"));
    // Every second fence closes a block.
    fences.step_by(2).any(|language| {
        let words: Vec<_> = language.split([',', ' ']).filter(|word| !word.is_empty()).collect();
        let compiled = ["rust", "no_run", "should_panic"];
        words.iter().all(|word| compiled.contains(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_a_block_that_is_compiled() {
        for (text, expected) in [
            ("Nothing.", false),
            (" ```\n f();\n ```", true),
            (" ```no_run\n f();\n ```", true),
            (" ```rust\n f();\n ```", true),
            (" ```text\n f\n ```", false),
            (" ```ignore\n f();\n ```", false),
            (" ```text\n f\n ```\n ```\n f();\n ```", true),
        ] {
            assert_eq!(has_example(text), expected, "{text}");
        }
    }

    #[test]
    fn functions_without_an_example_are_found() {
        let tree = Tree::parse(
            "mod a {
                pub struct S;
                impl S { /// ```
                    /// f();
                    /// ```
                    pub fn with() {}
                    /// Text.
                    pub fn without() {}
                    fn private() {} }
                impl Clone for S { fn clone(&self) -> S { S } }
             }
             pub use a::S;
             pub fn bare() {}",
        );
        let lacking: Vec<_> =
            functions(&tree).into_iter().filter(|it| !it.has_example).map(|it| it.name).collect();
        assert_eq!(lacking, ["bare", "S::without"]);
    }
}
