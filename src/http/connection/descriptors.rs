//! Room for connections among the process's file descriptors.
//!
//! The usual soft limit of 1024 is there for programs that call `select`; at it, accepting fails, and probes with it.
//! So the soft limit is raised as far as the hard one lets us, and `max_connections` is lowered to what then fits.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::door::RESERVE;

/// What the process needs besides: models being read, dependency checks, logs, the runtime's own.
const OTHERS: usize = 128;

/// As many connections of `wanted` as each of `listeners` can have, and its reserve with them. At least one.
pub(super) fn room_for(wanted: usize, listeners: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // None is no limit.
    let descriptors = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let room = fit(wanted, listeners, descriptors);
    if room < wanted {
        tracing::warn!(
            descriptors,
            listeners,
            "--max-connections {wanted}: the limit on open files leaves room for {room} a port"
        );
    }
    room
}

fn fit(wanted: usize, listeners: usize, descriptors: usize) -> usize {
    let each = descriptors.saturating_sub(OTHERS) / listeners.max(1);
    wanted.min(each.saturating_sub(RESERVE)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_and_the_others_keep_their_descriptors() {
        let table = [
            (10_000, 3, usize::MAX, 10_000),
            (10_000, 1, 1024, 832),
            (10_000, 2, 1024, 384),
            (4, 2, 1024, 4),
            (10_000, 1, 100, 1),
        ];
        for (wanted, listeners, descriptors, room) in table {
            assert_eq!(fit(wanted, listeners, descriptors), room, "{wanted} on {listeners} ports, of {descriptors}");
        }
    }
}
