//! grpc.health.v1: the three verdicts as statuses of services. Derived at every question; tonic-health's own reporter
//! would keep a copy of them.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::health::{Health, Probe};

/// Which probe answers for a service. The kubelet asks `""` unless told otherwise: the lesson's liveness probe.
const SERVICES: [(&str, Probe); 5] = [
    ("", Probe::Liveness),
    ("liveness", Probe::Liveness),
    ("readiness", Probe::Readiness),
    ("inference.GRPCInferenceService", Probe::Readiness),
    ("startup", Probe::Startup),
];

pub(super) struct Service {
    health: Health,
}

impl Service {
    pub(super) fn new(health: Health) -> Self {
        Self { health }
    }
}

#[async_trait]
impl health_server::Health for Service {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let probe = probe(&request.get_ref().service)
            .ok_or_else(|| Status::not_found(format!("unknown service; expected {}", names())))?;
        Ok(Response::new(answer(status(self.health.ask(probe).0.pass))))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// An unknown service is answered, too, and stays open: the protocol would have it become known one day.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let probe = probe(&request.get_ref().service);
        // Whoever watches is told of changes, and is not counted among the probes.
        let watch = self.health.watch(move |health| match probe {
            Some(probe) => status(health.passes(probe)),
            None => ServingStatus::ServiceUnknown,
        });
        let statuses = stream::unfold(watch, |mut watch| async { watch.next().await.map(|status| (status, watch)) });
        Ok(Response::new(statuses.map(|status| Ok(answer(status))).boxed()))
    }
}

fn probe(service: &str) -> Option<Probe> {
    SERVICES.iter().find(|(name, _)| *name == service).map(|(_, probe)| *probe)
}

fn names() -> String {
    SERVICES.map(|(name, _)| format!("{name:?}")).join(", ")
}

fn status(pass: bool) -> ServingStatus {
    if pass { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
