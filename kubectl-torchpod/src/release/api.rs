//! The cluster's API, as far as a release needs it. What may pass, such as a lost connection, is tried again for a
//! while; what will not is told at once.

use std::cell::Cell;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::voice::Voice;

/// One request; longer ones are given up, and tried again.
const REQUEST: Duration = Duration::from_secs(10);
/// A page of a pod.
const PAGE: Duration = Duration::from_secs(5);
/// Before the first answer, which a wrong address never gives.
const FIRST: Duration = Duration::from_secs(10);
/// Who made a change, in `metadata.managedFields`.
pub const MANAGER: &str = "kubectl-torchpod";

/// Where the cluster is.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    /// How long the API server may be gone.
    pub patience: Duration,
}

pub struct Api<'a> {
    client: Client,
    pub namespace: String,
    patience: Duration,
    is_met: Cell<bool>,
    /// How far the API server's clock is ahead of ours.
    ahead: Cell<SignedDuration>,
    voice: &'a Voice,
}

/// What is asked for, for messages.
struct Ask {
    verb: &'static str,
    resource: String,
    name: String,
}

/// What became of a question to a pod.
#[derive(Debug)]
pub enum Page {
    Body(String),
    /// The pod answered, and not well.
    Refused(u16, String),
    Silent(String),
    /// It was the API server that could not ask.
    Unasked,
}

pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug> Kind for K {}

impl<'a> Api<'a> {
    pub async fn connect(access: &Access, voice: &'a Voice) -> Result<Api<'a>, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Unconfigured(error.to_string());
        let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &access.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(&error))?
            }
            None if access.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| wrong(&error))?
            }
            None => Config::infer().await.map_err(|error| wrong(&error))?,
        };
        config.connect_timeout = Some(PAGE);
        // Our own way of trying again says so, and ends.
        config.default_retry = false;
        let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        let (is_met, ahead) = (Cell::default(), Cell::default());
        let api = Api { client, namespace, patience: access.patience, is_met, ahead, voice };
        api.ahead.set(api.clock().await?);
        Ok(api)
    }

    /// The cluster's time: pods say since when they are what in it, and a laptop's clock may be minutes off.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().saturating_add(self.ahead.get()).unwrap_or_else(|_| Timestamp::now())
    }

    async fn clock(&self) -> Result<SignedDuration, Error> {
        let ask = Ask { verb: "get", resource: "version".to_owned(), name: String::new() };
        let head = || async {
            let request = http::Request::get("/version").body(Body::from(Vec::new()));
            Ok(self.client.send(request.map_err(kube::Error::HttpError)?).await?.into_parts().0)
        };
        let date = self.attempt(&ask, head).await?.headers.get(http::header::DATE).cloned();
        let date = date.as_ref().and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
        let ahead = date.map(|date| date.timestamp().duration_since(Timestamp::now()));
        // The header has whole seconds.
        Ok(ahead.filter(|ahead| ahead.abs() > SignedDuration::from_secs(1)).unwrap_or_default())
    }

    pub async fn get<K: Kind>(&self, name: &str) -> Result<K, Error> {
        let api = self.of::<K>();
        self.attempt(&Ask::of::<K>("get", name), || api.get(name)).await
    }

    pub async fn find<K: Kind>(&self, name: &str) -> Result<Option<K>, Error> {
        let api = self.of::<K>();
        self.attempt(&Ask::of::<K>("get", name), || api.get_opt(name)).await
    }

    /// All that a selector, such as `app=web`, matches; without one, all.
    pub async fn list<K: Kind>(&self, selector: Option<&str>) -> Result<Vec<K>, Error> {
        let api = self.of::<K>();
        let parameters = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default() };
        let list = self.attempt(&Ask::of::<K>("list", selector.unwrap_or("")), || api.list(&parameters)).await?;
        Ok(list.items)
    }

    pub async fn patch<K: Kind>(&self, name: &str, patch: &Patch<Value>) -> Result<K, Error> {
        let api = self.of::<K>();
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.attempt(&Ask::of::<K>("patch", name), || api.patch(name, &parameters, patch)).await
    }

    pub async fn create<K: Kind + Serialize>(&self, object: &K) -> Result<K, Error> {
        let api = self.of::<K>();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let name = object.meta().name.clone().unwrap_or_default();
        self.attempt(&Ask::of::<K>("create", &name), || api.create(&parameters, object)).await
    }

    /// Refused where anybody has changed it since it was read.
    pub async fn replace<K: Kind + Serialize>(&self, object: &K) -> Result<K, Error> {
        let api = self.of::<K>();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let name = object.meta().name.clone().unwrap_or_default();
        self.attempt(&Ask::of::<K>("update", &name), || api.replace(&name, &parameters, object)).await
    }

    /// Asks a pod something, through the API server. The port is a number: of pods it knows no names.
    pub async fn ask(&self, pod: &str, port: i32, path: &str, body: Option<&Value>) -> Result<Page, Error> {
        let verb = if body.is_some() { "create" } else { "get" };
        let ask = Ask { verb, resource: "pods/proxy".to_owned(), name: format!("{pod}:{port}{path}") };
        let uri = format!("/api/v1/namespaces/{}/pods/{pod}:{port}/proxy{path}", self.namespace);
        let page = || async {
            let built = match body {
                None => http::Request::get(&uri).body(Body::from(Vec::new())),
                Some(body) => http::Request::post(&uri)
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(Body::from(body.to_string().into_bytes())),
            };
            let request = built.map_err(kube::Error::HttpError)?;
            let answer = async {
                let (head, body) = self.client.send(request).await?.into_parts();
                let body = body.collect_bytes().await?;
                Ok::<_, kube::Error>((head.status, String::from_utf8_lossy(&body).into_owned()))
            };
            match tokio::time::timeout(PAGE, answer).await {
                Ok(answer) => answer.and_then(|(status, text)| told(status.as_u16(), text)),
                Err(_) => Ok(Page::Silent(format!("no answer within {}", humantime::format_duration(PAGE)))),
            }
        };
        self.attempt(&ask, page).await
    }

    fn of<K: Kind>(&self) -> kube::Api<K> {
        kube::Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn attempt<T, F: Future<Output = kube::Result<T>>>(
        &self,
        ask: &Ask,
        call: impl Fn() -> F,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let patience = if self.is_met.get() { self.patience } else { self.patience.min(FIRST) };
        let once = || async {
            match tokio::time::timeout(REQUEST, call()).await {
                Ok(answer) => answer.map_err(|error| self.judge(ask, error)),
                Err(_) => Err(Trouble::Passing(format!("no answer within {}", humantime::format_duration(REQUEST)))),
            }
        };
        let pace = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter();
        let ended = once
            .retry(pace)
            .when(|trouble| matches!(trouble, Trouble::Passing(_)) && began.elapsed() < patience)
            .notify(|trouble, _| {
                if let Trouble::Passing(why) = trouble {
                    self.voice.wait(&format!("the API server cannot be asked ({why}): trying again"));
                }
            })
            .await;
        self.is_met.set(self.is_met.get() || !matches!(ended, Err(Trouble::Passing(_))));
        ended.map_err(|trouble| match trouble {
            Trouble::Passing(last) => Error::Silent {
                what: ask.told(),
                patience: Duration::from_secs(began.elapsed().max(patience).as_secs()),
                last,
            },
            Trouble::Lasting(error) => error,
        })
    }

    fn judge(&self, ask: &Ask, error: kube::Error) -> Trouble {
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::Auth(error) => return Trouble::Lasting(Error::Unconfigured(error.to_string())),
            kube::Error::Service(error) => return Trouble::Passing(innermost(&*error)),
            kube::Error::HyperError(error) => return Trouble::Passing(innermost(&error)),
            other => return Trouble::Lasting(Error::Rejected { what: ask.told(), said: other.to_string() }),
        };
        let said = status.message.trim().to_owned();
        match status.code {
            408 | 429 | 500 | 502 | 503 | 504 => Trouble::Passing(format!("{} {said}", status.code)),
            409 => Trouble::Lasting(Error::Conflict(ask.object())),
            403 => Trouble::Lasting(Error::Forbidden {
                verb: ask.verb,
                resource: ask.resource.clone(),
                namespace: self.namespace.clone(),
                said,
            }),
            404 => Trouble::Lasting(Error::Missing {
                kind: ask.resource.clone(),
                name: ask.name.clone(),
                namespace: self.namespace.clone(),
                hint: String::new(),
            }),
            _ => Trouble::Lasting(Error::Rejected { what: ask.told(), said }),
        }
    }
}

enum Trouble {
    Passing(String),
    Lasting(Error),
}

impl Ask {
    fn of<K: Kind>(verb: &'static str, name: &str) -> Ask {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Ask { verb, resource, name: name.to_owned() }
    }

    fn object(&self) -> String {
        if self.name.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.name) }
    }

    fn told(&self) -> String {
        format!("{} {}", self.verb, self.object())
    }
}

/// Whose answer it is: what the API server refuses has a `Status`; everything else is the pod's own.
fn told(code: u16, text: String) -> kube::Result<Page> {
    let status = serde_json::from_str::<Value>(&text).ok().filter(|value| value["kind"] == "Status");
    match (code, status) {
        (200..300, _) => Ok(Page::Body(text)),
        (429, Some(_)) => Ok(Page::Unasked),
        (401 | 403, Some(status)) => {
            let status: kube::core::Status = serde_json::from_value(status).unwrap_or_default();
            Err(kube::Error::Api(Box::new(status.with_code(code))))
        }
        (_, Some(status)) => Ok(Page::Refused(code, status["message"].as_str().unwrap_or_default().trim().to_owned())),
        (_, None) => Ok(Page::Refused(code, text.trim().to_owned())),
    }
}

/// The cause of all causes says most: "connection refused".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Where the numbers are.
pub const NUMBERS: [&str; 3] = ["probes", "metrics", "http"];
/// Where requests go.
pub const REQUESTS: [&str; 2] = ["http", "http1"];

/// The first port of a container that has one of these names, or else its first.
pub fn port_of(pod: &Pod, container: &str, names: &[&str]) -> Option<i32> {
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let ports = containers.find(|one| one.name == container)?.ports.as_ref()?;
    let port = |name: &&str| ports.iter().find(|port| port.name.as_deref() == Some(*name));
    names.iter().find_map(port).or(ports.first()).map(|port| port.container_port)
}
