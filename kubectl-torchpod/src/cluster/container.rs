//! A container and its probes, each with its place.

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::workload::Workload;
use crate::manifest::Place;

#[derive(Clone)]
pub struct Container<'a> {
    pub workload: &'a Workload<'a>,
    pub spec: &'a core::Container,
    pub place: Place<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

#[derive(Clone)]
pub struct Probe<'a> {
    pub container: Container<'a>,
    pub kind: ProbeKind,
    pub spec: &'a core::Probe,
    pub place: Place<'a>,
}

impl<'a> Container<'a> {
    pub fn probe(&self, kind: ProbeKind) -> Option<Probe<'a>> {
        let (spec, key) = match kind {
            ProbeKind::Startup => (&self.spec.startup_probe, "startupProbe"),
            ProbeKind::Liveness => (&self.spec.liveness_probe, "livenessProbe"),
            ProbeKind::Readiness => (&self.spec.readiness_probe, "readinessProbe"),
        };
        Some(Probe { container: self.clone(), kind, spec: spec.as_ref()?, place: self.place.key(key) })
    }

    pub fn probes(&self) -> impl Iterator<Item = Probe<'a>> {
        [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness].into_iter().filter_map(|kind| self.probe(kind))
    }

    pub fn ports(&self) -> &'a [core::ContainerPort] {
        self.spec.ports.as_deref().unwrap_or_default()
    }

    /// The number of a port that is given by number or name. None, where no port has the name.
    pub fn port_number(&self, port: &IntOrString) -> Option<i32> {
        match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self.ports().iter().find(|one| one.name.as_ref() == Some(name));
                named.map(|one| one.container_port).or_else(|| name.parse::<u16>().ok().map(i32::from))
            }
        }
    }

    pub fn limit(&self, resource: &str) -> Option<&'a str> {
        let limits = self.spec.resources.as_ref()?.limits.as_ref()?;
        limits.get(resource).map(|quantity| quantity.0.as_str())
    }

    /// As written; where only a limit is, an API server makes it the request, too.
    pub fn request(&self, resource: &str) -> Option<&'a str> {
        let requests = self.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get(resource)).map(|quantity| quantity.0.as_str())
    }

    /// What preStop runs.
    pub fn pre_stop(&self) -> Option<&'a core::LifecycleHandler> {
        self.spec.lifecycle.as_ref()?.pre_stop.as_ref()
    }
}

impl Probe<'_> {
    pub fn period(&self) -> i64 {
        positive(self.spec.period_seconds, 10)
    }

    pub fn failures(&self) -> i64 {
        positive(self.spec.failure_threshold, 3)
    }

    pub fn initial_delay(&self) -> i64 {
        i64::from(self.spec.initial_delay_seconds.unwrap_or(0).max(0))
    }

    /// Seconds after the container's start at which the last failure kills it.
    pub fn budget(&self) -> i64 {
        self.initial_delay() + (self.failures() - 1) * self.period()
    }

    /// The HTTP path or gRPC service that it asks, or the command that it runs.
    pub fn question(&self) -> Option<String> {
        if let Some(http) = &self.spec.http_get {
            return Some(http.path.clone().unwrap_or_else(|| "/".to_owned()));
        }
        if let Some(grpc) = &self.spec.grpc {
            return Some(grpc.service.clone().unwrap_or_default());
        }
        self.spec.exec.as_ref().map(|exec| exec.command.iter().flatten().cloned().collect::<Vec<_>>().join(" "))
    }

    /// The port that it asks, and where that is written.
    pub fn port(&self) -> Option<(IntOrString, &'static str)> {
        if let Some(http) = &self.spec.http_get {
            return Some((http.port.clone(), "httpGet.port"));
        }
        if let Some(tcp) = &self.spec.tcp_socket {
            return Some((tcp.port.clone(), "tcpSocket.port"));
        }
        self.spec.grpc.as_ref().map(|grpc| (IntOrString::Int(grpc.port), "grpc.port"))
    }
}

/// Zero means the default, as an API server has it.
fn positive(value: Option<i32>, default: i64) -> i64 {
    value.filter(|value| *value > 0).map_or(default, i64::from)
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
        })
    }
}
