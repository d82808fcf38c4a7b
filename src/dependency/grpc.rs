//! `grpc://host:port[/service]` and `grpcs://`: grpc.health.v1 says SERVING, of the server or of one service.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};

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
    /// Made by the first check, in the background: with TLS, it reads the system's certificates.
    endpoint: Arc<OnceLock<Endpoint>>,
}

impl Check {
    pub(super) fn new(url: &Url, host: &Host) -> Self {
        let tls = url.scheme() == "grpcs";
        let scheme = if tls { "https" } else { "http" };
        let service = url.path().trim_start_matches('/').to_owned();
        Self { address: format!("{scheme}://{host}"), tls, service, endpoint: Arc::default() }
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        let channel = self.endpoint()?.connect().await.map_err(|error| reason::of(&error))?;
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer = HealthClient::new(channel).check(request).await.map_err(|status| self.refused(&status))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("the service is {}", other.as_str_name())),
        }
    }

    fn endpoint(&self) -> Result<&Endpoint, String> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let tls = ClientTlsConfig::new().with_native_roots();
        let endpoint = Endpoint::from_shared(self.address.clone());
        let endpoint = endpoint.and_then(|plain| if self.tls { plain.tls_config(tls) } else { Ok(plain) });
        let endpoint = endpoint.map_err(|error| reason::of(&error))?;
        Ok(self.endpoint.get_or_init(|| endpoint))
    }

    fn refused(&self, status: &Status) -> String {
        match status.code() {
            Code::Unimplemented => "the server has no grpc.health.v1".to_owned(),
            Code::NotFound => format!("the server knows no service {:?}", self.service),
            _ if status.source().is_some() => reason::of(status),
            code => reason::line(&format!("{code:?}: {}", status.message())),
        }
    }
}
