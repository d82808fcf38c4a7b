//! The state machine as a pure table: no clock, no channel, no log.

use std::fmt;

use super::state::Event;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Ports are open; nothing has been read.
    Starting,
    /// Models are being read and moved to their devices.
    Loading,
    /// Golden self-tests and warm-up batches run.
    Warming,
    /// Every required model is loaded, checked and warm.
    Serving,
    /// SIGTERM has come; in-flight work is finished. `served` remembers whether start-up had completed.
    Draining { served: bool },
    /// In-flight work is done, or its deadline has passed.
    Stopped,
    /// Loading failed for good.
    Failed,
}

impl Phase {
    /// Where `event` leads from here; `None` where it means nothing.
    pub fn next(self, event: Event) -> Option<Self> {
        match (self, event) {
            // ## The way up
            (Self::Starting, Event::LoadStarted) => Some(Self::Loading),
            (Self::Loading, Event::Loaded) => Some(Self::Warming),
            (Self::Warming, Event::Warmed) => Some(Self::Serving),
            // ## Starting, Loading, Warming => Failed
            (Self::Starting | Self::Loading | Self::Warming, Event::LoadFailed) => Some(Self::Failed),
            // ## Any living phase => Draining
            (Self::Starting | Self::Loading | Self::Warming | Self::Failed, Event::Terminate) => {
                Some(Self::Draining { served: false })
            }
            (Self::Serving, Event::Terminate) => Some(Self::Draining { served: true }),
            // ## Draining, Failed => Stopped
            (Self::Draining { .. } | Self::Failed, Event::Drained) => Some(Self::Stopped),
            _ => None,
        }
    }

    /// Whether start-up has completed, now or earlier: latched by the first entry into `serving`.
    pub fn startup_complete(self) -> bool {
        matches!(self, Self::Serving | Self::Draining { served: true })
    }

    /// Whether requests are taken: while serving, and through the drain of a server that served.
    pub fn takes_requests(self) -> bool {
        self.startup_complete()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Serving => "serving",
            Self::Draining { .. } => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Every name, for the metric that has one series a phase.
    pub const NAMES: [&'static str; 7] = ["starting", "loading", "warming", "serving", "draining", "stopped", "failed"];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Event::{Drained, LoadFailed, LoadStarted, Loaded, Terminate, Warmed};
    use super::Phase::{Draining, Failed, Loading, Serving, Starting, Stopped, Warming};
    use super::*;

    const PHASES: [Phase; 8] =
        [Starting, Loading, Warming, Serving, Draining { served: false }, Draining { served: true }, Stopped, Failed];
    const EVENTS: [Event; 6] = [LoadStarted, Loaded, Warmed, LoadFailed, Terminate, Drained];

    #[test]
    fn the_table_is_complete() {
        let allowed = [
            (Starting, LoadStarted, Loading),
            (Starting, LoadFailed, Failed),
            (Starting, Terminate, Draining { served: false }),
            (Loading, Loaded, Warming),
            (Loading, LoadFailed, Failed),
            (Loading, Terminate, Draining { served: false }),
            (Warming, Warmed, Serving),
            (Warming, LoadFailed, Failed),
            (Warming, Terminate, Draining { served: false }),
            (Serving, Terminate, Draining { served: true }),
            (Failed, Terminate, Draining { served: false }),
            (Failed, Drained, Stopped),
            (Draining { served: false }, Drained, Stopped),
            (Draining { served: true }, Drained, Stopped),
        ];
        for phase in PHASES {
            for event in EVENTS {
                let expected = allowed.iter().find(|(from, on, _)| (*from, *on) == (phase, event)).map(|row| row.2);
                assert_eq!(phase.next(event), expected, "{phase:?} on {event:?}");
            }
        }
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        proptest::collection::vec(proptest::sample::select(EVENTS.to_vec()), 0..20)
    }

    proptest! {
        #[test]
        fn startup_once_complete_stays_complete_until_the_end(events in events()) {
            let mut phase = Starting;
            let mut complete = false;
            for event in events {
                phase = phase.next(event).unwrap_or(phase);
                complete |= phase == Serving;
                prop_assert!(phase == Stopped || phase.startup_complete() == complete);
            }
        }

        #[test]
        fn draining_never_returns_to_serving(events in events()) {
            let mut phase = Draining { served: true };
            for event in events {
                phase = phase.next(event).unwrap_or(phase);
                let still = matches!(phase, Draining { served: true } | Stopped);
                prop_assert!(still);
            }
        }

        #[test]
        fn serving_is_reached_only_through_loading_and_warming(events in events()) {
            let mut phase = Starting;
            let mut passed = Vec::new();
            for event in events {
                phase = phase.next(event).unwrap_or(phase);
                passed.push(phase);
            }
            if let Some(first) = passed.iter().position(|phase| *phase == Serving) {
                prop_assert!(passed[..first].contains(&Loading) && passed[..first].contains(&Warming));
            }
        }
    }
}
