//! gRPC: the services of its listener. `health` answers grpc.health.v1 from the verdicts that the HTTP probes give.
//!
//! Connections are those of `http::connection`, so that limits, GOAWAY and drain are the same for both.

mod health;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower_http::timeout::TimeoutLayer;

use crate::health::Health;

/// The longest question, in bytes: a service's name. What is longer is refused by its announced length, unread.
const LONGEST_QUESTION: usize = 4 << 10;
/// From a question's head to the beginning of its answer; a stream may then last as long as it likes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The router of the gRPC listener.
pub fn router(health: Health) -> Router {
    let health = HealthServer::new(health::Service::new(health)).max_decoding_message_size(LONGEST_QUESTION);
    Routes::new(health)
        .into_axum_router()
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .layer(middleware::from_fn(only_grpc))
}

/// Refuses plain HTTP, which gRPC would answer with 200 and an error in its trailers: an HTTP probe that was pointed at
/// this port by mistake would pass for ever.
async fn only_grpc(request: Request, next: Next) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return next.run(request).await;
    }
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "this port speaks gRPC; HTTP, and its probes, are at --listen\n")
        .into_response()
}
