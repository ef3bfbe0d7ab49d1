//! Finds the items of a file: functions, types, modules and others with a name.

use crate::blank::{closing, is_test_attribute};
use crate::token::Token;

/// The kind of an item, as far as a check needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function with a body.
    Function,
    /// A struct, enum, union, trait or type alias. Not an associated type.
    Type,
    /// A `mod x;` without a body.
    Declaration,
    /// A module with a body.
    Module,
    /// A constant, a static, a macro or a function without a body.
    Value,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The kind of the item.
    pub kind: Kind,
    /// The name of the item.
    pub name: String,
    /// The line on which it begins, after its attributes.
    pub line: usize,
    /// The number of its lines.
    pub lines: usize,
    /// The number of named fields, of a struct.
    pub fields: usize,
    /// The inline modules around it, outermost first.
    pub(crate) modules: Vec<String>,
    /// False inside a function or an `impl`.
    pub(crate) is_in_scope: bool,
    /// False for items below `#[cfg(test)]`.
    pub(crate) is_for_tests: bool,
    /// Byte offsets of the attributes.
    pub(crate) attributes: std::ops::Range<usize>,
}

/// The items of a file, and the inline module around each token.
pub(crate) struct Items {
    pub(crate) all: Vec<Item>,
    /// One path a token, as an index into `paths`.
    pub(crate) module_of: Vec<usize>,
    pub(crate) paths: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// The file, a module, an extern block or the body of a macro call: items here have a path.
    Scope,
    /// An `impl` or a trait: types here are associated types.
    Associated,
    Fields,
    /// Any other block.
    Body,
    /// The rules of a macro: no code.
    Rules,
    Group,
}

/// An open bracket.
struct Open {
    frame: Frame,
    /// The first token after the last `;` or block: where an item may begin.
    header: usize,
    /// The item that ends with this bracket.
    item: Option<usize>,
    path: usize,
    /// True for the value of a constant, after which the item goes on to its `;`.
    is_value: bool,
}

impl Open {
    fn new(frame: Frame, header: usize, path: usize) -> Self {
        Self { frame, header, item: None, path, is_value: false }
    }
}

/// The beginning of an item.
struct Header<'a> {
    keyword: &'a str,
    name: &'a str,
    line: usize,
    attributes: std::ops::Range<usize>,
    is_for_tests: bool,
}

pub(crate) fn items(tokens: &[Token<'_>]) -> Items {
    let mut found = Items { all: Vec::new(), module_of: Vec::new(), paths: vec![Vec::new()] };
    let mut open = vec![Open::new(Frame::Scope, 0, 0)];
    for (index, token) in tokens.iter().enumerate() {
        let Some(&Open { frame, item, path, .. }) = open.last() else { break };
        found.module_of.push(path);
        match token.text {
            "(" | "[" => {
                open.push(Open::new(rules_or(frame, Frame::Group), index + 1, path));
            }
            "{" => {
                let next = block(tokens, index, &open, &mut found);
                open.push(next);
            }
            ")" | "]" | "}" if open.len() > 1 => {
                let is_value = open.pop().is_some_and(|it| it.is_value);
                if let Some(item) = item.and_then(|item| found.all.get_mut(item)) {
                    item.lines = token.line + 1 - item.line;
                }
                if let (Some(top), "}", false) = (open.last_mut(), token.text, is_value) {
                    top.header = index + 1;
                }
            }
            ";" => {
                statement(tokens, index, &open, &mut found);
                if let Some(top) = open.last_mut().filter(|top| top.frame != Frame::Group) {
                    top.header = index + 1;
                }
            }
            ":" if frame == Frame::Fields => {
                if let Some(item) = item.and_then(|item| found.all.get_mut(item)) {
                    item.fields += 1;
                }
            }
            _ => {}
        }
    }
    found
}

fn rules_or(outer: Frame, frame: Frame) -> Frame {
    if outer == Frame::Rules { Frame::Rules } else { frame }
}

/// Opens the block that begins at `index`, and records the item that it is the body of.
fn block(tokens: &[Token<'_>], index: usize, open: &[Open], found: &mut Items) -> Open {
    let mut next = Open::new(Frame::Body, index + 1, 0);
    let Some(top) = open.last() else { return next };
    next.path = top.path;
    if matches!(top.frame, Frame::Rules | Frame::Group) {
        next.frame = rules_or(top.frame, Frame::Body);
        return next;
    }
    let Some(header) = header(&tokens[top.header..index]) else { return next };
    let (frame, kind) = match header.keyword {
        "mod" => (Frame::Scope, Some(Kind::Module)),
        "fn" => (Frame::Body, Some(Kind::Function)),
        "struct" | "union" => (Frame::Fields, Some(Kind::Type)),
        "enum" => (Frame::Body, Some(Kind::Type)),
        "trait" => (Frame::Associated, Some(Kind::Type)),
        "impl" => (Frame::Associated, None),
        "macro_rules" => (Frame::Rules, Some(Kind::Value)),
        "extern" | "!" => (Frame::Scope, None),
        _ => (Frame::Body, None),
    };
    next.frame = frame;
    next.is_value = matches!(header.keyword, "const" | "static" | "use");
    if let Some(kind) = kind {
        next.item = Some(found.all.len());
        found.all.push(item(&header, kind, open, &found.paths[top.path]));
    }
    if header.keyword == "mod" {
        let path = [&found.paths[top.path][..], &[header.name.to_owned()]].concat();
        next.path = found.paths.len();
        found.paths.push(path);
    }
    next
}

/// Records the item that ends with the `;` at `index`.
fn statement(tokens: &[Token<'_>], index: usize, open: &[Open], found: &mut Items) {
    let Some(top) = open.last() else { return };
    if matches!(top.frame, Frame::Rules | Frame::Group) {
        return;
    }
    let Some(header) = header(&tokens[top.header..index]) else { return };
    let kind = match header.keyword {
        "mod" => Kind::Declaration,
        "struct" => Kind::Type,
        "type" if top.frame != Frame::Associated => Kind::Type,
        "const" | "static" | "fn" => Kind::Value,
        _ => return,
    };
    let mut item = item(&header, kind, open, &found.paths[top.path]);
    item.lines = tokens[index].line + 1 - item.line;
    found.all.push(item);
}

fn item(header: &Header<'_>, kind: Kind, open: &[Open], modules: &[String]) -> Item {
    Item {
        kind,
        name: header.name.to_owned(),
        line: header.line,
        lines: 1,
        fields: 0,
        modules: modules.to_vec(),
        is_in_scope: open.iter().all(|it| it.frame == Frame::Scope),
        is_for_tests: header.is_for_tests,
        attributes: header.attributes.clone(),
    }
}

/// Reads `#[…] pub(…) unsafe KEYWORD NAME`. A macro call has the keyword `!`.
fn header<'a>(tokens: &[Token<'a>]) -> Option<Header<'a>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let (mut at, mut is_for_tests) = (0, false);
    while text(at) == "#" {
        is_for_tests |= is_test_attribute(&tokens[at..]);
        let bracket = if text(at + 1) == "!" { at + 2 } else { at + 1 };
        at = closing(tokens, bracket)? + 1;
    }
    let begin = tokens.get(at)?;
    let attributes = tokens.first()?.at..begin.at;
    if text(at) == "pub" {
        at += 1;
        if text(at) == "(" {
            at = closing(tokens, at)? + 1;
        }
    }
    let is_function = tokens[at..].iter().take(5).any(|it| it.text == "fn");
    let is_modifier = |word: &str| match word {
        "unsafe" | "async" | "default" | "safe" | "auto" => true,
        "const" | "extern" => is_function,
        _ => false,
    };
    while is_modifier(text(at)) {
        at += 1;
    }
    let (keyword, mut name) = (text(at), at + 1);
    let keyword = if text(name) == "!" && keyword != "macro_rules" { "!" } else { keyword };
    if matches!(text(name), "mut" | "!") {
        name += 1;
    }
    let is_named = tokens.get(name).is_some_and(Token::is_name);
    let has_no_name = matches!(keyword, "impl" | "extern" | "!");
    let found = Header {
        keyword,
        name: if has_no_name { "" } else { text(name) },
        line: begin.line,
        attributes,
        is_for_tests,
    };
    (is_named || has_no_name).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tokens;

    fn found(code: &str) -> Vec<(Kind, String, usize)> {
        let all = items(&tokens(code)).all;
        all.into_iter().map(|it| (it.kind, it.name, it.lines)).collect()
    }

    #[test]
    fn items_are_found_with_their_lines() {
        let code = "#[a(b)]\npub(in crate::x) struct A {\n b: C,\n d: [u8; 2],\n}\n\
                    pub const unsafe fn e<T: F>(g: [u8; 2]) -> impl G\nwhere T: H {\n if i {}\n}\n\
                    impl<T> J for K { type L = M; fn n() { struct O(P); } }\n\
                    trait Q { type R; const S: T = U { v: 1 }; fn w(); }\n\
                    static mut X: Y = 1; mod z; type A1 = B1; unsafe extern { fn c1(); }\n\
                    row! { enum D1 { E1 { f1: G1 } } } macro_rules! h1 { () => { struct I1; } }";
        let expected = [
            (Kind::Type, "A", 4),
            (Kind::Function, "e", 4),
            (Kind::Function, "n", 1),
            (Kind::Type, "O", 1),
            (Kind::Type, "Q", 1),
            (Kind::Value, "S", 1),
            (Kind::Value, "w", 1),
            (Kind::Value, "X", 1),
            (Kind::Declaration, "z", 1),
            (Kind::Type, "A1", 1),
            (Kind::Value, "c1", 1),
            (Kind::Type, "D1", 1),
            (Kind::Value, "h1", 1),
        ];
        assert_eq!(found(code), expected.map(|(kind, name, lines)| (kind, name.into(), lines)));
    }

    #[test]
    fn fields_modules_and_scopes_are_known() {
        let code = "mod a { mod b { struct C { d: fn(e: F), g: Vec<H::I>, } } fn j() { type K = L; } }\
                    #[cfg(test)] mod m;";
        let all = items(&tokens(code)).all;
        let c = all.iter().find(|it| it.name == "C").unwrap();
        assert_eq!((c.fields, c.modules.join("::"), c.is_in_scope), (2, "a::b".into(), true));
        let k = all.iter().find(|it| it.name == "K").unwrap();
        assert!(k.kind == Kind::Type && !k.is_in_scope && k.modules == ["a"]);
        assert!(all.iter().all(|it| it.is_for_tests == (it.name == "m")));
    }
}
