//! How busy the async runtimes are. Their own counters: nothing is asked of a runtime that could be stuck.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};

use super::figures::Text;
use super::table::{RUNTIME_BUSY, RUNTIME_QUEUE, RUNTIME_TASKS, RUNTIME_WORKERS};

type Figure = fn(&RuntimeMetrics) -> f64;

#[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ tasks.
const FIGURES: [(&str, Figure); 4] = [
    (RUNTIME_WORKERS, |now| now.num_workers() as f64),
    (RUNTIME_TASKS, |now| now.num_alive_tasks() as f64),
    (RUNTIME_QUEUE, |now| now.global_queue_depth() as f64),
    (RUNTIME_BUSY, |now| busy(now).as_secs_f64()),
];

/// Of each of `runtimes`, under its name.
pub(super) fn tell(text: &mut Text, runtimes: &[(&'static str, Handle)]) {
    let now: Vec<_> = runtimes.iter().map(|(name, handle)| (*name, handle.metrics())).collect();
    for (metric, figure) in FIGURES {
        text.metric(metric, now.iter().map(|(name, now)| ([*name], figure(now))));
    }
}

fn busy(now: &RuntimeMetrics) -> Duration {
    (0..now.num_workers()).map(|worker| now.worker_total_busy_duration(worker)).sum()
}
