//! What `/proc` says of this process, under the names that Prometheus' own libraries use: three small files a scrape.

use metrics_process::collector::{Metrics, collect};

use super::figures::Text;
use super::table::{
    PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT, PROCESS_START, PROCESS_THREADS, PROCESS_VIRTUAL,
};

pub(super) fn tell(text: &mut Text) {
    let now: Metrics = collect();
    text.one(PROCESS_CPU, now.cpu_seconds_total);
    for (name, value) in [
        (PROCESS_RESIDENT, now.resident_memory_bytes),
        (PROCESS_VIRTUAL, now.virtual_memory_bytes),
        (PROCESS_OPEN_FDS, now.open_fds),
        (PROCESS_MAX_FDS, now.max_fds),
        (PROCESS_THREADS, now.threads),
        (PROCESS_START, now.start_time_seconds),
    ] {
        #[allow(clippy::cast_precision_loss)] // Nothing here comes near 2⁵³.
        text.one(name, value.map(|value| value as f64));
    }
}
