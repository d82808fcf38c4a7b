//! `kubectl torchpod cutover`.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::cluster::{ChangeArgs, Ended, GO_ON, Stop, Stopped, is_wanted, run};
use super::print;
use crate::release::api::Api;
use crate::release::cutover::{Action, Plan, Seen, next};
use crate::release::error::Error;
use crate::release::front::{Scene, Wanted};
use crate::release::hold::Hold;
use crate::release::shift::{Shift, told};
use crate::release::smoke::Request;
use crate::release::voice::{Format, Voice};

/// Send all new connections to the other one of two Deployments, once it is complete and answers
///
/// Of blue and green behind one Service, --to names the one that is to serve: the Deployment NAME-TO. All of its pods
/// have to be ready, as many as the other one has, and each has to answer a request, before the Service's selector is
/// changed: one patch. Then it is watched until the Service's endpoints are the new pods alone. `rollback` is the same
/// patch the other way round.
///
/// Exit codes: 0 cut over, 2 nothing was changed (a flag is wrong, or something stands in the way), 3 it stopped after the
/// patch and says how to go on, 130 Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct CutoverArgs {
    /// What both Deployments begin with
    name: String,

    /// Who is to serve, such as green
    #[arg(long, value_name = "TO")]
    to: String,

    /// The Service, where several could be meant
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,

    /// The container with the model, where pods have several
    #[arg(long, value_name = "NAME")]
    container: Option<String>,

    /// A file with the JSON that each new pod has to answer with 2xx; without it, a row of zeros for each model
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// Where the request is sent; without --request, what is fetched
    #[arg(long, value_name = "PATH")]
    request_path: Option<String>,

    /// The new one may have fewer pods than the old one
    #[arg(long)]
    fewer_pods: bool,

    /// Scale the old one to 0 once no request has reached it for so long: clients that keep connections stay on it
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    retire_when_idle: Option<Duration>,

    #[command(flatten)]
    change: ChangeArgs,
}

impl CutoverArgs {
    pub(super) fn run(self) -> ExitCode {
        let voice = Voice::new(self.change.cluster.output);
        let stop = Stop::default();
        run(&voice, GO_ON, &stop, self.cutover(&voice, &stop))
    }

    async fn cutover(&self, voice: &Voice, stop: &Stop) -> Result<Ended, Stopped> {
        let request = self.question().map_err(Error::Refused)?;
        let api = Api::connect(&self.change.cluster.access(), voice).await?;
        let wanted = Wanted {
            name: &self.name,
            to: &self.to,
            service: self.service.as_deref(),
            container: self.container.as_deref(),
        };
        let shift = Shift { api: &api, voice, wanted, request, port: self.change.port, is_changed: Cell::default() };
        let plan = Plan {
            may_be_fewer: self.fewer_pods,
            retire: self.retire_when_idle,
            cause: format!("kubectl torchpod cutover {} --to {}", self.name, self.to),
        };
        let scene = shift.scene().await?;
        if self.change.dry_run {
            self.tell(&shift, &scene, &plan, &api.namespace).await?;
            return Ok(Ended::Well);
        }
        let is_new = scene.front.value != scene.to;
        let question = format!("{}: from {} to {}?", scene.front.service, scene.front.value, scene.to);
        if is_new && !self.change.yes && !is_wanted(&question) {
            return Err(Error::Refused("not wanted".to_owned()).into());
        }
        let mut hold = Hold::take(&api, voice, &self.name).await?;
        let ended = stop.or(Box::pin(shift.to_end(&plan, &mut hold))).await;
        hold.release(&api).await;
        // Whoever wanted the stop is told by the signal's own code.
        let Some(ended) = ended else { return Ok(Ended::Back) };
        match ended {
            Ok(stands) => {
                voice.say("serves", &stands, &json!({"service": scene.front.service, "to": scene.to}));
                Ok(Ended::Well)
            }
            Err(error) => {
                let half_way = shift
                    .is_changed
                    .get()
                    .then(|| format!("{} selects {}: the same command goes on", scene.front.service, scene.to));
                Err(Stopped { error, half_way })
            }
        }
    }

    fn question(&self) -> Result<Option<Request>, String> {
        let body = match &self.request {
            None => None,
            Some(path) => {
                let wrong = |error: &dyn std::fmt::Display| format!("--request {}: {error}", path.display());
                let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
                Some(serde_json::from_str::<Value>(&text).map_err(|error| wrong(&error))?)
            }
        };
        let path = self.request_path.clone().or_else(|| body.is_some().then(|| "/predict".to_owned()));
        Ok(path.map(|path| Request { path, body }))
    }

    async fn tell(&self, shift: &Shift<'_>, scene: &Scene, plan: &Plan, namespace: &str) -> Result<(), Error> {
        let mut action = next(&scene.seen(), plan, shift.api.now());
        if action == Action::Smoke {
            let smoke = Some(shift.smoke(scene).await?);
            action = next(&Seen { smoke, ..scene.seen() }, plan, shift.api.now());
        }
        let text = match action {
            Action::Refuse(why) => return Err(Error::Refused(why)),
            Action::Select { what, body } => match self.change.cluster.output {
                Format::Text => format!("# {what}\n{}", told(scene, namespace, &body)),
                Format::Json => {
                    let path = format!("/api/v1/namespaces/{namespace}/services/{}", scene.front.service);
                    format!("{}\n", json!({"what": what, "method": "PATCH", "path": path, "body": body}))
                }
            },
            _ => format!("# {} selects {}={} already\n", scene.front.service, scene.front.key, scene.to),
        };
        print(&text).map_err(Error::Refused)
    }
}
