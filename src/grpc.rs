//! gRPC: the services of its listener. `health` answers grpc.health.v1 from the verdicts that the HTTP probes give,
//! `inference` the Open Inference Protocol, by the way that `api` gives every request.
//!
//! Connections are those of `http::connection`, so that limits, GOAWAY and drain are the same for both.

mod apart;
mod arriving;
mod health;
pub(crate) mod inference;
pub mod proto;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower_http::timeout::TimeoutLayer;

use crate::api::{self, Shared, identity, in_flight};
use crate::health::Health;
use proto::grpc_inference_service_server::GrpcInferenceServiceServer;

/// The longest question to a service that is no inference, in bytes. What is longer is refused by its announced length,
/// unread.
const LONGEST_QUESTION: usize = 4 << 10;
/// From a question's head to the beginning of its answer; a stream may then last as long as it likes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The router of the gRPC listener.
pub fn router(shared: Arc<Shared>) -> Router {
    questions(shared.health.clone())
        .merge(inferences(shared))
        .fallback(async || Status::unimplemented("").into_http::<axum::body::Body>())
        .layer(middleware::from_fn(explain_unknown))
        .layer(middleware::from_fn(only_grpc))
}

/// What is answered from what is known already.
fn questions(health: Health) -> Router {
    let health = HealthServer::new(health::Service::new(health)).max_decoding_message_size(LONGEST_QUESTION);
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(health);
    // What build.rs has written can be read.
    if let (Ok(v1), Ok(v1alpha)) = (described().build_v1(), described().build_v1alpha()) {
        routes = routes
            .add_service(v1.max_decoding_message_size(LONGEST_QUESTION))
            .add_service(v1alpha.max_decoding_message_size(LONGEST_QUESTION));
    }
    without_fallback(routes).layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
}

/// What must be computed.
fn inferences(shared: Arc<Shared>) -> Router {
    let telemetry = shared.telemetry.clone();
    let mut service = GrpcInferenceServiceServer::new(inference::Service::new(shared.clone()))
        .max_decoding_message_size(api::MAX_BODY)
        .max_encoding_message_size(usize::MAX);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd] {
        service = service.accept_compressed(encoding);
    }
    let router = without_fallback(Routes::new(service))
        .layer(middleware::from_fn_with_state(shared.clone(), apart::run))
        .layer(middleware::from_fn_with_state(shared.clone(), arriving::watch))
        .layer(middleware::from_fn_with_state(shared, in_flight::count));
    identity::with_ids(router, telemetry)
}

/// Only one of the routers that are merged may have one.
fn without_fallback(routes: Routes) -> Router {
    routes.into_axum_router().reset_fallback()
}

/// Says why there is no such method, where there is none: clients of other servers ask for some.
async fn explain_unknown(request: Request, next: Next) -> Response {
    let method = api::error::shown(request.uri().path());
    let response = next.run(request).await;
    let is_unknown = response.headers().get(Status::GRPC_STATUS).is_some_and(|code| code == "12");
    if !is_unknown || response.headers().contains_key(Status::GRPC_MESSAGE) {
        return response;
    }
    let message = format!("no {method} here; there is no shared memory, and no settings of traces and logs by gRPC");
    Status::unimplemented(message).into_http::<axum::body::Body>()
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
