//! The next size on the way from one split of pods to another: the one that grows does so within the surge, and the
//! other one shrinks by what serves in its place. So there are never fewer pods that serve than the total.

use super::change::Side;
use super::step::Sizes;
use super::track::Track;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Forward,
    /// Pods of the canary that do not serve may leave at once.
    Back,
}

/// Which of the two gets which size next; nothing, where both have theirs or have to wait for pods.
pub(super) fn toward(
    stable: &Track,
    canary: &Track,
    aim: Sizes,
    total: i32,
    surge: i32,
    way: Aim,
) -> Option<(Side, i32)> {
    let most = total.saturating_add(surge);
    let grown = |track: &Track, aim: i32, other: &Track| {
        let size = aim.min(most - other.size);
        (size > track.size).then_some(size)
    };
    let shrunk = |track: &Track, aim: i32, other: &Track| {
        let size = aim.max(total - other.ready);
        (size < track.size).then_some(size)
    };
    let broken_first = |size: i32| if way == Aim::Back { size.min(canary.ready) } else { size };
    let canary_leaves = || {
        let size = broken_first((total - stable.ready).max(aim.canary));
        (size < canary.size).then_some((Side::Canary, size.max(aim.canary)))
    };
    grown(stable, aim.stable, canary)
        .map(|size| (Side::Stable, size))
        .or_else(|| grown(canary, aim.canary, stable).map(|size| (Side::Canary, size)))
        .or_else(|| shrunk(stable, aim.stable, canary).map(|size| (Side::Stable, size)))
        .or_else(canary_leaves)
}
