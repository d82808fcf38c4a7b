//! A probe over gRPC: one `grpc.health.v1.Health/Check` on a connection of its own; only SERVING passes.

use std::error::Error as _;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use super::{Ask, Verdict, why};
use crate::cli::Question;

pub(super) async fn ask(ask: &Ask, stream: TcpStream) -> Result<Verdict, String> {
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| why(&error))?;
    tokio::spawn(connection);
    let service = service_fn(move |request| sender.clone().send_request(request));
    let mut client = HealthClient::with_origin(service, ask.url.clone());
    let request = HealthCheckRequest { service: service_of(ask.question).to_owned() };
    let answer = client.check(request).await.map_err(|status| match status.source() {
        Some(error) => why(error), // The connection's own; otherwise the server has said it.
        None => format!("{}: {}", status.code(), status.message()),
    })?;
    let status = answer.get_ref().status();
    let (passes, fails) = words(ask.question);
    Ok(match status {
        ServingStatus::Serving => Verdict { pass: true, words: passes.to_owned() },
        other => Verdict { pass: false, words: format!("{fails}: {}", other.as_str_name()) },
    })
}

fn service_of(question: Question) -> &'static str {
    match question {
        Question::Startup => "startup",
        Question::Health => "liveness",
        Question::Ready => "readiness",
    }
}

/// The lesson's words for a probe that passes, and for one that does not.
fn words(question: Question) -> (&'static str, &'static str) {
    match question {
        Question::Startup => ("ready", "loading"),
        Question::Health => ("healthy", "unhealthy"),
        Question::Ready => ("ready", "not_ready"),
    }
}
