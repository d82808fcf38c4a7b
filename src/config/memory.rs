//! How much memory requests may hold: what a flag says, or a share of what the container has.

use std::fs;

use bytesize::ByteSize;

/// Below this, not even one row of a picture would pass.
const LEAST: u64 = 1 << 20;
/// What requests may hold where nobody says otherwise, at most.
const MOST: u64 = 1 << 30;

/// Reads an amount such as 512MiB.
pub(super) fn parse(text: &str) -> Result<usize, String> {
    let expected = || format!("{text}: expected an amount of memory of at least 1MiB, such as 512MiB");
    let bytes = text.parse::<ByteSize>().map_err(|_| expected())?.as_u64();
    usize::try_from(bytes).ok().filter(|_| bytes >= LEAST).ok_or_else(expected)
}

/// A quarter of what this container may use: the rest is for the model and its batches.
pub(super) fn share() -> usize {
    usize::try_from((available() / 4).clamp(LEAST, MOST)).unwrap_or(usize::MAX)
}

/// The least of what the cgroup (version 2, then 1) and the machine have.
fn available() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let machine = rustix::system::sysinfo();
    limits.min().unwrap_or(u64::MAX).min(machine.totalram.saturating_mul(machine.mem_unit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_in_binary_or_decimal_units() {
        assert_eq!([parse("512MiB"), parse("1GB"), parse("1048576")], [Ok(512 << 20), Ok(1_000_000_000), Ok(1 << 20)]);
        for text in ["much", "-1MiB", "", "1KiB", "0"] {
            assert!(parse(text).unwrap_err().contains("such as 512MiB"), "{text}");
        }
    }

    #[test]
    fn the_share_is_within_its_bounds() {
        assert!((1 << 20..=1 << 30).contains(&share()), "{}", share());
    }
}
