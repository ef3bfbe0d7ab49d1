//! How large functions, structs and special visibilities may grow.

use std::collections::BTreeMap;

use source_tree::{Kind, Source};

use super::offenders::{LARGE_STRUCTS, LONG_FUNCTIONS, MANY_PUB_IN};
use super::{SOURCES, beyond, none};

const LONGEST_FUNCTION: usize = 80;
const MOST_FIELDS: usize = 12;
/// `pub(in …)` per 1,000 lines.
const MOST_PUB_IN: usize = 3;

/// `FILE FUNCTION` of the functions that are too long.
fn long_functions(sources: &[Source]) -> BTreeMap<String, String> {
    let shipped = sources.iter().filter(|it| !it.is_test());
    let functions = shipped.flat_map(|source| {
        let items = source.items().into_iter();
        let long = items.filter(|it| it.kind == Kind::Function && it.lines > LONGEST_FUNCTION);
        long.map(|it| (format!("{} {}", source.path, it.name), source.path.clone(), it))
    });
    functions
        .map(|(key, path, it)| {
            (key, format!("{path}:{}: {} has {} lines", it.line, it.name, it.lines))
        })
        .collect()
}

/// `FILE STRUCT` of the structs of the supervisor that have too many fields.
fn large_structs(sources: &[Source]) -> BTreeMap<String, String> {
    let supervisor = sources.iter().filter(|it| it.package() == "crates/supervisor");
    let mut found = BTreeMap::new();
    for source in supervisor {
        for item in source.items().iter().filter(|it| it.fields > MOST_FIELDS) {
            let (path, name) = (&source.path, &item.name);
            let why = format!("{path}:{}: {name} has {} fields", item.line, item.fields);
            found.insert(format!("{path} {name}"), why);
        }
    }
    found
}

/// The packages with too many `pub(in …)`.
fn many_pub_in(sources: &[Source]) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for source in sources.iter().filter(|it| !it.is_test()) {
        let count = counts.entry(source.package()).or_default();
        count.0 += source.code.matches("pub(in ").count();
        count.1 += source.shipped_lines();
    }
    let many = counts.iter().filter(|(_, (count, lines))| count * 1000 > MOST_PUB_IN * lines);
    many.map(|(package, (count, lines))| {
        ((*package).to_owned(), format!("{package}: {count} times `pub(in` in {lines} lines"))
    })
    .collect()
}

#[test]
fn functions_are_short_enough_to_read() {
    let rule = format!("split functions of more than {LONGEST_FUNCTION} lines");
    none(beyond("LONG_FUNCTIONS", LONG_FUNCTIONS, &rule, &long_functions(&SOURCES)));

    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines - 2));
    let found = |path: &str, text: &str| long_functions(&[Source::new(path, text)]).len();
    assert_eq!(found("crates/a/src/b.rs", &function(81)), 1);
    assert_eq!(found("crates/a/src/b.rs", &format!("impl A {{ {} }}", function(81))), 1);
    assert_eq!(found("crates/a/src/b.rs", &function(80)), 0);
    assert_eq!(found("crates/a/tests/b.rs", &function(81)), 0);
    assert_eq!(found("crates/a/src/b.rs", &format!("#[cfg(test)] {}", function(81))), 0);
}

#[test]
fn structs_of_the_supervisor_have_few_fields() {
    let rule = format!("split structs of more than {MOST_FIELDS} fields by concern");
    none(beyond("LARGE_STRUCTS", LARGE_STRUCTS, &rule, &large_structs(&SOURCES)));

    let fields = |count: usize| format!("struct A {{ {} }}", "b: Vec<c::D>, ".repeat(count));
    let found = |path: &str, text: &str| large_structs(&[Source::new(path, text)]).len();
    assert_eq!(found("crates/supervisor/src/a.rs", &fields(13)), 1);
    assert_eq!(found("crates/supervisor/src/a.rs", &fields(12)), 0);
    assert_eq!(found("crates/cli/src/a.rs", &fields(13)), 0);
}

#[test]
fn few_items_have_a_visibility_of_their_own() {
    let rule = format!("at most {MOST_PUB_IN} per 1,000 lines: use `pub(super)`, or move the item");
    none(beyond("MANY_PUB_IN", MANY_PUB_IN, &rule, &many_pub_in(&SOURCES)));

    let lines = |count: usize| {
        format!("{}{}", "pub(in crate::a) struct B;\n".repeat(count), "\n".repeat(999))
    };
    let found = |text: &str| many_pub_in(&[Source::new("crates/a/src/b.rs", text)]).len();
    assert_eq!((found(&lines(4)), found(&lines(3))), (1, 0));
}
