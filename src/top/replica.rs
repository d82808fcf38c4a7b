//! One replica, as it is known: what it said last, since when it says nothing, and what has happened meanwhile. Pure.

use std::time::Duration;

use super::recent::{Rates, Recent};
use super::state::State;
use super::text;

/// How a replica is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// It does not answer.
    Silent,
    /// Loading failed.
    Failed,
    /// A fault: the kubelet will restart it.
    Faulty,
    /// It serves, and no Service sends it anything.
    Unready,
    /// On the way to serving.
    Rising,
    Draining,
    /// It answered until it was asked to end.
    Ended,
    /// It has been asked for the first time.
    Asked,
    Ready,
}

#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// As whoever looks knows it.
    pub(super) name: String,
    pub(super) recent: Recent,
    last: Option<(State, Duration)>,
    silence: Option<Silence>,
    /// How often it has been asked, and how many processes have answered.
    pub(super) looks: u64,
    pub(super) processes: u64,
}

/// Why there is no answer, and since when.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Silence {
    pub(super) why: String,
    pub(super) since: Duration,
}

impl Condition {
    pub(super) const ALL: [Self; 9] = [
        Self::Silent,
        Self::Failed,
        Self::Faulty,
        Self::Unready,
        Self::Rising,
        Self::Draining,
        Self::Ended,
        Self::Asked,
        Self::Ready,
    ];

    /// In a word or two.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silent => "no answer",
            Self::Failed => "failed",
            Self::Faulty => "faulty",
            Self::Unready => "not ready",
            Self::Rising => "starting",
            Self::Draining => "draining",
            Self::Ended => "ended",
            Self::Asked => "asked",
            Self::Ready => "ready",
        }
    }

    /// What tells them apart where there is no colour.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Silent | Self::Failed | Self::Faulty => "✖",
            Self::Unready => "▲",
            Self::Rising => "◌",
            Self::Draining => "▼",
            Self::Ended | Self::Asked => "·",
            Self::Ready => "●",
        }
    }
}

impl Silence {
    /// The same silence, whatever the reason is by now.
    pub(super) fn go_on(silence: &mut Option<Self>, why: String, now: Duration) {
        let since = silence.as_ref().map_or(now, |silence| silence.since);
        *silence = Some(Self { why, since });
    }
}

impl Replica {
    pub(super) fn new(name: String, interval: Duration) -> Self {
        Self { name, recent: Recent::new(interval), last: None, silence: None, looks: 0, processes: 0 }
    }

    /// Takes what came of asking it.
    pub(super) fn looked(&mut self, found: Result<State, String>, now: Duration, interval: Duration) {
        self.looks += 1;
        match found {
            Ok(state) => {
                let is_other = self.last.as_ref().is_none_or(|(last, _)| last.started != state.started);
                if is_other {
                    self.processes += 1;
                    self.recent = Recent::new(interval);
                }
                self.recent.take(&state.models, now);
                self.last = Some((state, now));
                self.silence = None;
            }
            Err(why) => {
                self.recent.miss(now);
                Silence::go_on(&mut self.silence, why, now);
            }
        }
    }

    /// What it said last, however long ago.
    pub(super) fn state(&self) -> Option<&State> {
        self.last.as_ref().map(|(state, _)| state)
    }

    /// How long ago it said that.
    pub(super) fn age(&self, now: Duration) -> Duration {
        self.last.as_ref().map_or(Duration::ZERO, |(_, at)| now.saturating_sub(*at))
    }

    pub(super) fn silence(&self) -> Option<&Silence> {
        self.silence.as_ref()
    }

    /// What happens now; nothing of a replica that does not answer.
    pub(super) fn rates(&self) -> Option<&Rates> {
        self.recent.now().filter(|_| self.silence.is_none())
    }

    pub(super) fn condition(&self) -> Condition {
        let phase = self.state().map(|state| state.phase.as_str());
        match (&self.silence, self.state()) {
            (Some(_), _) if matches!(phase, Some("draining" | "stopped")) => Condition::Ended,
            (Some(_), _) => Condition::Silent,
            (None, None) => Condition::Asked,
            (None, Some(state)) => match state.phase.as_str() {
                "serving" if !state.faults.is_empty() || !state.passes("/health") => Condition::Faulty,
                "serving" if !state.passes("/ready") => Condition::Unready,
                "serving" => Condition::Ready,
                "draining" => Condition::Draining,
                "stopped" => Condition::Ended,
                "failed" => Condition::Failed,
                _ => Condition::Rising,
            },
        }
    }

    /// The phase, or that there is no answer, and the seconds that it has lasted.
    pub(super) fn phase(&self, now: Duration) -> (&str, f64) {
        let since = |silence: &Silence| now.saturating_sub(silence.since).as_secs_f64();
        match (&self.silence, self.state()) {
            (Some(silence), _) if self.condition() == Condition::Ended => ("ended", since(silence)),
            (Some(silence), _) => ("no answer", since(silence)),
            (None, Some(state)) => (&state.phase, state.seconds + self.age(now).as_secs_f64()),
            (None, None) => ("asked", now.as_secs_f64()),
        }
    }

    /// What somebody who looks should know besides the phase, on one line.
    pub(super) fn remark(&self) -> String {
        let (Some(state), condition) = (self.state(), self.condition()) else {
            return self.silence.as_ref().map(|silence| silence.why.clone()).unwrap_or_default();
        };
        match (condition, &self.silence) {
            (Condition::Ended, _) => "was draining, so it has ended as it was asked to".to_owned(),
            (_, Some(silence)) => silence.why.clone(),
            (Condition::Faulty, _) => trouble("fault", &state.faults),
            (Condition::Unready, _) if !state.down().is_empty() => trouble("down", &state.down()),
            (Condition::Rising, _) => state
                .stage()
                .map_or_else(String::new, |(stage, progress)| format!("{}, {stage}", text::percent(progress))),
            (Condition::Draining, _) => format!("{}, {} in flight", state.transition, state.in_flight),
            (Condition::Failed, _) => state.transition.clone(),
            (Condition::Unready, _) => self.objection().unwrap_or_else(|| "not ready".to_owned()),
            _ => {
                let ids: Vec<String> =
                    state.models.iter().filter(|model| model.figures.is_some()).map(super::state::Model::id).collect();
                ids.join(", ")
            }
        }
    }

    /// Why `/ready` fails, as its body says it.
    fn objection(&self) -> Option<String> {
        self.state()?.probes.iter().find(|probe| probe.path == "/ready")?.body.reason.clone()
    }
}

fn trouble<T: AsRef<str>>(word: &str, names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    format!("{word}: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::{self, SECOND};

    fn replica() -> Replica {
        Replica::new("host:1".into(), SECOND)
    }

    fn after(state: State) -> Replica {
        let mut replica = replica();
        replica.looked(Ok(state), SECOND, SECOND);
        replica
    }

    #[test]
    fn how_it_is_follows_from_its_phase_its_faults_and_its_probes() {
        assert_eq!(replica().condition(), Condition::Asked);
        let table = [
            (sample::state("starting"), Condition::Rising, ""),
            (sample::loading("reading digits@1", 0.42), Condition::Rising, "42 %, reading digits@1"),
            (sample::state("serving"), Condition::Ready, "digits@1"),
            (sample::state("draining"), Condition::Draining, "SIGTERM, 3 in flight"),
            (sample::state("failed"), Condition::Failed, "SIGTERM"),
            (sample::state("stopped"), Condition::Ended, "was draining, so it has ended as it was asked to"),
            (sample::faulty("hung"), Condition::Faulty, "fault: hung"),
            (sample::unready("no_model"), Condition::Unready, "no_model"),
            (sample::down("redis://cache:6379"), Condition::Unready, "down: redis://cache:6379"),
        ];
        for (state, condition, remark) in table {
            let replica = after(state.clone());
            assert_eq!((replica.condition(), replica.remark().as_str()), (condition, remark), "{}", state.phase);
        }
    }

    #[test]
    fn silence_lasts_from_its_first_look_and_says_why_as_of_the_last() {
        let mut replica = after(sample::state("serving"));
        replica.looked(Err("connection refused".into()), 2 * SECOND, SECOND);
        replica.looked(Err("no answer within 2s".into()), 5 * SECOND, SECOND);
        assert_eq!((replica.condition(), replica.remark().as_str()), (Condition::Silent, "no answer within 2s"));
        assert_eq!(replica.phase(6 * SECOND), ("no answer", 4.0));
        assert!(replica.rates().is_none() && replica.state().is_some(), "what it said last is kept");
        replica.looked(Ok(sample::state("serving")), 7 * SECOND, SECOND);
        assert_eq!(replica.condition(), Condition::Ready);
    }

    #[test]
    fn whoever_was_draining_and_answers_no_more_has_ended() {
        let mut replica = after(sample::state("draining"));
        replica.looked(Err("connection refused".into()), 2 * SECOND, SECOND);
        assert_eq!((replica.condition(), replica.phase(3 * SECOND)), (Condition::Ended, ("ended", 1.0)));
    }

    #[test]
    fn a_phase_goes_on_between_two_looks() {
        let replica = after(sample::state("serving"));
        assert_eq!(replica.phase(SECOND), ("serving", 120.0));
        assert_eq!(replica.phase(3 * SECOND), ("serving", 122.0));
    }

    #[test]
    fn another_process_counts_from_nothing() {
        let mut replica = after(sample::state("serving"));
        replica.looked(Ok(sample::state("serving")), 2 * SECOND, SECOND);
        assert!(replica.rates().is_some() && replica.processes == 1);
        let other = State { started: "2026-01-02T03:10:00.000Z".into(), ..sample::state("loading") };
        replica.looked(Ok(other), 3 * SECOND, SECOND);
        assert!(replica.rates().is_none() && replica.processes == 2);
    }
}
