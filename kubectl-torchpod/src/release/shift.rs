//! A cutover under way: look, decide, act once, and again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Patch;
use serde_json::{Value, json};

use super::api::Api;
use super::cutover::{Action, Plan, Seen, next};
use super::error::Error;
use super::find::name_of;
use super::front::{Scene, Wanted, scene};
use super::gate::read;
use super::hold::Hold;
use super::smoke::{Request, smoke};
use super::voice::Voice;
use crate::judge::{self, What, Window};

const GLANCE: Duration = Duration::from_secs(1);

pub struct Shift<'a> {
    pub api: &'a Api<'a>,
    pub voice: &'a Voice,
    pub wanted: Wanted<'a>,
    pub request: Option<Request>,
    pub port: Option<i32>,
    /// Whether this run has changed anything, or found it changed.
    pub is_changed: Cell<bool>,
}

impl Shift<'_> {
    pub async fn scene(&self) -> Result<Scene, Error> {
        scene(self.api, &self.wanted).await
    }

    pub async fn smoke(&self, scene: &Scene) -> Result<Result<String, String>, Error> {
        let pods: Vec<&Pod> = scene.new.current(&scene.container).collect();
        smoke(self.api, &pods, &scene.container, self.request.as_ref()).await
    }

    /// To its end; says what then stands.
    pub async fn to_end(&self, plan: &Plan, hold: &mut Hold) -> Result<String, Error> {
        let (mut smoked, mut idle, mut was_selected) = (None, Idle::default(), false);
        loop {
            hold.keep(self.api).await?;
            let scene = self.scene().await?;
            let seen = Seen { smoke: smoked.clone(), idle: idle.time(), was_selected, ..scene.seen() };
            was_selected |= scene.front.value == scene.to;
            match next(&seen, plan, self.api.now()) {
                Action::Smoke => {
                    let answer = self.smoke(&scene).await?;
                    if let Ok(said) = &answer {
                        self.voice.say("smoke", &format!("{}: {said}", scene.new.track.name), &json!({}));
                    }
                    smoked = Some(answer);
                }
                Action::Select { what, body } => {
                    let name = &scene.front.service;
                    self.patched("cutover", &what, self.api.patch::<Service>(name, &Patch::Merge(body)).await)?;
                }
                Action::Retire { what, body } => {
                    let name = seen.old.map(|old| old.name).unwrap_or_default();
                    self.patched("retire", &what, self.api.patch::<Deployment>(&name, &Patch::Merge(body)).await)?;
                }
                Action::WatchOld => self.watch(&scene, &mut idle, plan).await?,
                Action::Wait(text) => {
                    self.voice.wait(&text);
                    tokio::time::sleep(GLANCE / 2).await;
                }
                Action::End(stands) => return Ok(stands),
                Action::Refuse(why) => return Err(Error::Refused(why)),
            }
        }
    }

    fn patched<T>(&self, event: &str, what: &str, patched: Result<T, Error>) -> Result<(), Error> {
        match patched {
            Ok(_) => {
                self.is_changed.set(true);
                self.voice.say(event, what, &json!({}));
            }
            // Somebody was faster: the next look shows what is to be done now.
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn watch(&self, scene: &Scene, idle: &mut Idle, plan: &Plan) -> Result<(), Error> {
        let Some(old) = &scene.old else { return Ok(()) };
        if let Some(pods) = read(self.api, old, &scene.container, self.port).await? {
            idle.see(pods);
        }
        let wanted = plan.retire.map_or(String::new(), |retire| humantime::format_duration(retire).to_string());
        let text = match idle.last {
            Some((requests, _)) => format!("{requests} requests since the cutover; waits until none came for {wanted}"),
            None => "its pods cannot be read, so that nobody knows whether it is idle".to_owned(),
        };
        self.voice.tick(&format!("{}: {text}", old.track.name));
        tokio::time::sleep(GLANCE).await;
        Ok(())
    }
}

/// How long the requests of a Deployment's pods have not become more.
#[derive(Default)]
struct Idle {
    window: Window,
    /// How many there were since the first look, and since when.
    last: Option<(u64, Instant)>,
}

impl Idle {
    fn see(&mut self, pods: Vec<judge::Seen>) {
        self.window.round(pods);
        let tally = self.window.tally();
        let is_known = !tally.faults.iter().any(|fault| matches!(fault.what, What::Silent(_)));
        self.last = match self.last {
            _ if !is_known => None,
            Some((before, since)) if before == tally.all.rejected.of => Some((before, since)),
            _ => Some((tally.all.rejected.of, Instant::now())),
        };
    }

    fn time(&self) -> Option<Duration> {
        self.last.map(|(_, since)| since.elapsed())
    }
}

impl Scene {
    pub fn seen(&self) -> Seen {
        let new: Vec<&str> = self.new.current(&self.container).map(name_of).collect();
        let of_new = self.behind.iter().filter(|pod| new.contains(&pod.as_str())).count();
        Seen {
            front: self.front.clone(),
            to: self.to.clone(),
            new: self.new.track.clone(),
            old: self.old.as_ref().map(|old| old.track.clone()),
            smoke: None,
            endpoints: (of_new, self.behind.len() - of_new),
            idle: None,
            was_selected: false,
        }
    }
}

/// The request of the one patch, as `--dry-run` tells it.
pub fn told(scene: &Scene, namespace: &str, body: &Value) -> String {
    format!("PATCH /api/v1/namespaces/{namespace}/services/{}\n{body}\n", scene.front.service)
}
