//! The file of a `mod` declaration.

use crate::item::Item;

/// The files that a `mod` declaration can mean, the likeliest first.
pub(crate) fn declared_file(path: &str, text: &str, declaration: &Item) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    let is_mod_file = matches!(stem, "mod" | "lib" | "main");
    let inline = declaration.modules.iter().map(String::as_str);
    let below = |stem: &[&str]| -> Vec<String> {
        let inline = inline.clone().map(str::to_owned);
        [folder].iter().chain(stem).map(|it| (*it).to_owned()).chain(inline).collect()
    };
    let attributes = &text[declaration.attributes.clone()];
    if let Some(given) = attributes.split("path = \"").nth(1).and_then(|it| it.split('"').next()) {
        let has_stem = !is_mod_file && !declaration.modules.is_empty();
        let base = below(if has_stem { std::slice::from_ref(&stem) } else { &[] });
        return vec![normal(&format!("{}/{given}", base.join("/")))];
    }
    // A crate root of another name has its modules in its own directory.
    let bases = if is_mod_file { vec![below(&[])] } else { vec![below(&[stem]), below(&[])] };
    let name = &declaration.name;
    let files = bases
        .iter()
        .map(|base| base.join("/"))
        .flat_map(|base| [format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")]);
    files.map(|file| normal(&file)).collect()
}

/// Resolves `..` and empty parts.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn a_declaration_means_a_file() {
    let of = |path: &str, text: &str| {
        let (code, _) = crate::blank::blanked(text);
        let all = crate::item::items(&crate::token::tokens(&code)).all;
        let item = all.iter().find(|it| it.kind == crate::item::Kind::Declaration);
        declared_file(path, text, item.expect("a declaration"))[0].clone()
    };
    assert_eq!(of("a/src/lib.rs", "mod b;"), "a/src/b.rs");
    assert_eq!(of("a/src/c/mod.rs", "pub mod b;"), "a/src/c/b.rs");
    assert_eq!(of("a/src/c.rs", "mod d { mod b; }"), "a/src/c/d/b.rs");
    assert_eq!(of("a/src/c.rs", "#[path = \"../e.rs\"]\nmod b;"), "a/e.rs");
    assert_eq!(of("a/src/c.rs", "mod d { #[path = \"e.rs\"] mod b; }"), "a/src/c/d/e.rs");
}
