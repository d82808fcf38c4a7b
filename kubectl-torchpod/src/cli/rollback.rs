//! `kubectl torchpod rollback`.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::Patch;
use serde_json::json;

use super::cluster::{ClusterArgs, Ended, Stop, Stopped, run};
use crate::judge::Limits;
use crate::release::api::Api;
use crate::release::canary::{End, Plan, Surge};
use crate::release::cutover::back;
use crate::release::drive::Drive;
use crate::release::error::Error;
use crate::release::find::{Names, names};
use crate::release::front::last;
use crate::release::hold::Hold;
use crate::release::record::{Phase, Record};
use crate::release::voice::Voice;

/// Go back to the version before: of a canary, or of a cutover
///
/// A canary is taken back whether it is under way, even by somebody else, or was promoted: stable comes up with the old
/// image first, then the canary leaves. After a cutover the Service gets its selector back, if whoever is there is ready.
/// Each is one patch; the rest is waiting.
///
/// Exit codes: 0 it is back, 2 nothing was changed, 3 it stopped half-way and says how to go on, 130 Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// What the Deployments begin with, or the Service in front of them
    name: String,

    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", default_value = "asked for by rollback")]
    reason: String,

    /// The stable Deployment, where it is not NAME-stable
    #[arg(long, value_name = "DEPLOYMENT")]
    stable: Option<String>,

    /// The canary's Deployment, where it is not NAME-canary
    #[arg(long, value_name = "DEPLOYMENT")]
    canary: Option<String>,

    /// The Service that was cut over, where several were
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["stable", "canary"])]
    service: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

impl RollbackArgs {
    pub(super) fn run(self) -> ExitCode {
        let voice = Voice::new(self.cluster.output);
        let stop = Stop::default();
        run(&voice, "the same command goes on from where it stands", &stop, self.rollback(&voice, &stop))
    }

    async fn rollback(&self, voice: &Voice, stop: &Stop) -> Result<Ended, Stopped> {
        let api = Api::connect(&self.cluster.access(), voice).await?;
        if self.service.is_none() {
            match names(&api, &self.name, self.stable.as_deref(), self.canary.as_deref()).await {
                Ok(names) => return self.canary(&api, voice, stop, names).await,
                Err(error @ Error::Missing { .. }) if self.stable.is_some() || self.canary.is_some() => {
                    return Err(error.into());
                }
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.selector(&api, voice).await
    }

    async fn canary(&self, api: &Api<'_>, voice: &Voice, stop: &Stop, names: Names) -> Result<Ended, Stopped> {
        let drive = Drive {
            container: container(api, &names).await?,
            api,
            voice,
            names,
            gate: Duration::ZERO,
            limits: Limits::default(),
            port: None,
            is_under_way: Cell::default(),
            stands: RefCell::default(),
        };
        let record = drive.ask_back(&self.reason).await?;
        let half_way = |drive: &Drive<'_>| format!("it stands {}: the same command goes on", drive.stands.borrow());
        let back = stop.or(Box::pin(self.to_end(&drive, &record))).await;
        match back {
            None => Ok(Ended::Back),
            Some(Ok(())) => {
                let text = format!("taken back: {} is stable again", record.old);
                voice.say("taken-back", &text, &json!({"image": record.old, "reason": self.reason}));
                Ok(Ended::Well)
            }
            Some(Err(error)) => Err(Stopped { error, half_way: Some(half_way(&drive)) }),
        }
    }

    /// Whoever is at it does it; nobody, and it is done here.
    async fn to_end(&self, drive: &Drive<'_>, record: &Record) -> Result<(), Error> {
        let plan = Plan {
            container: record.container.clone(),
            image: record.new.clone(),
            shares: record.shares.clone(),
            surge: Surge::Percent(25),
            timeout: Duration::from_mins(15),
            cause: format!("kubectl torchpod rollback {}", self.name),
        };
        loop {
            match Hold::take(drive.api, drive.voice, &self.name).await {
                Ok(mut hold) => {
                    let ended = drive.to_end(&plan, &mut hold).await;
                    hold.release(drive.api).await;
                    return match ended? {
                        End::TakenBack(_) => Ok(()),
                        End::Promoted => Err(Error::Refused("somebody has promoted it meanwhile".to_owned())),
                    };
                }
                Err(Error::Held { holder }) => {
                    drive.voice.wait(&format!("{holder} takes it back"));
                    let look = drive.look().await?;
                    if look.canary.track.record.is_some_and(|record| record.phase == Phase::TakenBack) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn selector(&self, api: &Api<'_>, voice: &Voice) -> Result<Ended, Stopped> {
        let cause = format!("kubectl torchpod rollback {}: {}", self.name, self.reason);
        loop {
            let Some(scene) = last(api, &self.name, self.service.as_deref()).await? else {
                let why = format!(
                    "neither a canary nor a cutover of {} is remembered in namespace {}: `kubectl torchpod status {}` shows what stands",
                    self.name, api.namespace, self.name
                );
                return Err(Error::Refused(why).into());
            };
            let old = scene.old.as_ref().map(|old| &old.track);
            let (what, body) = back(&scene.front, old, &cause, api.now()).map_err(Error::Refused)?;
            match api.patch::<Service>(&scene.front.service, &Patch::Merge(body)).await {
                Ok(_) => {
                    voice.say("rollback", &what, &json!({"service": scene.front.service}));
                    return Ok(Ended::Well);
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The container that the canary was begun with.
async fn container(api: &Api<'_>, names: &Names) -> Result<Option<String>, Error> {
    let canary: Deployment = api.get(&names.canary).await?;
    let annotations = canary.metadata.annotations.unwrap_or_default();
    let record = Record::read(&annotations).map_err(|unreadable| Error::Refused(unreadable.to_string()))?;
    Ok(record.map(|record| record.container))
}
