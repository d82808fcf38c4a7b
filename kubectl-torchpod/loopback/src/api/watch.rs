//! Watches: what changes, a line of JSON each, for as long as the client stays.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, header};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::Serving;
use super::answer::Answer;
use super::request::{Asking, Target};
use super::selector::Selector;
use super::table;
use crate::history::Change;
use crate::object::{Problem, Resource};
use crate::state::State;

/// How often a quiet watch says how far it is. (A real one does once a minute.)
const BOOKMARK: Duration = Duration::from_secs(10);

pub(super) fn watch(
    serving: &Arc<Serving>,
    target: &Target,
    selector: Selector,
    asking: &Asking,
) -> Result<Answer, Problem> {
    let timeout = asking.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let mut watch = Watch {
        serving: serving.clone(),
        resource: target.resource,
        namespace: target.namespace.clone(),
        selector,
        // Before the first look, so that no change is missed.
        turn: serving.cluster.turn.subscribe(),
        drops: serving.faults.drops.subscribe(),
        version: 0,
        lines: VecDeque::new(),
        end: timeout.map(|timeout| Box::pin(sleep(timeout))),
        bookmarks: asking.is("allowWatchBookmarks", "true"),
        last_bookmark: Instant::now(),
        table: asking.wants_table().then(|| Rows { include: asking.query.get("includeObject").cloned() }),
        over: false,
    };
    watch.begin(asking)?;
    let lines = stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((line, watch))
    });
    let mut answer = Response::new(Body::from_stream(lines));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(answer)
}

struct Watch {
    serving: Arc<Serving>,
    resource: &'static Resource,
    namespace: Option<String>,
    selector: Selector,
    turn: Receiver<()>,
    drops: Receiver<usize>,
    /// Everything up to here was told.
    version: u64,
    lines: VecDeque<Value>,
    end: Option<Pin<Box<Sleep>>>,
    bookmarks: bool,
    last_bookmark: Instant,
    table: Option<Rows>,
    over: bool,
}

/// Objects are shown as rows of a table, each with so much of the object.
struct Rows {
    include: Option<String>,
}

impl Watch {
    fn begin(&mut self, asking: &Asking) -> Result<(), Problem> {
        let given = asking.query.get("resourceVersion").map(String::as_str).unwrap_or_default();
        let wants_all = asking.is("sendInitialEvents", "true");
        let serving = self.serving.clone();
        let mut state = serving.cluster.lock();
        state.show();
        if ["", "0"].contains(&given) || wants_all {
            self.version = state.history.version();
            let all = state.history.all(self.resource.id);
            let own = all.filter(|(key, _)| self.is_in(&key.namespace)).map(|(_, value)| value);
            let own: Vec<_> = own.filter(|value| self.selector.takes(value)).cloned().collect();
            for value in own {
                self.tell("ADDED", &value);
            }
            if wants_all {
                self.bookmark(true);
            }
            return Ok(());
        }
        self.version = given.parse().map_err(|_| Problem::Bad(format!("invalid resource version {given:?}")))?;
        if state.history.is_forgotten(self.version) {
            let problem = Problem::Gone { asked: self.version, oldest: state.history.version() };
            self.lines.push_back(json!({"type": "ERROR", "object": problem.status()}));
            self.over = true;
        }
        Ok(())
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == namespace)
    }

    fn tell(&mut self, what: &str, object: &Value) {
        let object = match &self.table {
            Some(rows) => table::row_alone(self.resource, object, rows.include.as_deref()),
            None => object.clone(),
        };
        self.lines.push_back(json!({"type": what, "object": object}));
    }

    fn bookmark(&mut self, is_first: bool) {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if is_first {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata});
        self.lines.push_back(json!({"type": "BOOKMARK", "object": object}));
        self.last_bookmark = Instant::now();
    }

    /// Takes up what has changed since.
    fn look(&mut self, state: &mut State) {
        state.show();
        let changes: Vec<Change> = state.history.after(self.version).cloned().collect();
        self.version = state.history.version();
        for change in changes {
            if change.resource != self.resource.id || !self.is_in(&change.namespace) {
                continue;
            }
            let taken = |value: &Option<Arc<Value>>| value.clone().filter(|value| self.selector.takes(value));
            match (taken(&change.before), taken(&change.after)) {
                (None, Some(new)) => self.tell("ADDED", &new),
                (Some(_), Some(new)) => self.tell("MODIFIED", &new),
                (Some(old), None) => {
                    // It may be there, and no longer be what is asked for.
                    let mut last = (*old).clone();
                    last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                    self.tell("DELETED", &last);
                }
                (None, None) => {}
            }
        }
    }

    /// The next lines; None, when it ends as it should, and an error, where it breaks.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if !self.lines.is_empty() {
                let mut text = self.lines.drain(..).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
                text.push('\n');
                return Some(Ok(text.into()));
            }
            if self.over {
                return None;
            }
            let serving = self.serving.clone();
            self.look(&mut serving.cluster.lock());
            if self.lines.is_empty() && !self.wait().await {
                return Some(Err(io::Error::other("the watch was dropped")));
            }
        }
    }

    /// Until there may be something to tell. False, where the watch breaks.
    async fn wait(&mut self) -> bool {
        let end = async {
            match &mut self.end {
                Some(end) => end.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.drops.changed() => return false,
            _ = self.turn.changed() => return true,
            () = end => self.over = true,
            () = sleep_until(self.last_bookmark + BOOKMARK) => {}
        }
        if self.bookmarks {
            self.bookmark(false);
        } else {
            self.last_bookmark = Instant::now();
        }
        true
    }
}
