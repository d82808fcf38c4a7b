//! grpc.health.v1 as its users meet it: each service in each phase, and streams that tell every change.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tonic::client::GrpcService;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, ServiceUnknown, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::client;
use crate::http2 as raw;
use crate::support::Turn;

const SOON: Duration = Duration::from_secs(10);

/// A name, and its status while loading, while serving and while draining.
const SERVICES: [(&str, [ServingStatus; 3]); 5] = [
    ("", [Serving, Serving, Serving]),
    ("liveness", [Serving, Serving, Serving]),
    ("readiness", [NotServing, Serving, NotServing]),
    ("inference.GRPCInferenceService", [NotServing, Serving, NotServing]),
    ("startup", [NotServing, Serving, Serving]),
];

/// One connection.
#[derive(Clone)]
pub(crate) struct Client(http2::SendRequest<tonic::body::Body>, SocketAddr);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("the port is open")
    }

    pub(crate) async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(sender, address))
    }

    fn health(&self) -> HealthClient<impl GrpcService<tonic::body::Body, ResponseBody = hyper::body::Incoming>> {
        let sender = self.0.clone();
        let service = tower::service_fn(move |request| sender.clone().send_request(request));
        HealthClient::with_origin(service, format!("http://{}", self.1).parse().unwrap())
    }

    pub(crate) async fn check(&self, service: &str) -> Result<ServingStatus, Status> {
        let answer = self.health().check(HealthCheckRequest { service: service.to_owned() }).await?;
        Ok(answer.get_ref().status())
    }

    pub(crate) async fn watch(&self, service: &str) -> Watch {
        let request = HealthCheckRequest { service: service.to_owned() };
        Watch(self.health().watch(request).await.expect("every name can be watched").into_inner())
    }
}

pub(crate) struct Watch(Streaming<HealthCheckResponse>);

impl Watch {
    /// The next status; `None` at an end with OK.
    pub(crate) async fn next(&mut self) -> Option<ServingStatus> {
        let message = tokio::time::timeout(SOON, self.0.message()).await.expect("a message, or the end, comes soon");
        message.expect("it ends with OK").map(|answer| answer.status())
    }
}

/// With a thread for the connections, which live on while the test's own thread waits for a process.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

async fn check_all(address: SocketAddr, moment: usize) {
    for (service, statuses) in SERVICES {
        // As the kubelet does, each on a connection of its own: in a drain, one is told to leave after its first request.
        let client = Client::connect(address).await;
        assert_eq!(client.check(service).await.unwrap(), statuses[moment], "{service:?}");
    }
}

#[test]
fn each_service_has_the_status_of_its_probe_in_each_phase() {
    let turn = Turn::shared();
    let loading = turn.start(&["--chaos", "load-delay=30s"]);
    loading.wait_until("loading");
    block_on(check_all(loading.grpc, 0));

    let server = turn.serve(&["--drain-delay", "30s"]);
    block_on(check_all(server.grpc, 1));
    server.signal(Signal::TERM);
    server.wait_until("draining");
    block_on(check_all(server.grpc, 2)); // On a connection that was made after the signal.
    server.signal(Signal::TERM);
    assert_eq!(server.end_within(SOON).code, Some(0));
}

#[test]
fn an_http_probe_that_was_pointed_at_the_grpc_port_does_not_pass() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    for path in ["/health", "/ready", "/nope"] {
        let answer = client::get(server.grpc, path);
        assert_eq!(answer.status, 415, "{path}: {}", answer.text());
    }
}

#[test]
fn a_question_of_megabytes_is_refused_before_it_is_sent() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let status = raw::runtime().block_on(async {
        let client = raw::Client::connect(server.grpc).await.unwrap();
        tokio::time::timeout(Duration::from_secs(3), client.check_health_at_length()).await
    });
    assert_eq!(status.expect("it is answered at once").as_deref(), Some("11"), "out of range");
}

#[test]
fn a_watch_tells_every_change_once_and_ends_with_the_drain() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=1s", "--drain-delay", "200ms"]);
    block_on(async {
        let client = Client::connect(server.grpc).await;
        let (mut startup, mut liveness, mut readiness) =
            (client.watch("startup").await, client.watch("").await, client.watch("readiness").await);
        assert_eq!(startup.next().await, Some(NotServing));
        assert_eq!(liveness.next().await, Some(Serving));
        assert_eq!(readiness.next().await, Some(NotServing));

        // Loading ends, whose progress is no change of a status.
        assert_eq!((startup.next().await, readiness.next().await), (Some(Serving), Some(Serving)));
        assert_eq!(client.check("readiness").await.unwrap(), Serving);

        server.signal(Signal::TERM);
        assert_eq!((readiness.next().await, readiness.next().await), (Some(NotServing), None));
        assert_eq!((startup.next().await, liveness.next().await), (None, None));
    });
    assert_eq!(server.end_within(SOON).code, Some(0));
}

#[test]
fn an_unknown_service_is_not_found_and_can_still_be_watched() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=300ms", "--drain-delay", "200ms"]);
    block_on(async {
        let client = Client::connect(server.grpc).await;
        let status = client.check("no.such.Service").await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains("readiness"), "it names those that there are: {status}");

        let mut watch = client.watch("no.such.Service").await;
        assert_eq!(watch.next().await, Some(ServiceUnknown));
        let mut readiness = client.watch("readiness").await;
        while readiness.next().await != Some(Serving) {}
        assert!(watch.0.message().now_or_never().is_none(), "it stays open and has nothing to say");
        server.signal(Signal::TERM);
        assert_eq!(watch.next().await, None);
    });
    assert_eq!(server.end_within(SOON).code, Some(0));
}

#[test]
fn open_streams_and_idle_connections_do_not_hold_the_drain() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "0s", "--drain-timeout", "30s"]);
    block_on(async {
        let (watching, idle) = (Client::connect(server.grpc).await, Client::connect(server.grpc).await);
        assert_eq!(idle.check("").await.unwrap(), Serving);
        let mut watches = Vec::new();
        for (service, [_, serving, _]) in SERVICES.into_iter().chain([("unknown", [ServiceUnknown; 3])]) {
            let mut watch = watching.watch(service).await;
            assert_eq!(watch.next().await, Some(serving));
            watches.push(watch);
        }
        server.signal(Signal::TERM);
        // The clients stay: they read what they are told, and close nothing by themselves.
        for watch in &mut watches {
            while watch.next().await.is_some() {}
        }
        let ended = server.end_within(SOON);
        assert_eq!(ended.code, Some(0), "{}", ended.log.text());
        drop((watching, idle));
    });
}

#[test]
fn without_a_port_for_grpc_there_is_none() {
    let turn = Turn::shared();
    let server = turn.start(&["--grpc-listen", "off"]);
    let line = server.log.wait_for("listening", |line| line["message"] == "listening");
    assert!(line.get("grpc").is_none(), "{line}");
}
