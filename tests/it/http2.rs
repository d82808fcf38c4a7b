//! HTTP/2 as a client with one connection and no pause speaks it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::client::SAMPLE;
use crate::support::Turn;

const GRPC: &str = "application/grpc";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const SOON: Duration = Duration::from_secs(5);

/// A connection, which knows how it was ended.
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (sender, connection) =
            h2::client::handshake(TcpStream::connect(address).await?).await.map_err(io::Error::other)?;
        Ok(Self { sender, connection: tokio::spawn(connection) })
    }

    /// The status of an answer to the sample; `None` where the connection was ended before the request was sent.
    pub(crate) async fn predict(&self) -> Option<Result<u16, h2::Error>> {
        let answer = self.send(SAMPLE.into()).await?;
        Some(async { whole(answer?).await.map(|(status, _)| status) }.await)
    }

    /// The gRPC status of a health check of the whole server, on the wire as every gRPC client puts it.
    pub(crate) async fn check_health(&self) -> Option<Result<Option<String>, h2::Error>> {
        // A message is not compressed, and has no bytes: all its fields have their defaults.
        const EMPTY_MESSAGE: [u8; 5] = [0; 5];
        let request = http::Request::post(format!("http://torchpod{CHECK}"));
        let request = request.header("content-type", GRPC).header("te", "trailers").body(()).unwrap();
        let answer = self.ask(request, EMPTY_MESSAGE.to_vec().into()).await?;
        Some(async { whole(answer?).await.map(|(_, ends)| grpc_status(&ends)) }.await)
    }

    /// The gRPC status of a health check that announces a message of 4 MiB and sends none of it.
    pub(crate) async fn check_health_at_length(&self) -> Option<String> {
        let (answer, _stream) = self.begin(CHECK, GRPC, &[0, 0, 0x40, 0, 0]).await;
        grpc_status(answer.await.unwrap().headers())
    }

    /// Sends a raw body to `/predict`, or JSON.
    pub(crate) async fn send(&self, body: Bytes) -> Option<Result<ResponseFuture, h2::Error>> {
        let request = http::Request::post("http://torchpod/predict");
        let raw = if body.starts_with(b"{") { "application/json" } else { "application/octet-stream" };
        let request = request.header("content-type", raw).body(()).unwrap();
        self.ask(request, body).await
    }

    /// Sends a request's head and the first bytes of its body.
    pub(crate) async fn begin(
        &self,
        path: &str,
        content_type: &str,
        part: &[u8],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let request = http::Request::post(format!("http://torchpod{path}")).header("content-type", content_type);
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (answer, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(part.to_vec().into(), false).unwrap();
        (answer, stream)
    }

    async fn ask(&self, request: http::Request<()>, body: Bytes) -> Option<Result<ResponseFuture, h2::Error>> {
        let mut sender = self.sender.clone().ready().await.ok()?;
        let (answer, mut stream) = sender.send_request(request, false).ok()?;
        Some(stream.send_data(body, true).map(|()| answer))
    }

    /// Waits for its end: without an error, where it was told to leave and lost nothing.
    pub(crate) async fn end(self) -> Result<(), h2::Error> {
        self.connection.await.unwrap()
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// An answer read to its end: its status and its trailers.
async fn whole(answer: ResponseFuture) -> Result<(u16, http::HeaderMap), h2::Error> {
    let mut answer = answer.await?;
    let body = answer.body_mut();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((answer.status().as_u16(), trailers))
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_busy_http2_connection_is_told_to_leave_and_loses_nothing() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "200ms", "--drain-timeout", "20s"]);
    let (before, after) = runtime().block_on(async {
        let client = Client::connect(server.address).await.unwrap();
        for _ in 0..50 {
            assert_eq!(client.predict().await.unwrap().unwrap(), 200);
        }
        server.signal(Signal::TERM);
        let mut after = 0;
        while let Some(answer) = client.predict().await {
            assert_eq!(answer.unwrap(), 200);
            after += 1;
        }
        client.end().await.unwrap();
        (50, after)
    });
    assert!(after > 0, "{before} answers before the signal, {after} after it");
    // The requests went on without a pause, and still the end comes long before the drain's deadline.
    let ended = server.end_within(Duration::from_secs(3));
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    let report = ended.log.wait_for("drain report", |line| line["message"] == "drain report");
    assert_eq!((&report["aborted"], &report["left"]), (&serde_json::json!(0), &serde_json::json!(0)));
}

#[test]
fn http2_is_told_to_leave_at_the_first_moment_of_a_drain_and_newcomers_after_their_first_request() {
    let turn = Turn::shared();
    // The listener stays open for as long as this test runs.
    let server = turn.serve(&["--drain-delay", "1h"]);
    runtime().block_on(async {
        let used = Client::connect(server.address).await.unwrap();
        let unused = Client::connect(server.address).await.unwrap();
        assert_eq!(used.predict().await.unwrap().unwrap(), 200);
        server.signal(Signal::TERM);
        tokio::time::timeout(SOON, used.end()).await.expect("it is told at once").unwrap();

        let newcomer = Client::connect(server.address).await.unwrap();
        for client in [unused, newcomer] {
            assert_eq!(client.predict().await.expect("it is not told before it has asked").unwrap(), 200);
            tokio::time::timeout(SOON, client.end()).await.expect("and then it is").unwrap();
        }
    });
}
