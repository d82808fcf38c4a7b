//! HTTP/2 as a client with one connection and no pause speaks it.

use std::time::Duration;

use h2::client::SendRequest;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::client::SAMPLE;
use crate::support::Turn;

type Stream = SendRequest<bytes::Bytes>;

/// Asks on `client`; `None` where the server has told it to leave before the request was sent.
async fn predict(client: Stream) -> Option<Result<u16, h2::Error>> {
    let mut client = client.ready().await.ok()?;
    let request = http::Request::post("http://torchpod/predict").body(()).unwrap();
    let (response, mut stream) = client.send_request(request, false).ok()?;
    Some(
        async move { stream.send_data(SAMPLE.into(), true).map(|()| response)?.await }
            .await
            .map(|r| r.status().as_u16()),
    )
}

#[test]
fn a_busy_http2_connection_is_told_to_leave_and_loses_nothing() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "200ms", "--drain-timeout", "20s"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (before, after) = runtime.block_on(async {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..50 {
            assert_eq!(predict(client.clone()).await.unwrap().unwrap(), 200);
        }
        server.signal(Signal::TERM);
        let mut after = 0;
        while let Some(answer) = predict(client.clone()).await {
            assert_eq!(answer.unwrap(), 200);
            after += 1;
        }
        (50, after)
    });
    assert!(after > 0, "{before} answers before the signal, {after} after it");
    // The requests went on without a pause, and still the end comes long before the drain's deadline.
    let ended = server.end_within(Duration::from_secs(3));
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    let report = ended.log.wait_for("drain report", |line| line["message"] == "drain report");
    assert_eq!((&report["aborted"], &report["left"]), (&serde_json::json!(0), &serde_json::json!(0)));
}
