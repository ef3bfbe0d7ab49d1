//! The text format of Prometheus (version 0.0.4), written by its client library.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sameport_policy::metrics::{MetricKind, MetricSet, MetricValue};

/// The `Content-Type`.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The text.
pub(super) fn text(set: MetricSet) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Samples(Arc::new(set))));
    let mut text = String::new();
    // A `String` takes everything.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Samples(Arc<MetricSet>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, samples) in self.0.families() {
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            // The library adds the suffix of counters, and the full stop of the help.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let help = format!("{}.", metric.help);
            let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
            for (values, value) in samples {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                match labels.is_empty() {
                    true => encode(&mut family, value)?,
                    false => encode(&mut family.encode_family(&labels)?, value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder<'_>, value: &MetricValue) -> fmt::Result {
    match value {
        MetricValue::Number(number) => encoder.encode_gauge(number),
        MetricValue::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        MetricValue::Histogram(it) => {
            encoder.encode_histogram::<NoLabelSet>(it.sum, it.count, &it.buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use sameport_policy::metrics::{BUILD_INFO, Histogram, RUN_CHANGES, RUN_STARTS, RUN_UP};

    use super::*;

    #[test]
    fn every_type_and_every_character() {
        let mut set = MetricSet::default();
        let hostile = "a\"b\\c\nd\u{7f}é";
        set.gauge(&BUILD_INFO, &[hostile], 1.0);
        set.gauge(&RUN_UP, &["web", "root"], 0.0);
        set.gauge(&RUN_UP, &["api", "root"], 1.0);
        set.count(&RUN_STARTS, &["web", "root"], u64::MAX);
        let buckets = vec![(0.5, 1), (2.0, 2)];
        let histogram = Histogram { sum: 9.5, count: 4, buckets };
        set.histogram(&RUN_CHANGES, &["web", "root", "restart"], histogram);
        let text = text(set);
        for line in [
            "# HELP sameport_build_info The version of the exporter; the value is 1.",
            "# TYPE sameport_build_info gauge",
            "sameport_build_info{version=\"a\\\"b\\\\c\\nd\u{7f}é\"} 1",
            "sameport_run_up{run=\"api\",user=\"root\"} 1",
            "sameport_run_up{run=\"web\",user=\"root\"} 0",
            "# TYPE sameport_run_worker_starts_total counter",
            "sameport_run_worker_starts_total{run=\"web\",user=\"root\"} 18446744073709551615",
            "sameport_run_change_duration_seconds_bucket{run=\"web\",user=\"root\",change=\"restart\",le=\"2\"} 3",
            "sameport_run_change_duration_seconds_bucket{run=\"web\",user=\"root\",change=\"restart\",le=\"+Inf\"} 4",
            "sameport_run_change_duration_seconds_sum{run=\"web\",user=\"root\",change=\"restart\"} 9.5",
        ] {
            assert!(
                text.lines().any(|found| found == line || found == format!("{line}.0")),
                "{line}:\n{text}"
            );
        }
        assert_eq!(text.matches("# TYPE sameport_run_up").count(), 1);
    }
}
