//! Whole runs in a made-up world whose pods come up when they please, whose runs are ended at any turn, and whose
//! somebody asks for the way back: what must hold at every turn, and in the end.

use kubectl_torchpod::release::canary::{Action, End, Gate, Plan, Seen, Surge, next};
use kubectl_torchpod::release::change::{Change, Side};
use kubectl_torchpod::release::step::Shares;
use proptest::prelude::*;

use crate::world::{NEW, OLD, now, passed, plan, track};

#[derive(Clone, Debug)]
struct Case {
    stable: i32,
    canary: i32,
    shares: Vec<u32>,
    surge: i32,
    /// At which gate it is found bad, if ever.
    bad_at: Option<usize>,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shares = prop::collection::btree_set(1..=99_u32, 1..5);
    (1..40_i32, 0..=1_i32, shares, 1..12_i32, prop::option::of(0..6_usize), any::<u64>(), any::<bool>()).prop_map(
        |(stable, canary, shares, surge, bad_at, seed, whole)| {
            let mut shares: Vec<u32> = shares.into_iter().collect();
            shares.extend(whole.then_some(100));
            Case { stable, canary, shares, surge, bad_at, seed }
        },
    )
}

fn planned(case: &Case) -> Plan {
    let shares: Vec<_> = case.shares.iter().map(u32::to_string).collect();
    Plan { shares: shares.join(",").parse::<Shares>().unwrap(), surge: Surge::Pods(case.surge), ..plan() }
}

/// Plays it to its end, and gives that back with what was left.
fn play(case: &Case, is_ended_at_times: bool) -> (End, Seen) {
    let plan = planned(case);
    let mut random = fastrand::Rng::with_seed(case.seed);
    let mut seen = Seen {
        stable: track("web-stable", OLD, case.stable),
        canary: track("web-canary", OLD, case.canary),
        gate: None,
        is_under_way: false,
    };
    let total = case.stable + case.canary;
    let mut outgoing = Outgoing::default();
    let mut gates = 0;
    for _ in 0..10_000 {
        let is_taken = !is_ended_at_times || random.f32() < 0.7;
        match next(&seen, &plan, now()) {
            Action::Change(change) if is_taken => {
                gates += usize::from(seen.gate.take().is_some());
                outgoing.see(&seen, &change);
                seen.apply(&change);
            }
            // Ended before it could act: what the gate had said is forgotten.
            Action::Change(_) => seen.gate = None,
            Action::Wait(_) => {}
            Action::Watch(_) if case.bad_at == Some(gates) => seen.gate = Some(Gate::Failed("bad".to_owned())),
            Action::Watch(_) => seen.gate = Some(passed()),
            Action::End(end) => return (end, seen),
            Action::Refuse(why) => panic!("{why}"),
        }
        assert!(seen.stable.size + seen.canary.size <= total + case.surge, "{seen:?}");
        let serving = seen.stable.ready + seen.canary.ready + outgoing.stable + outgoing.canary;
        assert!(serving >= total, "{outgoing:?} {seen:?}");
        for (track, old) in [(&mut seen.stable, &mut outgoing.stable), (&mut seen.canary, &mut outgoing.canary)] {
            track.ready = random.i32(track.ready..=track.size);
            track.is_settled = track.ready == track.size;
            *old = (*old).min(track.size - track.ready);
        }
    }
    panic!("no end: {seen:?}")
}

/// Pods of the image before, which serve until a new one does: each Deployment's own update is one without a gap.
#[derive(Debug, Default)]
struct Outgoing {
    stable: i32,
    canary: i32,
}

impl Outgoing {
    fn see(&mut self, seen: &Seen, change: &Change) {
        let (track, old) = match change.on {
            Side::Stable => (&seen.stable, &mut self.stable),
            Side::Canary => (&seen.canary, &mut self.canary),
        };
        if change.image.as_ref().is_some_and(|(_, image)| *image != track.image) {
            *old += track.ready;
        }
        let size = change.replicas.unwrap_or(track.size);
        *old = (*old).min(size);
    }
}

proptest! {
    #[test]
    fn a_run_ends_promoted_or_taken_back_with_all_pods_stable(case in cases()) {
        let (end, seen) = play(&case, false);
        let total = case.stable + case.canary;
        prop_assert_eq!((seen.stable.size, seen.canary.size), (total, 0));
        let image = if end == End::Promoted { NEW } else { OLD };
        prop_assert_eq!(seen.stable.image, image);
        let steps = planned(&case).shares.of(total).len();
        prop_assert_eq!(end == End::Promoted, case.bad_at.is_none_or(|gate| gate >= steps));
    }

    #[test]
    fn a_run_that_is_ended_again_and_again_ends_as_an_undisturbed_one(case in cases()) {
        let (undisturbed, left) = play(&case, false);
        let (end, seen) = play(&case, true);
        prop_assert_eq!(end, undisturbed);
        prop_assert_eq!((seen.stable.size, seen.canary.size), (left.stable.size, left.canary.size));
        prop_assert_eq!(seen.stable.image, left.stable.image);
    }
}
