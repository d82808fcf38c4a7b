//! Traces, as a collector gets them: a real server of the published protocol, over gRPC and HTTP, that keeps what it is
//! sent.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use futures_util::{StreamExt as _, stream};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rustix::process::Signal;
use tonic::service::Routes;
use tonic::transport::Server as GrpcServer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status, async_trait};

use crate::client::{self, Connection, SAMPLE};
use crate::database;
use crate::grpc::block_on;
use crate::grpc_inference::{connect, request};
use crate::models::posting;
use crate::support::{PATIENCE, Server, Turn, poll};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// OTLP's numbers.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const ERROR: i32 = 2;

/// What came, one export after the other.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One that listens, by either protocol, until the test process ends.
    fn start() -> (Self, SocketAddr) {
        Self::listen(GrpcServer::builder())
    }

    fn listen(server: GrpcServer) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (collector, address) = (Self::default(), listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let (grpc, http) = (TraceServiceServer::new(collector.clone()), collector.clone());
        let over_http = post(move |body: Bytes| async move {
            http.keep(ExportTraceServiceRequest::decode(body).unwrap());
            ExportTraceServiceResponse::default().encode_to_vec()
        });
        let routes = Routes::new(grpc).into_axum_router().merge(Router::new().route("/v1/traces", over_http));
        let serve = async move {
            let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
            server.accept_http1(true).add_routes(Routes::from(routes)).serve_with_incoming(incoming).await
        };
        thread::Builder::new().name("collector".to_owned()).spawn(|| block_on(serve)).unwrap();
        (collector, address)
    }

    fn keep(&self, export: ExportTraceServiceRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(export);
    }

    fn spans(&self) -> Vec<Span> {
        let exports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let resources = exports.iter().flat_map(|export| &export.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The spans, once those of a batch and of a request to `/predict` are there: their parts come before them.
    fn wait_for_both(&self) -> Vec<Span> {
        self.wait_for("batch", 1);
        self.wait_for("POST /predict/{model}", 1)
    }

    /// The spans, once there are so many of that name.
    fn wait_for(&self, name: &str, count: usize) -> Vec<Span> {
        let named = |spans: &[Span]| spans.iter().filter(|span| span.name == name).count();
        poll(&format!("{count} spans {name}"), || named(&self.spans()) >= count);
        self.spans()
    }
}

/// `torchpod serve` that sends what it traces to `collector` at once, by `protocol`.
fn serve<'turn>(turn: &'turn Turn, collector: SocketAddr, protocol: &str, arguments: &[&str]) -> Server<'turn> {
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-7"),
    ];
    let server = turn.start_with(&variables, arguments);
    server.wait_until("serving");
    server
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn attributes(of: &[KeyValue]) -> HashMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Attribute::StringValue(text)) => text,
        Some(Attribute::IntValue(number)) => number.to_string(),
        other => panic!("{other:?} is none that we send"),
    };
    of.iter().map(|attribute| (attribute.key.as_str(), text(&attribute.value))).collect()
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "one {name} of {spans:#?}");
    found[0]
}

fn children<'a>(spans: &'a [Span], of: &Span) -> Vec<&'a Span> {
    let is_child = |span: &&Span| span.trace_id == of.trace_id && span.parent_span_id == of.span_id;
    let mut found: Vec<_> = spans.iter().filter(is_child).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn kept(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn a_requests_spans_join_its_callers_trace_and_its_batch() {
    let turn = Turn::shared();
    for protocol in ["grpc", "http/protobuf"] {
        let (collector, address) = Collector::start();
        let server = serve(&turn, address, protocol, &[]);
        let request = posting("/v2/models/digits/infer", &[&kept("01"), "X-Request-Id: find-me"], b"{}");
        assert_eq!(client::ask(server.address, &request).unwrap().status, 400);
        let state = "tracestate: vendor=opaque";
        let request = posting("/predict", &[&kept("01"), state, "X-Request-Id: find-me-too"], SAMPLE);
        let answer = client::ask(server.address, &request).unwrap();
        assert_eq!(answer.status, 200);
        let spans = collector.wait_for_both();

        let predicted = only(&spans, "POST /predict/{model}");
        let told = format!("00-{TRACE}-{}-01", hex(&predicted.span_id));
        assert_eq!(answer.header("traceparent"), Some(&*told), "the answer names our span");
        assert_eq!((hex(&predicted.trace_id), hex(&predicted.parent_span_id)), (TRACE.into(), PARENT.into()));
        assert_eq!(predicted.trace_state, "vendor=opaque");
        assert_eq!((predicted.kind, &predicted.status.clone().unwrap_or_default().code), (SERVER, &0));
        let said = attributes(&predicted.attributes);
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/predict/{model}"),
            ("http.response.status_code", "200"),
            ("torchpod.model.name", "digits"),
            ("torchpod.model.version", "1"),
            ("torchpod.outcome", "ok"),
            ("torchpod.request_id", "find-me-too"),
            ("torchpod.rows", "1"),
        ] {
            assert_eq!(said.get(name).map(String::as_str), Some(value), "{name} of {said:?}");
        }

        let stages = children(&spans, predicted);
        let names: Vec<_> = stages.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["receive", "parse", "queue", "compute", "format"]);
        assert!(stages.iter().all(|stage| stage.kind == INTERNAL));
        assert_eq!(stages[0].start_time_unix_nano, predicted.start_time_unix_nano);
        assert_eq!(stages[4].end_time_unix_nano, predicted.end_time_unix_nano);
        for pair in stages.windows(2) {
            assert_eq!(pair[0].end_time_unix_nano, pair[1].start_time_unix_nano, "{pair:#?}");
        }

        let batch = only(&spans, "batch");
        assert_ne!(batch.trace_id, predicted.trace_id, "a batch is nobody's own");
        let linked = |of: &Span, to: &Span| {
            of.links.len() == 1 && of.links[0].trace_id == to.trace_id && of.links[0].span_id == to.span_id
        };
        assert!(linked(batch, predicted) && linked(stages[3], batch), "{batch:#?} {stages:#?}");
        let said = attributes(&batch.attributes);
        assert_eq!((said["torchpod.rows"].as_str(), said["torchpod.cut_reason"].as_str()), ("1", "idle"));
        let computed = children(&spans, batch);
        assert_eq!(computed.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["compute"]);

        let refused = only(&spans, "POST /v2/models/{model}/infer");
        let said = attributes(&refused.attributes);
        assert_eq!(
            (said["torchpod.outcome"].as_str(), said["http.response.status_code"].as_str()),
            ("client_error", "400")
        );
        let reached: Vec<_> = children(&spans, refused).into_iter().map(|span| span.name.as_str()).collect();
        assert_eq!(reached, ["receive", "parse"], "what it did not come to has no span");

        let exports = collector.0.lock().unwrap();
        let resource = exports[0].resource_spans[0].resource.as_ref().unwrap();
        let said = attributes(&resource.attributes);
        assert_eq!((said["service.name"].as_str(), said["k8s.pod.name"].as_str()), ("torchpod", "pod-7"));
        let scope = exports[0].resource_spans[0].scope_spans[0].scope.as_ref().unwrap();
        assert_eq!(scope.name, "torchpod");
    }
}

#[test]
fn a_batch_is_linked_with_every_request_in_it() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let server = serve(&turn, address, "grpc", &["--chaos", "batch-delay=100ms"]);
    let ask = || client::ask(server.address, &posting("/predict", &[], SAMPLE)).unwrap();
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.status == 200));
    let name = "POST /predict/{model}";
    let linked = |spans: &[Span]| -> Vec<(String, String)> {
        let links = spans.iter().filter(|span| span.name == "batch").flat_map(|batch| &batch.links);
        let mut links: Vec<_> = links.map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
        links.sort();
        links
    };
    poll("links to 12 requests", || linked(&collector.spans()).len() == 12);
    let spans = collector.wait_for(name, 12);
    let requests = spans.iter().filter(|span| span.name == name);
    let mut asked: Vec<_> = requests.clone().map(|span| (hex(&span.trace_id), hex(&span.span_id))).collect();
    asked.sort();
    assert_eq!(linked(&spans), asked);
    assert!(requests.clone().all(|span| span.parent_span_id.is_empty()), "each begins a trace");
    let batches = spans.iter().filter(|span| span.name == "batch").count();
    assert!(batches < 12, "some of 12 share a batch of {batches}");
    for answer in answers {
        let told = answer.header("traceparent").expect("whoever asked can find it");
        assert!(asked.contains(&(told[3..35].to_owned(), told[36..52].to_owned())), "{told}");
    }
}

#[test]
fn calls_and_streams_over_grpc_are_traced_message_by_message() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let server = serve(&turn, address, "grpc", &[]);
    let with_parent = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
        request
    };
    block_on(async {
        let mut client = connect(server.grpc).await;
        client.model_infer(with_parent(request(1))).await.unwrap();
        let mut messages = Request::new(stream::iter([request(1), request(2)]));
        *messages.metadata_mut() = with_parent(request(1)).metadata().clone();
        let answers = client.model_stream_infer(messages).await.unwrap().into_inner();
        assert_eq!(answers.count().await, 2);
    });
    let name = "inference.GRPCInferenceService/ModelInfer";
    let spans = collector.wait_for(name, 3);
    let calls: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let mut ids: Vec<_> = calls.iter().map(|span| hex(&span.span_id)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each message has a span of its own");
    for call in calls {
        assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.into(), PARENT.into()));
        let said = attributes(&call.attributes);
        assert_eq!((said["rpc.system"].as_str(), said["rpc.grpc.status_code"].as_str()), ("grpc", "0"));
        assert_eq!(children(&spans, call).len(), 5);
    }
}

#[test]
fn what_fails_is_told_with_the_reason() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let server = serve(&turn, address, "grpc", &["--chaos", "worker-panic-after=0s"]);
    assert_eq!(client::ask(server.address, &posting("/predict", &[&kept("01")], SAMPLE)).unwrap().status, 500);
    let spans = collector.wait_for_both();
    let request = only(&spans, "POST /predict/{model}");
    let status = request.status.clone().unwrap();
    assert_eq!((status.code, status.message.as_str()), (ERROR, "the model failed on this batch"));
    let computed = children(&spans, only(&spans, "batch"))[0].status.clone().unwrap();
    assert_eq!((computed.code, computed.message.as_str()), (ERROR, "the worker panicked"));
}

#[test]
fn what_a_caller_or_the_sampler_does_not_keep_is_not_sent() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ];
    let server = turn.start_with(&variables, &[]);
    server.wait_until("serving");
    let mut connection = Connection::open(server.address).unwrap();
    let unkept = connection.ask(&posting("/predict", &[&kept("00")], SAMPLE)).unwrap();
    assert!(unkept.header("traceparent").is_some_and(|told| told.ends_with("-00")), "{unkept:?}");
    let unasked = connection.ask(&posting("/predict", &[], SAMPLE)).unwrap();
    assert_eq!(unasked.header("traceparent"), None);
    connection.ask(&posting("/predict", &[&kept("01")], SAMPLE)).unwrap();
    let spans = collector.wait_for_both();
    assert_eq!(spans.iter().filter(|span| span.kind == SERVER).count(), 1, "{spans:#?}");
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let turn = Turn::alone();
    let (collector, address) = Collector::start();
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let server = turn.start_with(&variables, &["--drain-delay", "0s"]);
    server.wait_until("serving");
    assert_eq!(client::ask(server.address, &posting("/predict", &[], SAMPLE)).unwrap().status, 200);
    assert!(collector.spans().is_empty(), "nothing is sent for an hour");
    server.signal(Signal::TERM);
    assert_eq!(server.end_within(PATIENCE).code, Some(0));
    let spans = collector.spans();
    only(&spans, "POST /predict/{model}");
    only(&spans, "batch");
}

#[test]
fn a_request_that_is_given_up_in_its_batch_is_told_of_as_far_as_it_came() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let server = serve(&turn, address, "grpc", &["--chaos", "batch-delay=2s"]);
    let late = client::ask(server.address, &posting("/predict", &[&kept("01"), "X-Request-Timeout-Ms: 300"], SAMPLE));
    assert_eq!(late.unwrap().status, 504);
    // Behind the batch of the one before.
    let mut leaves = Connection::open(server.address).unwrap();
    leaves.send(&posting("/predict", &[&kept("01")], SAMPLE)).unwrap();
    let series = "torchpod_queue_duration_seconds_count{model=\"digits\",version=\"1\"}";
    poll("it is in its batch", || client::metric(server.address, series) == Some(2.0));
    drop(leaves);
    let name = "POST /predict/{model}";
    let spans = collector.wait_for(name, 2);
    let ended = |outcome: &str| {
        let found =
            spans.iter().find(|span| span.name == name && attributes(&span.attributes)["torchpod.outcome"] == outcome);
        found.unwrap_or_else(|| panic!("{outcome}: {spans:#?}"))
    };
    let (late, left) = (ended("deadline"), ended("left"));
    assert_eq!(attributes(&late.attributes)["http.response.status_code"], "504");
    assert!(!attributes(&left.attributes).contains_key("http.response.status_code"), "nobody was answered: {left:#?}");
    for request in [late, left] {
        let reached = children(&spans, request);
        let names: Vec<_> = reached.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["receive", "parse", "queue", "compute"]);
        assert_eq!(reached[3].links.len(), 1, "it leads to its batch");
    }
}

#[test]
fn answers_name_only_spans_that_are_sent() {
    let turn = Turn::shared();
    let (collector, address) = Collector::start();
    let server = serve(&turn, address, "grpc", &[]);
    let told = |request: &[u8]| client::ask(server.address, request).unwrap().header("traceparent").map(str::to_owned);
    for path in ["/v2", "/v1/models", "/console/state", "/gone"] {
        assert_eq!(told(&client::get_request(path)), None, "{path}");
    }
    assert_eq!(told(&posting("/predict/gone", &[], SAMPLE)), None);
    let told = told(&posting("/predict", &[], SAMPLE)).expect("a prediction has a span");
    let spans = collector.wait_for("POST /predict/{model}", 1);
    let request = only(&spans, "POST /predict/{model}");
    assert_eq!(told, format!("00-{}-{}-03", hex(&request.trace_id), hex(&request.span_id)));
}

#[test]
fn a_collector_that_hangs_or_is_not_there_holds_up_neither_requests_nor_the_end() {
    let turn = Turn::shared();
    // Bound and never accepted from: connections are made, and nothing is ever answered.
    let (hangs, free) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let gone = free.local_addr().unwrap();
    drop(free);
    for (address, protocol) in [
        (hangs.local_addr().unwrap(), "grpc"),
        (hangs.local_addr().unwrap(), "http/protobuf"),
        (gone, "grpc"),
        (gone, "http/protobuf"),
    ] {
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64"),
        ];
        let server = turn.start_with(&variables, &["--drain-delay", "0s", "--drain-timeout", "1s"]);
        server.wait_until("serving");
        let mut connection = Connection::open(server.address).unwrap();
        for _ in 0..200 {
            assert_eq!(connection.ask(&posting("/predict", &[&kept("01")], SAMPLE)).unwrap().status, 200);
        }
        drop(connection);
        // Of a full queue, or of an export that failed.
        server.log.wait_for("that spans are lost", |line| {
            line["target"].as_str().is_some_and(|target| target.starts_with("opentelemetry"))
        });
        let asked = Instant::now();
        server.signal(Signal::TERM);
        let ended = server.end_within(PATIENCE);
        assert_eq!(ended.code, Some(0), "{protocol}: {}", ended.log.text());
        // Of the grace that is left after the drain, 5 s.
        assert!(asked.elapsed() < Duration::from_secs(5), "{protocol}: the end took {:?}", asked.elapsed());
    }
}

#[test]
fn a_collector_with_a_certificate_of_its_own_is_trusted_where_ssl_cert_file_names_it() {
    let (turn, folder) = (Turn::shared(), tempfile::tempdir().unwrap());
    database::certify(folder.path());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let identity = Identity::from_pem(read("certificate.pem"), read("key.pem"));
    let certificate = folder.path().join("certificate.pem").display().to_string();
    let with_tls = GrpcServer::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let (collector, address) = Collector::listen(with_tls);
    let endpoint = format!("https://{address}");
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let doubting = turn.start_with(&variables, &[]);
    doubting.wait_until("serving");
    assert_eq!(client::ask(doubting.address, &posting("/predict", &[], SAMPLE)).unwrap().status, 200);
    doubting.log.wait_for("that they were not sent", |line| {
        line["target"].as_str().is_some_and(|target| target.starts_with("opentelemetry")) && line["level"] == "ERROR"
    });
    assert!(collector.spans().is_empty());
    variables.push(("SSL_CERT_FILE", &*certificate));
    let trusting = turn.start_with(&variables, &[]);
    trusting.wait_until("serving");
    assert_eq!(client::ask(trusting.address, &posting("/predict", &[], SAMPLE)).unwrap().status, 200);
    collector.wait_for("batch", 1);
}

#[test]
fn a_variable_that_is_wrong_is_refused_by_name() {
    let turn = Turn::shared();
    for (name, value, expected) in [
        ("OTEL_TRACES_SAMPLER", "sometimes", "OTEL_TRACES_SAMPLER sometimes: expected always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG 2: expected a share from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "::", "OTEL_EXPORTER_OTLP_"),
    ] {
        let mut variables =
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_TRACES_SAMPLER", "traceidratio")];
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
        let output = turn.run_with(&variables, &["serve", "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
    }
}
