//! `kubectl torchpod canary`.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::cluster::{ChangeArgs, Ended, GO_ON, Stop, Stopped, is_wanted, run};
use super::print;
use crate::judge::Limits;
use crate::release::api::{Api, MANAGER};
use crate::release::canary::{End, Plan, Surge};
use crate::release::change::Side;
use crate::release::drive::Drive;
use crate::release::error::Error;
use crate::release::find::{Look, names};
use crate::release::hold::Hold;
use crate::release::rehearsal::{Part, rehearse};
use crate::release::step::Shares;
use crate::release::voice::{Format, Voice};

/// Try a new version on a growing share of the pods, watch its numbers, and promote it or take it back
///
/// NAME stands for the Deployments NAME-stable and NAME-canary behind one Service. The canary gets the image and, step by
/// step, its share of the pods; before each next step, the failures and the latency that both tracks' pods count are
/// compared. A version that is worse, or does not come up, is taken back: stable comes up first, then the canary leaves.
/// A good one becomes stable. There are never fewer serving pods than at the start, and in the end they are as many, all
/// of them stable. What is done is remembered in annotations, so that the same command goes on where another was ended.
///
/// Exit codes: 0 promoted, 1 taken back, 2 nothing was changed (a flag is wrong, or something stands in the way), 3 it
/// stopped half-way and says how to go on, 130 Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct CanaryArgs {
    /// What NAME-stable and NAME-canary begin with, or the Service in front of them
    name: String,

    /// The new image; without it, the one that the canary's Deployment has
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// The container that gets it, where pods have several
    #[arg(long, value_name = "NAME")]
    container: Option<String>,

    /// The stable Deployment, where it is not NAME-stable
    #[arg(long, value_name = "DEPLOYMENT")]
    stable: Option<String>,

    /// The canary's Deployment, where it is not NAME-canary
    #[arg(long, value_name = "DEPLOYMENT")]
    canary: Option<String>,

    /// The canary's shares of the pods, in percent; half a pod and more is one
    #[arg(long, value_name = "SHARES", default_value = "10,25,50,100")]
    steps: Shares,

    /// How long requests are watched before each next step
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    gate: Duration,

    /// How long a step may wait for enough requests, its gate included, before it goes back
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// How many pods there may be above the total meanwhile, as a number or a share
    #[arg(long, value_name = "PODS|SHARE", default_value = "25%", value_parser = surge)]
    surge: Surge,

    /// The increase of failed or slow requests that no gate may overlook; a larger one needs fewer requests
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    detect: f64,

    /// The least number of requests to the canary in a gate, whatever the test needs
    #[arg(long, value_name = "N", default_value = "0")]
    min_requests: u64,

    /// How many more of the canary's requests than of stable's may fail, such as 1% or 0.01
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    max_error_increase: f64,

    /// How many times stable's the canary's 99th percentile may be
    #[arg(long, value_name = "RATIO", default_value = "1.5", value_parser = ratio)]
    latency_ratio: f64,

    #[command(flatten)]
    change: ChangeArgs,
}

impl CanaryArgs {
    pub(super) fn run(self) -> ExitCode {
        let voice = Voice::new(self.change.cluster.output);
        let stop = Stop::default();
        run(&voice, GO_ON, &stop, self.canary(&voice, &stop))
    }

    async fn canary(&self, voice: &Voice, stop: &Stop) -> Result<Ended, Stopped> {
        let api = Api::connect(&self.change.cluster.access(), voice).await?;
        let names = names(&api, &self.name, self.stable.as_deref(), self.canary.as_deref()).await?;
        let drive = Drive {
            api: &api,
            voice,
            names,
            container: self.container.clone(),
            gate: self.gate,
            limits: Limits::default(),
            port: self.change.port,
            is_under_way: Cell::default(),
            stands: RefCell::default(),
        };
        let look = drive.look().await?;
        let plan = self.plan(&look);
        let record = look.canary.track.record.as_ref().filter(|record| !record.phase.is_over());
        let total = record.map_or(look.stable.track.size + look.canary.track.ready, |record| record.total);
        let gates = u32::try_from(plan.shares.of(total).len()).unwrap_or(u32::MAX);
        let drive = Drive { limits: self.limits(gates), ..drive };
        let parts = rehearse(drive.seen(&look, None), &plan, api.now()).map_err(Error::Refused)?;
        if self.change.dry_run {
            self.tell(&parts, &look, &api)?;
            return Ok(Ended::Well);
        }
        if record.is_none() && parts.len() > 1 {
            drive.rehearse_reading(&look).await?;
            let (old, new) = (&look.stable.track.image, &plan.image);
            let question = format!("{}: from {old} to {new}, in {gates} steps of {total} pods?", self.name);
            if !self.change.yes && !is_wanted(&question) {
                return Err(Error::Refused("not wanted".to_owned()).into());
            }
        }
        let mut hold = Hold::take(&api, voice, &self.name).await?;
        let ended = stop.or(Box::pin(drive.to_end(&plan, &mut hold))).await;
        hold.release(&api).await;
        // Whoever wanted the stop is told by the signal's own code.
        let Some(ended) = ended else { return Ok(Ended::Back) };
        let half_way = || {
            let name = &self.name;
            let stands = drive.stands.borrow();
            format!("it stands {stands}: the same command goes on, `kubectl torchpod rollback {name}` takes it back")
        };
        let half_way = drive.is_under_way.get().then(half_way);
        Ok(end(voice, ended.map_err(|error| Stopped { error, half_way })?, &plan.image))
    }

    fn plan(&self, look: &Look) -> Plan {
        let image = self.image.clone().unwrap_or_else(|| look.canary.track.image.clone());
        Plan {
            container: look.container.clone(),
            cause: format!("kubectl torchpod canary {} --image {image}", self.name),
            image,
            shares: self.steps.clone(),
            surge: self.surge,
            timeout: self.timeout,
        }
    }

    fn limits(&self, gates: u32) -> Limits {
        Limits {
            error_increase: self.max_error_increase,
            latency_ratio: self.latency_ratio,
            detect: self.detect,
            min_requests: self.min_requests,
            gates,
            ..Limits::default()
        }
    }

    /// The requests as they would be made, if every pod came up and every gate were passed.
    fn tell(&self, parts: &[Part], look: &Look, api: &Api<'_>) -> Result<(), Error> {
        let namespace = &api.namespace;
        let mut told = String::new();
        for part in parts {
            let line = match part {
                Part::Change(change) => {
                    let name = match change.on {
                        Side::Stable => &look.stable.track.name,
                        Side::Canary => &look.canary.track.name,
                    };
                    let path =
                        format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}?fieldManager={MANAGER}");
                    let body = change.body(Some("…"), api.now());
                    match self.change.cluster.output {
                        Format::Text => format!("# {}\nPATCH {path}\n{body}\n", change.what),
                        Format::Json => {
                            json!({"what": change.what, "method": "PATCH", "path": path, "body": body}).to_string()
                        }
                    }
                }
                Part::Gate(step) => {
                    self.comment(&format!("gate at {} %: {}", step.percent, humantime::format_duration(self.gate)))
                }
                Part::End(End::Promoted) => self.comment("promoted"),
                Part::End(End::TakenBack(reason)) => self.comment(&format!("taken back: {reason}")),
            };
            told += &line;
            told.push('\n');
        }
        print(&told).map_err(Error::Refused)
    }

    fn comment(&self, text: &str) -> String {
        match self.change.cluster.output {
            Format::Text => format!("# {text}\n"),
            Format::Json => json!({"what": text}).to_string(),
        }
    }
}

/// The last line.
pub(super) fn end(voice: &Voice, end: End, image: &str) -> Ended {
    match end {
        End::Promoted => {
            voice.say("promoted", &format!("promoted: {image} is stable"), &json!({"image": image}));
            Ended::Well
        }
        End::TakenBack(reason) => {
            let detail = json!({"image": image, "reason": reason});
            voice.say("taken-back", &format!("taken back: {image}: {reason}"), &detail);
            Ended::Back
        }
    }
}

fn surge(text: &str) -> Result<Surge, String> {
    let number = |text: &str| text.parse().ok().filter(|number| (1..=1000).contains(number));
    match text.strip_suffix('%') {
        Some(percent) => number(percent).map(Surge::Percent),
        None => number(text).map(Surge::Pods),
    }
    .ok_or_else(|| "expected pods such as 1, or a share such as 25%".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    share.filter(|share| (0.0..1.0).contains(share)).ok_or_else(|| "expected a share such as 1% or 0.01".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| ratio.is_finite() && *ratio >= 1.0);
    ratio.ok_or_else(|| "expected a ratio of 1 or more, such as 1.5".to_owned())
}
