//! The documentation and the dashboard name the metrics that exist, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use sameport_policy::metrics::{METRICS, MetricKind};

pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_documentation_has_every_metric() {
    let page = read("docs/metrics.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `sameport_")).collect();
    let expected: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (kind, source) = (metric.kind.name(), metric.source.name());
            let labels = labels.join(", ");
            format!("| `{}` | {kind} | {labels} | {source} | {} |", metric.name, metric.help)
        })
        .collect();
    assert_eq!(rows, expected);
}

/// The words that name metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_word(c)).filter(|word| word.starts_with("sameport_"));
    // A word that ends so is the beginning of a pattern for `grep`.
    let words = words.filter(|word| !word.ends_with('_'));
    words.map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_guide_name_metrics_that_exist() {
    let exists = |name: &String| {
        METRICS.iter().any(|metric| match metric.kind {
            MetricKind::Histogram => ["_bucket", "_sum", "_count", ""]
                .iter()
                .any(|suffix| *name == format!("{}{suffix}", metric.name)),
            _ => name == metric.name,
        })
    };
    for path in ["packaging/grafana/sameport.json", "docs/guides/metrics.md"] {
        let names = named(&read(path));
        let unknown: Vec<&String> = names.iter().filter(|name| !exists(name)).collect();
        assert!(!names.is_empty() && unknown.is_empty(), "{path}: {unknown:?}");
    }
}
