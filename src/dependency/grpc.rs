//! `grpc://host:port[/service]` and `grpcs://`: grpc.health.v1 says SERVING, of the server or of one service.

use std::error::Error as _;

use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use url::Url;

use super::once::Once;
use super::{Host, reason};

#[derive(Clone)]
pub(super) struct Check {
    address: String,
    tls: bool,
    /// `""` asks about the server as a whole.
    service: String,
    endpoint: Once<Endpoint>,
}

impl Check {
    pub(super) fn new(url: &Url, host: &Host) -> Self {
        let tls = url.scheme() == "grpcs";
        let scheme = if tls { "https" } else { "http" };
        let service = url.path().trim_start_matches('/').to_owned();
        Self { address: format!("{scheme}://{host}"), tls, service, endpoint: Once::default() }
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        let (address, tls) = (self.address.clone(), self.tls);
        let endpoint = self.endpoint.get(move || endpoint(address, tls)).await?;
        let channel = endpoint.connect().await.map_err(|error| reason::of(&error))?;
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
            _ if status.source().is_some() => reason::of(status),
            code => reason::line(&format!("{code:?}: {}", status.message())),
        }
    }
}

fn endpoint(address: String, tls: bool) -> Result<Endpoint, String> {
    let plain = Endpoint::from_shared(address);
    let certified = |plain: Endpoint| plain.tls_config(ClientTlsConfig::new().with_native_roots());
    let endpoint = if tls { plain.and_then(certified) } else { plain };
    endpoint.map_err(|error| reason::of(&error))
}
