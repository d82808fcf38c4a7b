//! Figures that nobody counts here: what the system, the runtimes and the GPUs say at the moment of a scrape.
//!
//! They are written straight into the text. The exporter's counters are whole numbers, which seconds of CPU time are not,
//! and it would go on telling of a GPU that has gone.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::formatting;
use tokio::runtime::Handle;

use super::table::{METRICS, Metric};
use super::{cgroup, gpu, process, runtime};

/// Where a container sees its own cgroup.
const CGROUP: &str = "/sys/fs/cgroup";

/// Who is asked at a scrape.
#[derive(Default)]
pub(super) struct Figures {
    runtimes: Mutex<Vec<(&'static str, Handle)>>,
    gpus: gpu::Latest,
}

impl Figures {
    pub(super) fn runtime(&self, name: &'static str, handle: Handle) {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner).push((name, handle));
    }

    pub(super) fn watch_gpus(&self) {
        gpu::watch(self.gpus.clone());
    }

    /// What all of them say, for Prometheus.
    pub(super) fn text(&self) -> String {
        let mut text = Text::default();
        process::tell(&mut text);
        cgroup::tell(&mut text, Path::new(CGROUP));
        runtime::tell(&mut text, &self.runtimes.lock().unwrap_or_else(PoisonError::into_inner));
        gpu::tell(&mut text, &self.gpus.now());
        text.0
    }
}

/// A text for Prometheus, written metric by metric.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    /// A metric without labels; nothing where it has no value.
    pub(super) fn one(&mut self, name: &str, value: Option<f64>) {
        self.metric(name, value.map(|value| ([], value)));
    }

    /// A metric of [`METRICS`] with all of its series: the values of its labels, in the table's order, and its own.
    pub(super) fn metric<'a, const LABELS: usize>(
        &mut self,
        name: &str,
        series: impl IntoIterator<Item = ([&'a str; LABELS], f64)>,
    ) {
        let mut series = series.into_iter().peekable();
        let Some(metric) = METRICS.iter().find(|metric| metric.name == name).filter(|_| series.peek().is_some()) else {
            return;
        };
        let Metric { kind, labels, meaning, .. } = metric;
        formatting::write_help_line(&mut self.0, name, None, None, meaning);
        formatting::write_type_line(&mut self.0, name, None, None, kind.name());
        for (values, value) in series {
            let labels = labels.iter().zip(values);
            let labels =
                labels.map(|(label, value)| format!("{label}=\"{}\"", formatting::sanitize_label_value(value)));
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{GPU_INFO, PROCESS_CPU};
    use super::*;

    #[test]
    fn a_metric_is_written_as_the_table_has_it_and_only_where_it_has_a_value() {
        let mut text = Text::default();
        text.one(PROCESS_CPU, None);
        text.metric(GPU_INFO, [(["0", "GPU-1", "a \"fast\" one"], 1.0), (["1", "GPU-2", ""], 1.0)]);
        text.one(PROCESS_CPU, Some(0.25));
        let lines: Vec<&str> = text.0.lines().filter(|line| !line.starts_with("# HELP ")).collect();
        let expected = [
            "# TYPE torchpod_gpu_info gauge",
            r#"torchpod_gpu_info{gpu="0",uuid="GPU-1",name="a \"fast\" one"} 1"#,
            r#"torchpod_gpu_info{gpu="1",uuid="GPU-2",name=""} 1"#,
            "",
            "# TYPE process_cpu_seconds_total counter",
            "process_cpu_seconds_total 0.25",
            "",
        ];
        assert_eq!(lines, expected);
        assert_eq!(text.0.matches("# HELP ").count(), 2);
    }
}
