//! gRPC: the services of its listener. `health` answers grpc.health.v1 from the verdicts that the HTTP probes give.
//!
//! Connections are those of `http::connection`, so that limits, GOAWAY and drain are the same for both.

mod health;

use axum::Router;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::health::Health;

/// The router of the gRPC listener.
pub fn router(health: Health) -> Router {
    Routes::new(HealthServer::new(health::Service::new(health))).into_axum_router()
}
