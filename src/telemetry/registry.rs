//! The series of models' versions. Unlike the exporter, which has the server's own, this forgets the series of versions
//! that have left, and tells those of 64 models in a few milliseconds: labels are written once, and samples are counted in
//! their buckets at once rather than kept for whoever comes to tell them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct Registry {
    /// The upper ends of a histogram's buckets, by its name.
    buckets: fn(&str) -> &'static [f64],
    metrics: Arc<Mutex<BTreeMap<String, Metric>>>,
}

#[derive(Default)]
struct Metric {
    help: SharedString,
    series: Vec<Series>,
}

struct Series {
    key: Key,
    /// As they stand between the braces.
    labels: String,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    /// The bits of a number.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// How many samples fell between the end of the bucket before and that of this one, and what they are in sum.
struct Buckets {
    ends: &'static [f64],
    /// One more than `ends`.
    counts: Box<[AtomicU64]>,
    /// The bits of a number.
    sum: AtomicU64,
}

impl Registry {
    pub(super) fn new(buckets: fn(&str) -> &'static [f64]) -> Self {
        Self { buckets, metrics: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of the series, which is `new` where there is none yet.
    fn value(&self, key: &Key, new: impl FnOnce() -> Value) -> Value {
        let mut metrics = self.lock();
        let metric = metrics.entry(key.name().to_owned()).or_default();
        if let Some(known) = metric.series.iter().find(|series| series.key == *key) {
            return known.value.clone();
        }
        let labels = key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value())));
        let series = Series { key: key.clone(), labels: labels.collect::<Vec<_>>().join(","), value: new() };
        metric.series.push(series);
        metric.series.last().expect("it was just put there").value.clone()
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        self.lock().entry(name.as_str().to_owned()).or_default().help = help;
    }

    /// Takes away every series with all of these labels. Handles that somebody still has count on, unseen.
    pub(super) fn forget(&self, labels: &[(&str, &str)]) {
        let is_there =
            |key: &Key, wanted: &(&str, &str)| key.labels().any(|label| (label.key(), label.value()) == *wanted);
        for metric in self.lock().values_mut() {
            metric.series.retain(|series| !labels.iter().all(|wanted| is_there(&series.key, wanted)));
        }
    }

    /// Writes what Prometheus scrapes, metrics in order of their names.
    pub(super) fn render(&self, text: &mut String) {
        for (name, metric) in self.lock().iter() {
            let Some(first) = metric.series.first() else { continue };
            write(text, format_args!("# HELP {name} {}\n# TYPE {name} {}\n", metric.help, first.value.kind()));
            for series in &metric.series {
                series.render(text, name);
            }
            text.push('\n');
        }
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Series {
    fn render(&self, text: &mut String, name: &str) {
        let labels = &self.labels;
        match &self.value {
            Value::Counter(count) => {
                write(text, format_args!("{name}{{{labels}}} {}\n", count.load(Ordering::Relaxed)));
            }
            Value::Gauge(bits) => {
                let value = f64::from_bits(bits.load(Ordering::Relaxed));
                write(text, format_args!("{name}{{{labels}}} {value}\n"));
            }
            Value::Histogram(buckets) => {
                let mut count = 0;
                for (index, inside) in buckets.counts.iter().enumerate() {
                    count += inside.load(Ordering::Relaxed);
                    write(text, format_args!("{name}_bucket{{{labels},le=\""));
                    match buckets.ends.get(index) {
                        Some(end) => write(text, format_args!("{end}\"}} {count}\n")),
                        None => write(text, format_args!("+Inf\"}} {count}\n")),
                    }
                }
                let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
                write(text, format_args!("{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}\n"));
            }
        }
    }
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what); // A String takes everything.
}

/// As a label's value stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Buckets {
    fn new(ends: &'static [f64]) -> Self {
        Self { ends, counts: (0..=ends.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, sample: f64) {
        let bucket = self.ends.partition_point(|end| *end < sample);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + sample).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add); // It is always Some.
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.value(key, || Value::Counter(Arc::default())) {
            Value::Counter(count) => Counter::from_arc(count),
            _ => unreachable!("{} is of one kind", key.name()),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.value(key, || Value::Gauge(Arc::default())) {
            Value::Gauge(bits) => Gauge::from_arc(bits),
            _ => unreachable!("{} is of one kind", key.name()),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.value(key, || Value::Histogram(Arc::new(Buckets::new((self.buckets)(key.name()))))) {
            Value::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => unreachable!("{} is of one kind", key.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{
        counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder,
    };
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    const ENDS: [f64; 4] = [0.000_05, 0.01, 1.0, 30.0];

    /// Some of everything, ends of buckets and odd labels among it.
    #[allow(clippy::disallowed_macros)] // They are tried.
    fn record(times: u32) {
        describe_counter!("asked_total", "Who asked");
        describe_gauge!("waiting", "Who waits");
        describe_histogram!("took_seconds", "What it took");
        for model in ["plain", "a \"quoted\" \\ one\nof two lines", "unasked"] {
            let labels = [("model", model.to_owned()), ("version", "1".to_owned())];
            let (count, value, samples) =
                (counter!("asked_total", &labels), gauge!("waiting", &labels), histogram!("took_seconds", &labels));
            if model == "unasked" {
                continue;
            }
            for time in 0..times {
                count.increment(u64::from(time));
                value.set(f64::from(time) / 7.0);
                samples.record(f64::from(time) / 128.0); // So that no order of adding rounds.
            }
        }
    }

    fn lines(text: &str) -> Vec<&str> {
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn it_tells_what_the_exporter_tells() {
        let registry = Registry::new(|_| &ENDS);
        let exporter = PrometheusBuilder::new().set_buckets(&ENDS).unwrap().build_recorder();
        for times in [1, 40, 7000] {
            with_local_recorder(&registry, || record(times));
            with_local_recorder(&exporter, || record(times));
            let mut text = String::new();
            registry.render(&mut text);
            assert_eq!(lines(&text), lines(&exporter.handle().render()));
        }
    }

    #[test]
    #[allow(clippy::disallowed_macros)] // They are tried.
    fn what_is_forgotten_is_gone_and_begins_anew() {
        let registry = Registry::new(|_| &ENDS);
        let count = |version: &str| {
            let labels = [("model", "m".to_owned()), ("version", version.to_owned())];
            with_local_recorder(&registry, || counter!("asked_total", &labels)).increment(1);
        };
        let text = || {
            let mut text = String::new();
            registry.render(&mut text);
            text
        };
        count("1");
        count("2");
        count("2");
        registry.forget(&[("model", "other"), ("version", "1")]);
        assert_eq!(text().lines().count(), 5, "{}", text());
        registry.forget(&[("model", "m"), ("version", "2")]);
        assert!(text().contains("version=\"1\"} 1\n") && !text().contains("version=\"2\""), "{}", text());
        count("2");
        assert!(text().contains("version=\"2\"} 1\n"), "{}", text());
        registry.forget(&[("model", "m")]);
        assert_eq!(text(), "", "a metric without series is not told");
    }
}
