//! A canary under way: look, decide, act once, and again. Everything that matters is in the cluster, so that this may
//! be ended at any instant.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Patch;
use serde_json::json;

use super::api::Api;
use super::canary::{Action, End, Gate, Plan, Seen, next, told, turn_back};
use super::change::{Change, Side};
use super::error::Error;
use super::find::{Look, Names, look};
use super::gate::{Watch, read};
use super::hold::Hold;
use super::record::{Phase, Record};
use super::step::Step;
use super::voice::Voice;
use crate::judge::Limits;

/// How often it is looked.
const GLANCE: Duration = Duration::from_secs(1);

pub struct Drive<'a> {
    pub api: &'a Api<'a>,
    pub voice: &'a Voice,
    pub names: Names,
    pub container: Option<String>,
    /// How long a gate is, what it allows, and where the numbers are.
    pub gate: Duration,
    pub limits: Limits,
    pub port: Option<i32>,
    /// Whether this run has seen a canary under way, so that there is something to go on with.
    pub is_under_way: Cell<bool>,
    /// How things were at the last look.
    pub stands: RefCell<String>,
}

impl Drive<'_> {
    pub async fn look(&self) -> Result<Look, Error> {
        look(self.api, &self.names, self.container.as_deref()).await
    }

    pub fn seen(&self, look: &Look, gate: Option<Gate>) -> Seen {
        let (stable, canary) = (look.stable.track.clone(), look.canary.track.clone());
        Seen { stable, canary, gate, is_under_way: self.is_under_way.get() }
    }

    /// To its end, whichever that is.
    pub async fn to_end(&self, plan: &Plan, hold: &mut Hold) -> Result<End, Error> {
        let mut watch: Option<Watch> = None;
        let mut gate = None;
        loop {
            hold.keep(self.api).await?;
            let look = self.look().await?;
            let record = look.canary.track.record.clone();
            let under_way = record.as_ref().is_some_and(|record| !record.phase.is_over());
            self.is_under_way.set(self.is_under_way.get() || under_way);
            self.note(&look);
            match next(&self.seen(&look, gate.take()), plan, self.api.now()) {
                Action::Change(change) => self.change(&look, &change).await?,
                Action::Wait(text) => {
                    self.voice.wait(&text);
                    tokio::time::sleep(GLANCE).await;
                }
                Action::Watch(step) => {
                    let watch = self.watch(&mut watch, step, record.as_ref());
                    gate = self.round(watch, &look, record.as_ref()).await?;
                }
                Action::End(end) => return Ok(end),
                Action::Refuse(why) => return Err(Error::Refused(why)),
            }
        }
    }

    fn note(&self, look: &Look) {
        let (stable, canary) = (&look.stable.track, &look.canary.track);
        let phase = canary.record.as_ref().map_or(String::new(), |record| match record.phase {
            Phase::Stepping { percent } => format!("at {percent} %: "),
            phase => format!("{phase}: "),
        });
        *self.stands.borrow_mut() = format!("{phase}{}, {}", told(stable), told(canary));
    }

    /// Whether stable's pods can be read: found before anything is changed.
    pub async fn rehearse_reading(&self, look: &Look) -> Result<(), Error> {
        let pods = read(self.api, &look.stable, &look.container, self.port).await?.unwrap_or_default();
        match pods.into_iter().find_map(|pod| pod.page.err().map(|why| (pod.name, why))) {
            None => Ok(()),
            Some((pod, why)) => Err(Error::Refused(format!(
                "the numbers of pod {pod} cannot be read, so that nothing could be judged: {why}; --port says which port has /metrics"
            ))),
        }
    }

    /// One patch. Where somebody else was faster, the next look shows what is to be done now.
    async fn change(&self, look: &Look, change: &Change) -> Result<(), Error> {
        let track = match change.on {
            Side::Stable => &look.stable.track,
            Side::Canary => &look.canary.track,
        };
        let patch = Patch::Strategic(change.body(Some(&track.version), self.api.now()));
        match self.api.patch::<Deployment>(&track.name, &patch).await {
            Ok(_) => {
                self.is_under_way.set(true);
                let detail = json!({
                    "deployment": track.name,
                    "replicas": change.replicas,
                    "image": change.image.as_ref().map(|(_, image)| image),
                });
                self.voice.say("change", &change.what, &detail);
                Ok(())
            }
            Err(Error::Conflict(_)) => {
                tokio::time::sleep(GLANCE / 10).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn watch<'w>(&self, watch: &'w mut Option<Watch>, step: Step, record: Option<&Record>) -> &'w mut Watch {
        let is_same = watch.as_ref().is_some_and(|watch| watch.step == step);
        if !is_same {
            let (stable, canary) = (step.sizes.stable, step.sizes.canary);
            let text = format!(
                "gate at {} %, {} + {} pods: {} of requests are watched",
                step.percent,
                stable,
                canary,
                humantime::format_duration(self.gate)
            );
            let image = record.map(|record| &record.new);
            let detail = json!({"percent": step.percent, "stable": stable, "canary": canary, "image": image});
            self.voice.say("gate", &text, &detail);
            *watch = None;
        }
        watch.get_or_insert_with(|| Watch::new(step, self.gate))
    }

    async fn round(&self, watch: &mut Watch, look: &Look, record: Option<&Record>) -> Result<Option<Gate>, Error> {
        if !watch.round(self.api, look, self.port).await? {
            tokio::time::sleep(watch.left().min(GLANCE)).await;
            return Ok(None);
        }
        self.voice.tick(&watch.told());
        let before = record.and_then(|record| record.numbers.as_deref());
        let Some((gate, verdict)) = watch.verdict(&self.limits, before) else { return Ok(None) };
        let what = match &gate {
            Gate::Passed { .. } => "passed",
            Gate::Failed(_) => "failed",
            Gate::Unclear(_) => "not clear yet",
        };
        let mut text = format!("gate at {} %: {what}", watch.step.percent);
        for line in verdict.reasons.iter().map(|reason| &reason.text).chain(&verdict.notes) {
            text = format!("{text}\n          {line}");
        }
        self.voice.say("verdict", &text, &json!({"percent": watch.step.percent, "verdict": verdict}));
        Ok(Some(gate))
    }

    /// Asks for the way back: one patch, which whoever is at it sees next.
    pub async fn ask_back(&self, reason: &str) -> Result<Record, Error> {
        loop {
            let look = self.look().await?;
            let record = match look.canary.track.record.clone() {
                None => return Err(Error::Refused(format!("no canary was ever run on {}", self.names.canary))),
                Some(record) if record.phase == Phase::TakenBack => {
                    return Err(Error::Refused(format!("the canary of {} was taken back already", record.new)));
                }
                Some(record) if record.phase == Phase::Returning => return Ok(record),
                Some(record) => record,
            };
            let change = turn_back(&record, reason.to_owned());
            let patch = Patch::Strategic(change.body(Some(&look.canary.track.version), self.api.now()));
            match self.api.patch::<Deployment>(&self.names.canary, &patch).await {
                Ok(_) => {
                    self.is_under_way.set(true);
                    self.voice.say("change", &change.what, &json!({"deployment": self.names.canary}));
                    return Ok(Record { phase: Phase::Returning, reason: Some(reason.to_owned()), ..record });
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
