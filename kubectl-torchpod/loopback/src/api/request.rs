//! A request's way: what its path names, and who answers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::selector::Selector;
use super::{Asked, Serving, discovery, proxy, table, watch, write};
use crate::history::Key;
use crate::object::{Problem, Resource};

/// No object is larger. (An API server takes 3 MiB.)
const LIMIT: usize = 64 << 20;

/// What a path below a group's version names.
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// None, where all of them are meant.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// What stands behind the name: a part, and for a proxy the path.
    pub(super) part: Option<String>,
    pub(super) rest: String,
}

/// The rest of a request.
pub(super) struct Asking {
    pub(super) method: Method,
    pub(super) query: BTreeMap<String, String>,
    /// The query as it was sent.
    pub(super) raw_query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) async fn answer(State(serving): State<Arc<Serving>>, request: Request<Body>) -> Answer {
    let delay = serving.faults.delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = head.method.to_string();
    let raw_query = head.uri.query().map(str::to_owned);
    let query = url::form_urlencoded::parse(raw_query.as_deref().unwrap_or_default().as_bytes()).into_owned().collect();
    let answer = match to_bytes(body, LIMIT).await {
        Err(error) => answer::problem(&Problem::Bad(error.to_string())),
        Ok(body) => {
            let asking = Asking { method: head.method, query, raw_query, headers: head.headers, body };
            route(&serving, head.uri.path(), &asking).await.unwrap_or_else(|problem| answer::problem(&problem))
        }
    };
    serving.note(Asked { method, path, status: answer.status().as_u16() });
    answer
}

async fn route(serving: &Arc<Serving>, path: &str, asking: &Asking) -> Result<Answer, Problem> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(answer) = discovery::answer(&parts) {
        return Ok(answer);
    }
    let target = target(path, &parts).ok_or(Problem::UnknownKind)?;
    serving.check_right(&target, asking)?;
    match target.part.as_deref() {
        Some("proxy") => proxy::forward(serving, &target, asking).await,
        Some("log") if asking.method == Method::GET => log(serving, &target, asking),
        _ if asking.method == Method::GET => read(serving, &target, asking),
        _ => write::write(serving, &target, asking),
    }
}

fn target(path: &str, parts: &[&str]) -> Option<Target> {
    let (group, version, below, skipped) = match parts {
        ["api", version, below @ ..] => ("", version, below, 2),
        ["apis", group, version, below @ ..] => (*group, version, below, 3),
        _ => return None,
    };
    let (namespace, below, skipped) = match below {
        ["namespaces", namespace, plural, ..]
            if Resource::at(group, version, plural).is_some_and(|one| one.namespaced) =>
        {
            (Some((*namespace).to_owned()), &below[2..], skipped + 2)
        }
        _ => (None, below, skipped),
    };
    let (plural, below) = below.split_first()?;
    let resource = Resource::at(group, version, plural)?;
    let decoded = |text: &&str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    // A proxied path is sent on as it came, with its empty parts and its last slash.
    let rest = path.splitn(skipped + 5, '/').nth(skipped + 4).unwrap_or_default();
    Some(Target {
        resource,
        namespace,
        name: below.first().map(decoded),
        part: below.get(1).map(decoded),
        rest: format!("/{rest}"),
    })
}

impl Target {
    /// The one object that is meant.
    pub(super) fn key(&self) -> Result<Key, Problem> {
        let name = self.name.clone().ok_or(Problem::NotAllowed)?;
        Ok(Key { resource: self.resource.id, namespace: self.namespace.clone().unwrap_or_default(), name })
    }

    pub(super) fn has_part(&self, name: &str) -> bool {
        self.resource.parts.iter().any(|part| part.name == name)
    }
}

impl Asking {
    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.query.get(name).is_some_and(|given| given == value)
    }

    pub(super) fn watches(&self) -> bool {
        ["1", "true"].iter().any(|yes| self.is("watch", yes))
    }

    pub(super) fn wants_table(&self) -> bool {
        let accept = self.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accept.flat_map(|value| value.split(',')).next().is_some_and(|first| first.contains("as=Table"))
    }
}

fn read(serving: &Arc<Serving>, target: &Target, asking: &Asking) -> Result<Answer, Problem> {
    let selector = Selector::of(&asking.query).map_err(Problem::Bad)?;
    let resource = target.resource;
    if target.name.is_none() && asking.watches() {
        return watch::watch(serving, target, selector, asking);
    }
    let mut state = serving.cluster.lock();
    state.show();
    let Some(name) = &target.name else {
        let all = state.history.all(resource.id);
        let own = all.filter(|(key, _)| target.namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace));
        let items: Vec<&Value> = own.map(|(_, value)| &**value).filter(|value| selector.takes(value)).collect();
        let version = state.history.version().to_string();
        if asking.wants_table() {
            return Ok(answer::json(200, &table::table(resource, &items, &version, asking)));
        }
        return Ok(answer::json(
            200,
            &json!({
                "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
                "metadata": {"resourceVersion": version}, "items": items,
            }),
        ));
    };
    let found = state.history.get(&target.key()?).cloned().ok_or_else(|| Problem::not_found(resource, name))?;
    match target.part.as_deref() {
        None if asking.wants_table() => {
            let version = state.history.version().to_string();
            Ok(answer::json(200, &table::table(resource, &[&*found], &version, asking)))
        }
        None | Some("status") => Ok(answer::json(200, &found)),
        Some("scale") if target.has_part("scale") => Ok(answer::json(200, &write::scale_of(&found))),
        Some(_) => Err(Problem::UnknownKind),
    }
}

/// The container's log, all of its starts.
fn log(serving: &Arc<Serving>, target: &Target, asking: &Asking) -> Result<Answer, Problem> {
    let key = target.key()?;
    let id = serving.cluster.look(|state| state.pod_named(&key.namespace, &key.name).map(|pod| pod.id));
    let id = id.filter(|_| target.has_part("log")).ok_or_else(|| Problem::not_found(target.resource, &key.name))?;
    let text = std::fs::read_to_string(serving.cluster.log(id)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = asking.query.get("tailLines").and_then(|lines| lines.parse().ok()).unwrap_or(lines.len());
    let lines = lines[lines.len().saturating_sub(tail)..].iter().map(|line| format!("{line}\n"));
    Ok(answer::text(lines.collect()))
}
