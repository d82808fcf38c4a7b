//! `grpc://host:port[/service]` and `grpcs://`: grpc.health.v1 says SERVING, of the server or of one service.

use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use url::Url;

use super::{Host, reason};

#[derive(Clone)]
pub(super) struct Check {
    address: String,
    tls: bool,
    /// `""` asks about the server as a whole.
    service: String,
}

impl Check {
    pub(super) fn new(url: &Url, host: &Host) -> Self {
        let tls = url.scheme() == "grpcs";
        let scheme = if tls { "https" } else { "http" };
        let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
        let service = url.path().trim_start_matches('/').to_owned();
        Self { address: format!("{scheme}://{name}:{}", host.port), tls, service }
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        let explain = |error: tonic::transport::Error| reason::of(&error);
        let mut endpoint = Endpoint::from_shared(self.address.clone()).map_err(explain)?;
        if self.tls {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(explain)?;
        }
        let channel = endpoint.connect().await.map_err(explain)?;
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer = HealthClient::new(channel).check(request).await.map_err(|status| self.refused(&status))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("the service is {}", other.as_str_name())),
        }
    }

    fn refused(&self, status: &Status) -> String {
        match status.code() {
            Code::Unimplemented => "the server has no grpc.health.v1".to_owned(),
            Code::NotFound => format!("the server knows no service {:?}", self.service),
            code => reason::line(&format!("{code:?}: {}", status.message())),
        }
    }
}
