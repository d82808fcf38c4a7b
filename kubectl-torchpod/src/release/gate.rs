//! A gate: both tracks' pods are read round by round, and judged when it is time. What was read is nowhere else, so that
//! a run that is started again begins its gate anew.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::api::{Api, NUMBERS, Page, port_of};
use super::canary::Gate;
use super::error::Error;
use super::find::{Look, Side, name_of};
use super::step::Step;
use crate::judge::{Against, Decision, Judge, Limits, Reading, Seen, Tally, Verdict, What, Window};

/// The longest time between two rounds; a gate has two dozen of them, if it is long enough.
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 24;
/// What happens to all pods at once, such as a stall of the machine, shall not fall between two rounds.
const SHORTEST: Duration = Duration::from_millis(250);
/// So often in a row may a pod not answer before that counts.
const SILENCES: u32 = 3;
/// Pods that are asked at the same time.
const AT_ONCE: usize = 8;

pub struct Watch {
    pub step: Step,
    gate: Duration,
    began: Instant,
    next_round: Duration,
    /// When it is judged next: early once, to find the worst soon, then at its end, and then whenever half as much
    /// time again has passed, for want of traffic.
    next_look: Duration,
    looks: u32,
    silences: u32,
    stable: Window,
    canary: Window,
}

impl Watch {
    pub fn new(step: Step, gate: Duration) -> Watch {
        let (stable, canary) = (Window::default(), Window::default());
        let next_look = gate / 2;
        let (next_round, looks, silences) = (Duration::ZERO, 0, 0);
        Watch { step, gate, began: Instant::now(), next_round, next_look, looks, silences, stable, canary }
    }

    /// How long until something is to be done.
    pub fn left(&self) -> Duration {
        self.next_round.saturating_sub(self.began.elapsed())
    }

    /// Reads every pod once, where it is time; tells whether it did.
    pub async fn round(&mut self, api: &Api<'_>, look: &Look, port: Option<i32>) -> Result<bool, Error> {
        if !self.left().is_zero() {
            return Ok(false);
        }
        let stable = read(api, &look.stable, &look.container, port).await?;
        let canary = read(api, &look.canary, &look.container, port).await?;
        // A pod that could not be asked has not vanished: such a round is left out.
        if let (Some(stable), Some(canary)) = (stable, canary) {
            self.stable.round(stable);
            self.canary.round(canary);
        }
        self.next_round = self.began.elapsed() + (self.gate / ROUNDS).clamp(SHORTEST, ROUND);
        Ok(true)
    }

    /// What the rounds so far say; nothing, where it is not time to say it. `before` is what stable did while it had pods.
    pub fn verdict(&mut self, limits: &Limits, before: Option<&str>) -> Option<(Gate, Verdict)> {
        let (stable, canary) = (self.stable.tally(), self.canary.tally());
        let is_silent = canary.faults.iter().any(|fault| matches!(fault.what, What::Silent(_)));
        let is_broken = canary.faults.iter().any(|fault| !matches!(fault.what, What::Silent(_)));
        self.silences = if is_silent { self.silences + 1 } else { 0 };
        let now = self.began.elapsed();
        let is_early = now < self.gate;
        if !is_broken && (now < self.next_look || (is_silent && self.silences < SILENCES)) {
            return None;
        }
        self.looks += 1;
        self.next_look = if is_early { self.gate } else { now * 3 / 2 };
        let kept: Option<Tally> = before.and_then(|before| serde_json::from_str(before).ok());
        let against = match &kept {
            Some(kept) if self.step.sizes.stable == 0 => Against::Before(kept),
            _ => Against::Now(&stable),
        };
        let verdict = Judge { limits: *limits }.judge(self.looks, against, &canary);
        let said = || said(&verdict);
        let numbers = || Some(kept_in_short(&stable)).filter(|_| self.step.sizes.stable > 0);
        let gate = match verdict.decision {
            Decision::Fail => Gate::Failed(said()),
            _ if is_early => return None,
            Decision::Pass => Gate::Passed { said: said(), numbers: numbers() },
            Decision::TooLittle { .. } => Gate::Unclear(said()),
        };
        Some((gate, verdict))
    }

    /// How far it is, for the live line.
    pub fn told(&self) -> String {
        let passed = Duration::from_secs(self.began.elapsed().as_secs());
        let (stable, canary) = (self.stable.tally().all.failed, self.canary.tally().all.failed);
        format!(
            "{} %: {} of {}; canary {} requests, {} failed; stable {} requests, {} failed",
            self.step.percent,
            humantime::format_duration(passed),
            humantime::format_duration(self.gate),
            canary.of,
            canary.count,
            stable.of,
            stable.count
        )
    }
}

/// All reasons in one sentence, as long as an annotation may well be.
fn said(verdict: &Verdict) -> String {
    let mut said = String::new();
    for reason in &verdict.reasons {
        if said.len() + reason.text.len() > 2_000 {
            said += "; …";
            break;
        }
        let and = if said.is_empty() { "" } else { "; " };
        said = said + and + &reason.text;
    }
    said
}

/// What an annotation can hold, of 256 KiB in all; without each model's own, where there are too many.
fn kept_in_short(tally: &Tally) -> String {
    let json = |tally: &Tally| serde_json::to_string(tally).unwrap_or_default();
    let whole = json(tally);
    if whole.len() < 100_000 { whole } else { json(&Tally { models: [].into(), ..tally.clone() }) }
}

/// What each pod of a track that stays says of itself; nothing, where the API server was too busy to ask them all.
pub async fn read(api: &Api<'_>, side: &Side, container: &str, port: Option<i32>) -> Result<Option<Vec<Seen>>, Error> {
    let pods: Vec<&Pod> = side.current(container).collect();
    let mut all = Vec::with_capacity(pods.len());
    for some in pods.chunks(AT_ONCE) {
        let read = futures_util::future::try_join_all(some.iter().map(|pod| read_one(api, pod, container, port)));
        all.extend(read.await?);
    }
    Ok(all.into_iter().collect())
}

async fn read_one(api: &Api<'_>, pod: &Pod, container: &str, port: Option<i32>) -> Result<Option<Seen>, Error> {
    let (uid, name) = (pod.metadata.uid.clone().unwrap_or_default(), name_of(pod).to_owned());
    let page = match port.or_else(|| port_of(pod, container, &NUMBERS)) {
        None => Err("its container names no port: say which has /metrics by --port".to_owned()),
        Some(port) => match api.ask(&name, port, "/metrics", None).await? {
            Page::Body(text) => Reading::parse(&text).map_err(|error| error.to_string()),
            Page::Refused(code, why) => Err(format!("{code} {why}")),
            Page::Silent(why) => Err(why),
            Page::Unasked => return Ok(None),
        },
    };
    Ok(Some(Seen { uid, name, page }))
}
