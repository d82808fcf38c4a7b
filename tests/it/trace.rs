//! W3C Trace Context: answers and log lines that can be joined with the traces of whoever asked.

use crate::client::{self, Answer, Connection, SAMPLE};
use crate::grpc::block_on;
use crate::grpc_inference::{connect, request};
use crate::models::posting;
use crate::support::Turn;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Its four fields.
fn answered(answer: &Answer) -> Vec<String> {
    let value = answer.header("traceparent").unwrap_or_else(|| panic!("{answer:?} has a traceparent"));
    value.split('-').map(str::to_owned).collect()
}

#[test]
fn an_answer_is_in_its_requests_trace_by_a_span_of_its_own() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let mut connection = Connection::open(server.address).unwrap();
    let mut spans = Vec::new();
    for (path, status) in [("/predict", 200), ("/predict/gone", 404), ("/v2/models/digits/infer", 400), ("/gone", 404)]
    {
        for flags in ["00", "01"] {
            let parent = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
            let request = posting(path, &[&parent, "tracestate: vendor=opaque,other=1"], SAMPLE);
            let answer = connection.ask(&request).unwrap();
            assert_eq!((answer.status, answer.header("tracestate")), (status, Some("vendor=opaque,other=1")), "{path}");
            let fields = answered(&answer);
            assert_eq!([&*fields[0], &*fields[1], &*fields[3]], ["00", TRACE, flags], "{path}");
            assert!(fields[2].len() == 16 && fields[2] != PARENT, "{fields:?}");
            spans.push(fields[2].clone());
        }
    }
    let spoken = spans.len();
    spans.sort();
    spans.dedup();
    assert_eq!(spans.len(), spoken, "every span has an id of its own");
}

#[test]
fn a_call_over_grpc_is_in_its_trace_and_so_is_its_error() {
    let turn = Turn::shared();
    let server = turn.serve(&["--log-filter", "info,torchpod::http=debug"]);
    let ask = |images: usize| {
        let mut request = tonic::Request::new(request(images));
        let parent = format!("00-{TRACE}-{PARENT}-01");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        block_on(async { connect(server.grpc).await.model_infer(request).await })
    };
    let answered = ask(1).unwrap().metadata().clone();
    let refused = ask(0).unwrap_err().metadata().clone();
    for (images, grpc_status) in [(1, None), (0, Some("3"))] {
        let line = server
            .log
            .wait_for("its line", |line| line["grpc_status"].as_str() == grpc_status && line["message"] == "answered");
        assert_eq!((&line["trace_id"], &line["status"]), (&TRACE.into(), &200.into()), "{images} images: {line}");
        assert_eq!(
            line["uri"].as_str().map(|uri| uri.ends_with("/inference.GRPCInferenceService/ModelInfer")),
            Some(true)
        );
    }
    for metadata in [answered, refused] {
        let value = metadata.get("traceparent").expect("it has one").to_str().unwrap();
        assert!(value.starts_with(&format!("00-{TRACE}-")) && !value.contains(PARENT), "{value}");
    }
}

#[test]
fn a_request_in_no_trace_or_an_invalid_one_is_answered_without() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let zeros = format!("traceparent: 00-{}-{PARENT}-01", "0".repeat(32));
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    for lines in [&[][..], &["traceparent: what"], &[&zeros], &[&valid, &valid], &["tracestate: vendor=opaque"]] {
        let answer = client::ask(server.address, &posting("/predict", lines, SAMPLE)).unwrap();
        let headers = [answer.header("traceparent"), answer.header("tracestate")];
        assert_eq!((answer.status, headers), (200, [None; 2]), "{lines:?}");
    }
    let probe = client::request("GET", "/ready", &[&valid], b"");
    assert_eq!(client::ask(server.address, &probe).unwrap().header("traceparent"), None, "probes are spared it");
}

#[test]
fn a_request_is_found_in_the_log_by_its_trace() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "worker-panic-after=0s", "--log-filter", "info,torchpod::http=debug"]);
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let request = posting("/predict", &[&parent, "X-Request-Id: find-me"], SAMPLE);
    assert_eq!(client::ask(server.address, &request).unwrap().status, 500);
    let line = server.log.wait_for("the failed request", |line| line["message"] == "request failed");
    assert_eq!((&line["trace_id"], &line["request_id"]), (&TRACE.into(), &"find-me".into()), "{line}");
    let line = server.log.wait_for("its line", |line| line["message"] == "answered");
    assert_eq!((&line["status"], &line["trace_id"]), (&500.into(), &TRACE.into()), "{line}");
    assert_eq!((&line["request_id"], &line["level"]), (&"find-me".into(), &"DEBUG".into()), "{line}");
    assert_eq!((&line["method"], &line["uri"]), (&"POST".into(), &"/predict".into()), "{line}");
}
