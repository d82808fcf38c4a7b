//! Traces for a collector, over OTLP: a span for each request that is kept, with one for each of its stages, and for each
//! batch a trace of its own, linked both ways with the requests in it.
//!
//! Nothing is traced on the way: when a request went through its stages is noted anyway, and the spans are made of that
//! once it has ended. One that is not kept costs nothing, and one that is costs its client nothing: another thread encodes
//! and sends.
//!
//! Configured by the variables of OpenTelemetry's specification: `settings` reads those that decide, its SDK the rest
//! (endpoint, headers, compression, batching, resource).

pub mod settings;
mod span;

use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor as _};

use super::metrics::CutReason;
use settings::Settings;
use span::Clock;

/// A span's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace: TraceId,
    pub span: SpanId,
}

impl Place {
    /// At the beginning of a new trace.
    pub fn root() -> Self {
        Self::within(TraceId::from(fastrand::u128(1..)))
    }

    /// Somewhere in that trace.
    pub fn within(trace: TraceId) -> Self {
        Self { trace, span: SpanId::from(fastrand::u64(1..)) }
    }
}

/// A request that has ended.
pub struct Request<'a> {
    pub place: Place,
    /// The caller's span.
    pub parent: Option<SpanId>,
    /// What was called: few words for many requests.
    pub name: &'static str,
    pub attributes: Vec<KeyValue>,
    /// What went wrong, where it was ours.
    pub failure: Option<&'a str>,
    pub began: Instant,
    pub ended: Instant,
    /// Name, beginning and end of each.
    pub stages: Vec<(&'static str, Instant, Instant)>,
    /// That of the batch it was in, and the name of the stage that was there.
    pub batch: Option<(&'static str, Place)>,
}

/// A batch with requests that are kept.
pub struct Batch {
    pub place: Place,
    requests: Vec<Place>,
    began: Instant,
    rows: usize,
    reason: CutReason,
}

impl Batch {
    /// Of `rows` rows, cut when it `began`; `None` where none of its `requests` is kept.
    pub fn of(requests: impl Iterator<Item = Place>, began: Instant, rows: usize, reason: CutReason) -> Option<Self> {
        let requests: Vec<Place> = requests.collect();
        (!requests.is_empty()).then(|| Self { place: Place::root(), requests, began, rows, reason })
    }
}

/// Makes spans, and has them sent.
#[derive(Debug)]
pub struct Tracer {
    processor: BatchSpanProcessor,
    settings: Settings,
    scope: InstrumentationScope,
}

impl Tracer {
    /// Needs a tokio runtime, which carries the connection to the collector. No collector has to be there yet.
    ///
    /// # Errors
    /// What is wrong with one of the variables, in the words of the SDK.
    pub fn new(settings: Settings) -> Result<Self, String> {
        // reqwest asks for the process's provider; an error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = if settings.over_grpc {
            let roots = ClientTlsConfig::new().with_enabled_roots();
            SpanExporter::builder().with_tonic().with_tls_config(roots).build()
        } else {
            SpanExporter::builder().with_http().build()
        };
        let exporter = exporter.map_err(|error| format!("OTEL_EXPORTER_OTLP_…: {error}"))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource());
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        Ok(Self { processor, settings, scope: scope.build() })
    }

    /// Whether a request in this trace is kept; `caller` is what its caller has decided for itself, if there is one.
    pub fn keeps(&self, trace: TraceId, caller: Option<bool>) -> bool {
        self.settings.keeps(trace, caller)
    }

    /// Tells of a request, and of its stages.
    pub fn request(&self, request: Request<'_>) {
        let Request { place, parent, name, attributes, failure, began, ended, stages, batch } = request;
        let (clock, trace) = (Clock::now(), place.trace);
        for (stage, from, to) in stages {
            let mut span = clock.span(&self.scope, Place::within(trace), Some(place.span), stage, (from, to));
            let batch = batch.filter(|(name, _)| *name == stage);
            span.links.links.extend(batch.map(|(_, batch)| span::link(batch)));
            self.processor.on_end(span);
        }
        let mut span = clock.span(&self.scope, place, parent, name, (began, ended));
        span.span_kind = SpanKind::Server;
        span.parent_span_is_remote = parent.is_some();
        span.attributes = attributes;
        if let Some(failure) = failure {
            span.status = Status::error(failure.to_owned());
        }
        self.processor.on_end(span);
    }

    /// Tells of one go at computing (a part of) a batch of `rows` rows, and why there were no outputs.
    pub fn compute(&self, batch: Place, began: Instant, rows: usize, failure: Option<String>) {
        let times = (began, Instant::now());
        let mut span = Clock::now().span(&self.scope, Place::within(batch.trace), Some(batch.span), "compute", times);
        span.attributes = vec![span::number("torchpod.rows", rows)];
        if let Some(failure) = failure {
            span.status = Status::error(failure);
        }
        self.processor.on_end(span);
    }

    /// Tells of a batch of that model that has been answered.
    pub fn batch(&self, batch: Batch, name: &str, version: &str) {
        let Batch { place, requests, began, rows, reason } = batch;
        let mut span = Clock::now().span(&self.scope, place, None, "batch", (began, Instant::now()));
        span.attributes = model(name, version);
        let counted = span::number("torchpod.requests.kept", requests.len());
        span.attributes.extend([
            span::number("torchpod.rows", rows),
            KeyValue::new("torchpod.cut_reason", reason.name()),
            counted,
        ]);
        span.links.links = requests.into_iter().map(span::link).collect();
        self.processor.on_end(span);
    }

    /// Sends what is left, as far as that takes no longer than `limit`. Blocks.
    pub fn finish(&self, limit: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last spans may not have reached their collector");
        }
    }
}

/// Which model it was.
pub fn model(name: &str, version: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("torchpod.model.name", name.to_owned()),
        KeyValue::new("torchpod.model.version", version.to_owned()),
    ]
}

/// Who we are: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, and what they leave open.
fn resource() -> Resource {
    let ours = [
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let told = Resource::builder().build();
    let is_open = |ours: &KeyValue| {
        told.get(&ours.key)
            .is_none_or(|value| ours.key.as_str() == "service.name" && value.as_str().starts_with("unknown_service"))
    };
    Resource::builder().with_attributes(ours.into_iter().filter(is_open)).build()
}
