//! Import cycles: sets of files that all reach each other.

use std::collections::{BTreeMap, BTreeSet};

/// The cycles of a graph, each sorted.
pub fn cycles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|from| (from, reachable(graph, from))).collect();
    let leads = |from: &String, to: &String| reach.get(from).is_some_and(|all| all.contains(to));
    let mut found: Vec<Vec<String>> = Vec::new();
    for file in graph.keys().filter(|file| leads(file, file)) {
        if found.iter().any(|cycle| cycle.contains(file)) {
            continue;
        }
        let cycle = graph.keys().filter(|other| leads(file, other) && leads(other, file));
        found.push(cycle.cloned().collect());
    }
    found
}

fn reachable<'a>(
    graph: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a String,
) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        let imported = graph.get(file).into_iter().flatten();
        next.extend(imported.filter(|it| found.insert(*it)));
    }
    found
}

#[test]
fn cycles_are_found_once() {
    let graph =
        [("a", "b"), ("b", "c"), ("c", "b"), ("d", "e f"), ("e", "f"), ("f", "d"), ("g", "d")];
    let graph = graph.map(|(from, to)| (from.into(), to.split(' ').map(Into::into).collect()));
    let found = cycles(&BTreeMap::from(graph));
    assert_eq!(found, [vec!["b", "c"], vec!["d", "e", "f"]]);
}
