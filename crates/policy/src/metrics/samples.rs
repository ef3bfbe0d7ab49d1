//! A set of samples: each metric of the catalog with its values, each combination of labels once.

use std::collections::BTreeMap;

use super::catalog::{METRICS, MetricDefinition, MetricKind};

/// Durations in buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Sum of the durations, in seconds.
    pub sum: f64,
    /// Number of durations.
    pub count: u64,
    /// Upper bounds in seconds, in order, each with the number of durations above the bound before.
    pub buckets: Vec<(f64, u64)>,
}

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// Of a gauge.
    Number(f64),
    /// Of a counter.
    Count(u64),
    /// Of a histogram.
    Histogram(Histogram),
}

/// The longest value of a label, in bytes: a supervisor of another user may send any text.
const LONGEST: usize = 256;

/// The beginning of a long text.
fn bounded(label: &str) -> String {
    match label.len() {
        0..=LONGEST => label.to_owned(),
        _ => format!("{}…", &label[..label.floor_char_boundary(LONGEST - '…'.len_utf8())]),
    }
}

/// The samples of all metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricSet {
    of: BTreeMap<&'static str, BTreeMap<Vec<String>, MetricValue>>,
}

impl MetricSet {
    /// Sets a gauge, or adds to the one with these labels.
    ///
    /// # Panics
    ///
    /// As the others below: if the metric is of another type, or has another number of labels.
    pub fn gauge(&mut self, metric: &'static MetricDefinition, labels: &[&str], value: f64) {
        assert_eq!(metric.kind, MetricKind::Gauge, "{}", metric.name);
        let new = MetricValue::Number(value);
        if let Some(MetricValue::Number(before)) = self.entry(metric, labels, new) {
            *before += value;
        }
    }

    /// Sets a counter, or adds to the one with these labels.
    pub fn count(&mut self, metric: &'static MetricDefinition, labels: &[&str], value: u64) {
        assert_eq!(metric.kind, MetricKind::Counter, "{}", metric.name);
        let new = MetricValue::Count(value);
        if let Some(MetricValue::Count(before)) = self.entry(metric, labels, new) {
            *before = before.saturating_add(value);
        }
    }

    /// Sets a histogram, unless there is one with these labels.
    pub fn histogram(
        &mut self,
        metric: &'static MetricDefinition,
        labels: &[&str],
        value: Histogram,
    ) {
        assert_eq!(metric.kind, MetricKind::Histogram, "{}", metric.name);
        self.entry(metric, labels, MetricValue::Histogram(value));
    }

    /// Whether no sample has these labels.
    #[must_use]
    pub fn lacks(&self, metric: &'static MetricDefinition, labels: &[&str]) -> bool {
        let labels: Vec<String> = labels.iter().map(|label| bounded(label)).collect();
        self.of.get(metric.name).is_none_or(|samples| !samples.contains_key(&labels))
    }

    /// The metrics that have samples, in the order of the catalog, each sample with the values of its labels.
    pub fn families(
        &self,
    ) -> impl Iterator<Item = (&'static MetricDefinition, &BTreeMap<Vec<String>, MetricValue>)>
    {
        METRICS.iter().filter_map(|metric| Some((*metric, self.of.get(metric.name)?)))
    }

    /// Inserts a value; gives the value that is there already.
    fn entry(
        &mut self,
        metric: &'static MetricDefinition,
        labels: &[&str],
        new: MetricValue,
    ) -> Option<&mut MetricValue> {
        assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels: Vec<String> = labels.iter().map(|label| bounded(label)).collect();
        let samples = self.of.entry(metric.name).or_default();
        match samples.entry(labels) {
            std::collections::btree_map::Entry::Occupied(old) => Some(old.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(new);
                None
            }
        }
    }
}
