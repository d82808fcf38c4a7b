//! The table of errors as clients meet it: what goes wrong has one status over HTTP and one code over gRPC.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use tonic::{Code, Request, Status};
use torchpod::api::Kind;
use torchpod::grpc::proto::{ModelInferRequest, RepositoryModelLoadRequest as Load};

use crate::client::{self, Answer, JSON, SAMPLE};
use crate::grpc::block_on;
use crate::grpc_inference::{asking, connect};
use crate::models::{Repository, post, posting, without_golden};
use crate::support::{OverAtEnd, Server, Turn, poll};

const MIB: usize = 1 << 20;

/// What clients rely on: the code that JSON carries, HTTP's status, and gRPC's code.
type Told = (&'static str, u16, Code);

const TABLE: [Told; 17] = [
    ("bad_input", 400, Code::InvalidArgument),
    ("unauthorized", 401, Code::Unauthenticated),
    ("forbidden", 403, Code::PermissionDenied),
    ("not_found", 404, Code::NotFound),
    ("method_not_allowed", 405, Code::Unimplemented),
    ("body_timeout", 408, Code::DeadlineExceeded),
    ("conflict", 409, Code::Aborted),
    ("too_large", 413, Code::ResourceExhausted),
    ("unsupported_media_type", 415, Code::InvalidArgument),
    ("unsupported_encoding", 415, Code::InvalidArgument),
    ("head_too_large", 431, Code::ResourceExhausted),
    ("model_failed", 500, Code::Internal),
    ("load_failed", 500, Code::Internal),
    ("overloaded", 503, Code::Unavailable),
    ("out_of_memory", 503, Code::Unavailable),
    ("not_ready", 503, Code::Unavailable),
    ("deadline_exceeded", 504, Code::DeadlineExceeded),
];

fn told(name: &str) -> Told {
    *TABLE.iter().find(|(known, ..)| *known == name).expect("it is in the table")
}

#[test]
fn every_kind_of_error_has_its_status_and_its_code() {
    let all: Vec<Told> = Kind::all().map(|kind| (kind.name(), kind.status().as_u16(), kind.code())).collect();
    assert_eq!(all, TABLE);
}

/// Asserts that either protocol's answer is that of the table.
fn assert_told(name: &str, answer: &Answer, status: &Status) {
    let got = (answer.json()["error"]["code"].clone(), answer.status, status.code());
    let (name, http, grpc) = told(name);
    assert_eq!(got, (json!(name), http, grpc), "{} and {status:?}", answer.text());
}

fn message(model: &str, shape: &[i64], bytes: usize) -> ModelInferRequest {
    ModelInferRequest { raw_input_contents: vec![vec![0; bytes].into()], ..asking(model, "image", shape) }
}

fn digits() -> ModelInferRequest {
    message("digits", &[1, 8, 8], 256)
}

async fn infer(server: &Server<'_>, request: impl tonic::IntoRequest<ModelInferRequest>) -> Status {
    connect(server.grpc).await.model_infer(request).await.expect_err("an error was asked for")
}

fn refused(server: &Server, request: ModelInferRequest) -> Status {
    block_on(infer(server, request))
}

#[test]
fn what_is_wrong_with_a_request_is_told_alike() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let long = vec![b' '; 65 * MIB];
    for (name, answer, status) in [
        (
            "bad_input",
            client::predict(server.address, JSON, b"{\"inputs\":[[1,2]]}"),
            refused(&server, message("digits", &[1, 2], 8)),
        ),
        ("not_found", post(server.address, "/predict/nobody", SAMPLE), refused(&server, message("nobody", &[1], 4))),
        (
            "too_large",
            client::predict(server.address, JSON, &long),
            refused(&server, message("digits", &[1], long.len())),
        ),
    ] {
        assert_told(name, &answer, &status);
    }
}

#[test]
fn what_a_server_cannot_do_now_is_told_alike() {
    let turn = Turn::shared();
    let loading = turn.start(&["--chaos", "load-delay=60s"]);
    assert_told("not_ready", &client::predict(loading.address, JSON, SAMPLE), &refused(&loading, digits()));

    let slow = turn.serve(&["--chaos", "batch-delay=1s", "--max-queue", "1"]);
    let limit = ["X-Request-Timeout-Ms: 100"];
    let late = client::ask(slow.address, &posting("/predict", &limit, SAMPLE)).unwrap();
    let mut request = Request::new(digits());
    request.metadata_mut().insert("x-request-timeout-ms", "100".parse().unwrap());
    assert_told("deadline_exceeded", &late, &block_on(infer(&slow, request)));

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    client::predict(slow.address, JSON, SAMPLE);
                }
            });
        }
        let _over = OverAtEnd(&done);
        let (mut http, mut grpc) = (None, None);
        poll("both are refused", || {
            let answer = client::predict(slow.address, JSON, SAMPLE);
            http = http.take().or(Some(answer).filter(|answer| answer.status != 200));
            let answer = block_on(async { connect(slow.grpc).await.model_infer(digits()).await });
            grpc = grpc.take().or(answer.err());
            http.is_some() && grpc.is_some()
        });
        assert_told("overloaded", &http.unwrap(), &grpc.unwrap());
    });
}

#[test]
fn what_a_model_cannot_do_is_told_alike() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["raises"]));
    let server = turn.serve(&[repository.path()]);
    let answer = client::predict(server.address, JSON, b"{\"inputs\":[[1,2,300]]}");
    let raw_input_contents = vec![[1_f32, 2.0, 300.0].map(f32::to_le_bytes).concat().into()];
    let request = ModelInferRequest { raw_input_contents, ..asking("raises", "x", &[1, 3]) };
    let status = refused(&server, request);
    assert_told("model_failed", &answer, &status);
}

/// An order's status over both protocols; `/v2` says what went wrong in words only.
fn ordered(http: SocketAddr, grpc: SocketAddr, model: &str, token: Option<&str>) -> (u16, Code) {
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    let path = format!("/v2/repository/models/{model}/load");
    let request = posting(&path, &header.as_deref().into_iter().collect::<Vec<_>>(), b"");
    let answer = client::ask(http, &request).unwrap_or_else(|error| panic!("{error} for {path}"));
    let load = Load { model_name: model.to_owned(), ..Load::default() };
    let mut request = Request::new(load);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let loaded = block_on(async { connect(grpc).await.repository_model_load(request).await });
    (answer.status, loaded.map_or_else(|status| status.code(), |_| Code::Ok))
}

#[test]
fn orders_that_are_not_carried_out_are_told_alike() {
    let told = |name: &str| (told(name).1, told(name).2);
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let token = [("TORCHPOD_CONTROL_TOKEN", "right")];
    let explicit = turn.start_with(&token, &[repository.path(), "--model-control", "explicit"]);
    explicit.wait_until("serving");
    // It would end the start.
    repository.describe("broken", &without_golden());
    repository.put("broken", 1, b"no archive");
    for (model, token, name) in [
        ("digits", None, "unauthorized"),
        ("digits", Some("wrong"), "unauthorized"),
        ("nobody", Some("right"), "not_found"),
        ("broken", Some("right"), "load_failed"),
    ] {
        assert_eq!(ordered(explicit.address, explicit.grpc, model, token), told(name), "{model} {token:?}");
    }
    let fixed = turn.start_with(&token, &[]);
    fixed.wait_until("serving");
    assert_eq!(ordered(fixed.address, fixed.grpc, "digits", Some("right")), told("forbidden"));
}
