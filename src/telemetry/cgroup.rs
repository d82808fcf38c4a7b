//! What the container may use, and whether it was held back, as its cgroup (version 2) says.
//!
//! A server that is throttled is slow without being busy, and nothing else that it knows of itself shows that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::figures::Text;
use super::table::{CPU_THROTTLED, MEMORY_LIMIT};

pub(super) fn tell(text: &mut Text, cgroup: &Path) {
    let read = |file: &str| fs::read_to_string(cgroup.join(file)).ok();
    let throttled = read("cpu.stat").and_then(|stat| {
        let micros = stat.lines().find_map(|line| line.strip_prefix("throttled_usec "))?;
        Some(Duration::from_micros(micros.trim().parse().ok()?).as_secs_f64())
    });
    text.one(CPU_THROTTLED, throttled);
    // Without a limit it says `max`.
    text.one(MEMORY_LIMIT, read("memory.max").and_then(|limit| limit.trim().parse().ok()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let cgroup = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(cgroup.path().join(file), text).unwrap();
        }
        let mut text = Text::default();
        tell(&mut text, cgroup.path());
        text.0.lines().filter(|line| line.starts_with("torchpod_")).map(str::to_owned).collect()
    }

    #[test]
    fn a_container_with_limits_tells_them_and_how_long_it_was_throttled() {
        let stat = "usage_usec 74\nnr_periods 12\nnr_throttled 3\nthrottled_usec 1250000\nnr_bursts 0\n";
        assert_eq!(
            told(&[("cpu.stat", stat), ("memory.max", "536870912\n")]),
            ["torchpod_cpu_throttled_seconds_total 1.25", "torchpod_memory_limit_bytes 536870912"]
        );
    }

    #[test]
    fn where_there_is_no_limit_or_no_such_cgroup_nothing_is_told() {
        assert_eq!(told(&[("cpu.stat", "usage_usec 74\n"), ("memory.max", "max\n")]), [""; 0]);
        assert_eq!(told(&[]), [""; 0]);
    }
}
