//! All that is true of the server, and what changes it, as one pure function: the phase, the faults, whether any model
//! is left, and which dependencies are up. Every probe's verdict derives from it.

use super::fault::{Fault, Faults};
use super::phase::Phase;

/// What can happen to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    LoadStarted,
    Loaded,
    Warmed,
    LoadFailed,
    Terminate,
    Drained,
    Raised(Fault),
    Cleared(Fault),
    /// The last model has been unloaded.
    Emptied,
    /// There is a model again.
    Filled,
    /// A dependency has come up, by its place in the configuration.
    Up(usize),
    /// A dependency has gone down.
    Down(usize),
}

/// The whole truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    pub faults: Faults,
    /// Whether the last model has been unloaded. Before `serving`, the phase tells that there is none.
    pub vacant: bool,
    pub dependencies: Dependencies,
}

impl State {
    /// In `starting`, with no fault and every dependency down, since none has been checked.
    pub fn new(dependencies: Dependencies) -> Self {
        Self { phase: Phase::Starting, faults: Faults::default(), vacant: false, dependencies }
    }

    /// Where `event` leads from here; `None` where it changes nothing.
    #[must_use]
    pub fn next(self, event: Event) -> Option<Self> {
        let next = match event {
            Event::Raised(fault) => Self { faults: self.faults.with(fault), ..self },
            Event::Cleared(fault) if fault.is_latched() => self,
            Event::Cleared(fault) => Self { faults: self.faults.without(fault), ..self },
            Event::Emptied => Self { vacant: self.phase == Phase::Serving || self.vacant, ..self },
            Event::Filled => Self { vacant: false, ..self },
            Event::Up(index) => Self { dependencies: self.dependencies.with(index, true), ..self },
            Event::Down(index) => Self { dependencies: self.dependencies.with(index, false), ..self },
            step => Self { phase: self.phase.next(step)?, ..self },
        };
        (next != self && self.phase != Phase::Stopped).then_some(next)
    }
}

/// Which dependencies there are, which of them readiness needs, and which are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    required: u64,
    up: u64,
}

impl Dependencies {
    /// More cannot be told apart here, and nobody should wait for as many.
    pub const MOST: usize = 64;

    /// All down. `required` tells for each dependency whether readiness needs it; at most [`Self::MOST`] count.
    pub fn new(required: impl IntoIterator<Item = bool>) -> Self {
        let required = required.into_iter().enumerate().filter(|(_, required)| *required);
        Self { required: required.fold(0, |bits, (index, _)| bits | bit(index)), up: 0 }
    }

    pub fn is_up(self, index: usize) -> bool {
        self.up & bit(index) != 0
    }

    /// Whether everything that readiness needs is up.
    pub fn suffice(self) -> bool {
        self.required & !self.up == 0
    }

    fn with(self, index: usize, up: bool) -> Self {
        let up = if up { self.up | bit(index) } else { self.up & !bit(index) };
        Self { up, ..self }
    }
}

/// No bit beyond the 64th.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1u64.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any event, with three dependencies.
    pub(crate) fn event() -> impl Strategy<Value = Event> {
        let fault = || proptest::sample::select(Fault::ALL.to_vec());
        prop_oneof![
            4 => proptest::sample::select(vec![Event::LoadStarted, Event::Loaded, Event::Warmed]),
            1 => proptest::sample::select(vec![Event::LoadFailed, Event::Terminate, Event::Drained]),
            1 => fault().prop_map(Event::Raised),
            1 => fault().prop_map(Event::Cleared),
            1 => proptest::sample::select(vec![Event::Emptied, Event::Filled]),
            1 => (0usize..3).prop_map(Event::Up),
            1 => (0usize..3).prop_map(Event::Down),
        ]
    }

    /// Every state that a random life passes through, from `starting` on. The first and the third dependency are required.
    pub(crate) fn life() -> impl Strategy<Value = Vec<State>> {
        proptest::collection::vec(event(), 0..60).prop_map(|events| {
            let mut lived = vec![State::new(Dependencies::new([true, false, true]))];
            for event in events {
                lived.extend(lived[lived.len() - 1].next(event));
            }
            lived
        })
    }

    #[test]
    fn an_event_that_changes_nothing_is_no_transition() {
        let state = State::new(Dependencies::new([true]));
        assert_eq!(state.next(Event::Down(0)), None);
        assert_eq!(state.next(Event::Cleared(Fault::Hung)), None);
        let hung = state.next(Event::Raised(Fault::Hung)).unwrap();
        assert_eq!(hung.next(Event::Raised(Fault::Hung)), None);
        assert_eq!(hung.next(Event::Cleared(Fault::Hung)), Some(state));
    }

    #[test]
    fn the_last_model_is_missed_until_there_is_one_again() {
        let loading = State { phase: Phase::Loading, ..State::new(Dependencies::default()) };
        assert_eq!((loading.next(Event::Emptied), loading.next(Event::Filled)), (None, None));
        let serving = State { phase: Phase::Serving, ..loading };
        let vacant = serving.next(Event::Emptied).unwrap();
        assert!(vacant.vacant && vacant.next(Event::Emptied).is_none());
        assert!(vacant.next(Event::Terminate).unwrap().vacant, "a drain brings no model back");
        assert_eq!(vacant.next(Event::Filled), Some(serving));
    }

    #[test]
    fn only_required_dependencies_count_and_unchecked_ones_are_down() {
        let optional = Dependencies::new([false]);
        assert!(optional.suffice() && !optional.is_up(0));
        let both = Dependencies::new([true, false]);
        assert!(!both.suffice() && both.with(0, true).suffice() && !both.with(1, true).suffice());
        assert_eq!(both.with(Dependencies::MOST, true), both);
    }

    proptest! {
        #[test]
        fn a_latched_fault_stays(life in life()) {
            for pair in life.windows(2) {
                for fault in Fault::ALL.into_iter().filter(|fault| fault.is_latched()) {
                    prop_assert!(!pair[0].faults.contains(fault) || pair[1].faults.contains(fault));
                }
            }
        }

        #[test]
        fn every_transition_changes_one_thing(life in life()) {
            for pair in life.windows(2) {
                let changed = [
                    pair[0].phase != pair[1].phase,
                    pair[0].faults != pair[1].faults,
                    pair[0].vacant != pair[1].vacant,
                    pair[0].dependencies != pair[1].dependencies,
                ];
                prop_assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
            }
        }

        #[test]
        fn only_a_server_that_serves_loses_its_last_model(life in life()) {
            for pair in life.windows(2).filter(|pair| pair[1].vacant && !pair[0].vacant) {
                prop_assert_eq!(pair[0].phase, Phase::Serving);
            }
        }

        #[test]
        fn nothing_changes_after_the_end(life in life()) {
            let stopped = life.iter().filter(|state| state.phase == Phase::Stopped).count();
            prop_assert!(stopped <= 1);
            prop_assert!(stopped == 0 || life.last().is_some_and(|state| state.phase == Phase::Stopped));
        }
    }
}
