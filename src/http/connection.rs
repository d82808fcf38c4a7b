//! Accepts connections, serves HTTP/1 and HTTP/2 on them, and lets go of them without losing a request.
//!
//! `door` lets them in and counts them, `session` is one connection from its first byte to its last. `watched` notes
//! what happens on it in `activity`, `arriving` how its requests' bodies come, and `moments` has the rules for when the
//! time of either is up. `goaway` tells HTTP/2 clients to leave; `descriptors` makes room for everybody.

mod activity;
mod arriving;
mod descriptors;
mod door;
mod goaway;
mod moments;
mod session;
mod watched;

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::api::in_flight::Cut;
use door::Door;

/// A listener that is being served. Dropped, it goes on; `close` ends it.
pub struct Server {
    accepting: JoinHandle<()>,
    stage: watch::Sender<Stage>,
    connections: Connections,
}

/// What answers the requests of a connection.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to a request on a connection that may be `cut` before it has gone out.
    fn answer(&self, request: Request, cut: Cut) -> impl Future<Output = Response> + Send;
}

impl Answers for Router {
    /// Handlers find `cut` in the request's extensions.
    async fn answer(&self, mut request: Request, cut: Cut) -> Response {
        request.extensions_mut().insert(cut);
        let Ok(response) = self.clone().call(request).await;
        response
    }
}

/// What is served: `all` of it, and what is left of it for the few connections above the limit.
#[derive(Clone)]
pub struct Fronts<A> {
    pub all: A,
    /// Answers probes, and refuses the rest.
    pub reserve: A,
}

impl<A: Answers> Fronts<A> {
    /// Of one that answers nothing but probes, or that nobody probes.
    pub fn same(front: A) -> Self {
        Self { all: front.clone(), reserve: front }
    }
}

/// How many connections a listener may have at a time, and for how long one may do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At least 1. A few more are served by [`Fronts::reserve`].
    pub max_connections: usize,
    /// More than nothing.
    pub idle_timeout: Duration,
}

impl Limits {
    /// These, as far as the process may have enough files for each of `listeners`; a warning says where it may not.
    #[must_use]
    pub fn on_each_of(self, listeners: usize) -> Self {
        Self { max_connections: descriptors::room_for(self.max_connections, listeners), ..self }
    }
}

/// Counts open connections. Clones share the count.
#[derive(Clone, Default)]
pub struct Connections(TaskTracker);

impl Connections {
    pub fn open(&self) -> usize {
        self.0.len()
    }
}

/// How far the end has come. It moves in this order only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Stage {
    Open,
    /// Connections are told to leave; newcomers are still served.
    SendOff,
    /// Nobody is let in any more.
    Closed,
    /// Whoever has nothing in flight is closed.
    Leave,
}

/// Hears of the stages.
#[derive(Clone)]
struct Stages(watch::Receiver<Stage>);

impl Stages {
    /// Resolves once the end has come as far as `stage`. Never, where the server was dropped before.
    async fn reach(&mut self, stage: Stage) {
        if self.0.wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves `fronts` on `listener`, which must be non-blocking. Needs a tokio runtime.
pub fn serve<A: Answers>(listener: std::net::TcpListener, fronts: Fronts<A>, limits: Limits) -> io::Result<Server> {
    let listener = TcpListener::from_std(listener)?;
    let (stage, stages) = watch::channel(Stage::Open);
    let connections = Connections::default();
    let door = Door::new(fronts, limits, Stages(stages), connections.0.clone());
    let accepting = tokio::spawn(door.accept_until_closed(listener));
    Ok(Server { accepting, stage, connections })
}

impl Server {
    /// Tells HTTP/2 connections to leave (GOAWAY), each once it has asked at least one request: a newcomer sent away
    /// unasked would only come again. Everyone is still served. HTTP/1 is told by its answers (`http/front`).
    pub fn send_off(&self) {
        self.stage.send_replace(Stage::SendOff);
    }

    /// Takes in what has connected, closes the listener, then waits until every connection has had its answers and is
    /// closed. Only a request in flight keeps one longer than two seconds, and that without bound: the caller has the
    /// deadline.
    pub async fn close(self) {
        self.stage.send_replace(Stage::Closed);
        let _ = self.accepting.await;
        self.stage.send_replace(Stage::Leave);
        self.connections.0.close();
        self.connections.0.wait().await;
    }

    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }
}
