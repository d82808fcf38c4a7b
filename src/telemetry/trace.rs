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

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};

use super::metrics::CutReason;
use settings::Settings;
use span::Clock;

/// How long the end waits for batches that are answered and not told of yet.
const AFTERWORD: Duration = Duration::from_millis(50);

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
    /// The caller's `tracestate`.
    pub state: TraceState,
    /// What was called: few names for many requests.
    pub name: &'static str,
    pub attributes: Vec<KeyValue>,
    /// What went wrong, where it was not for the client to prevent.
    pub failure: Option<&'a str>,
    pub from: Instant,
    pub to: Instant,
    pub parts: Vec<Part>,
}

/// One stage of a request.
pub struct Part {
    pub name: &'static str,
    pub from: Instant,
    pub to: Instant,
    /// The batch that it was in.
    pub link: Option<Place>,
}

/// A batch with requests that are kept.
pub struct Batch {
    pub place: Place,
    requests: Vec<Place>,
    began: Instant,
    rows: usize,
    reason: CutReason,
}

/// Makes spans, and has them sent.
#[derive(Debug)]
pub struct Tracer {
    processor: BatchSpanProcessor,
    settings: Settings,
    scope: InstrumentationScope,
    /// Those that have begun and are not told of yet.
    batches: AtomicUsize,
    has_ended: AtomicBool,
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
        let (batches, has_ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { processor, settings, scope: scope.build(), batches, has_ended })
    }

    /// Whether a request in this trace is kept; `caller` is what its caller has decided for itself, if there is one.
    pub fn keeps(&self, trace: TraceId, caller: Option<bool>) -> bool {
        self.settings.keeps(trace, caller)
    }

    /// A batch of `rows` rows has begun, with these `requests` that are kept; without any, it is not told of.
    pub fn begin_batch(
        &self,
        requests: impl Iterator<Item = Place>,
        began: Instant,
        rows: usize,
        reason: CutReason,
    ) -> Option<Batch> {
        let requests: Vec<Place> = requests.collect();
        if requests.is_empty() {
            return None;
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        Some(Batch { place: Place::root(), requests, began, rows, reason })
    }

    /// Tells of a request, and then of its parts: where the queue of spans is full, these are what is missing.
    pub fn request(&self, request: Request<'_>) {
        let Request { place, parent, state, name, attributes, failure, from, to, parts } = request;
        let clock = Clock::now();
        let mut span = clock.span(&self.scope, place, parent, name, (from, to));
        span.span_context = span::context(place, state.clone());
        span.span_kind = SpanKind::Server;
        span.parent_span_is_remote = parent.is_some();
        span.attributes = attributes;
        if let Some(failure) = failure {
            span.status = Status::error(failure.to_owned());
        }
        self.send(span);
        for Part { name, from, to, link } in parts {
            let mut span = clock.span(&self.scope, Place::within(place.trace), Some(place.span), name, (from, to));
            span.links.links.extend(link.map(span::link));
            self.send(span);
        }
    }

    /// Tells of one go at computing (a part of) a batch of `rows` rows, and why there were no outputs.
    pub fn compute(&self, batch: Place, began: Instant, rows: usize, failure: Option<String>) {
        let times = (began, Instant::now());
        let mut span = Clock::now().span(&self.scope, Place::within(batch.trace), Some(batch.span), "compute", times);
        span.attributes = vec![span::number("torchpod.rows", rows)];
        if let Some(failure) = failure {
            span.status = Status::error(failure);
        }
        self.send(span);
    }

    /// Tells of a batch of that model that has been answered.
    pub fn end_batch(&self, batch: Batch, name: &str, version: &str) {
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
        self.send(span);
        self.batches.fetch_sub(1, Ordering::Release);
    }

    /// Queues a span for its collector; one that comes after the end is lost.
    fn send(&self, span: SpanData) {
        if !self.has_ended.load(Ordering::Relaxed) {
            self.processor.on_end(span);
        }
    }

    /// Sends what is left, as far as that takes no longer than `limit`. Blocks.
    ///
    /// # Errors
    /// If some of it may not have been sent.
    pub fn finish(&self, limit: Duration) -> OTelSdkResult {
        let asked = Instant::now();
        // A worker tells of its batch a moment after it has answered the last request.
        while self.batches.load(Ordering::Acquire) > 0 && asked.elapsed() < AFTERWORD {
            thread::sleep(Duration::from_millis(1));
        }
        self.has_ended.store(true, Ordering::Relaxed);
        self.processor.shutdown_with_timeout(limit)
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
