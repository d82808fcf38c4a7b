//! The Open Inference Protocol over REST, beyond what Triton's own client can be made to send: `conformance` has that.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::models::{self, Repository};
use crate::support::{Server, Turn};

const HEADER_LENGTH: &str = "inference-header-content-length";

fn infer(address: SocketAddr, body: &Value) -> Answer {
    models::post(address, "/v2/models/row_sum/infer", body.to_string().as_bytes())
}

/// A request whose first part is JSON.
fn infer_binary(address: SocketAddr, length: &str, body: &[u8]) -> Answer {
    let header = format!("{HEADER_LENGTH}: {length}");
    client::ask(address, &models::posting("/v2/models/row_sum/infer", &[&header], body)).unwrap()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn row_sum(turn: &Turn) -> (Repository, Server<'_>) {
    let repository = Repository::odd(&["row_sum"]);
    std::fs::write(repository.folder("row_sum").join("model.toml"), models::ROW_SUM).unwrap();
    let server = turn.serve(&[repository.path()]);
    (repository, server)
}

#[test]
fn fields_come_in_any_order_and_data_flat_or_nested() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    for input in [
        r#"{"name":"x","datatype":"FP32","shape":[2,3],"data":[1,2,3,4,5,6]}"#,
        r#"{"data":[[1,2,3],[4,5,6]],"shape":[2,3],"datatype":"FP32","name":"x"}"#,
        r#"{"parameters":{},"data":[1e0,2.0,3,4,5,6],"datatype":"FP32","name":"x","shape":[2,3]}"#,
    ] {
        let body = format!("{{\"id\":\"seven\",\"inputs\":[{input}]}}");
        let answer = models::post(server.address, "/v2/models/row_sum/versions/1/infer", body.as_bytes());
        let expected = json!({
            "id": "seven", "model_name": "row_sum", "model_version": "1",
            "outputs": [
                { "name": "rows", "datatype": "FP32", "shape": [2, 3], "data": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] },
                { "name": "sums", "datatype": "FP32", "shape": [2], "data": [6.0, 15.0] },
            ],
        });
        assert_eq!((answer.status, answer.json()), (200, expected), "{input}");
        assert_eq!(answer.header("torchpod-model"), Some("row_sum"));
    }
}

#[test]
fn bytes_behind_the_json_are_tensors_and_come_back_as_such() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": { "binary_data_size": 12 } });
    let wanted = json!([{ "name": "sums", "parameters": { "binary_data": true } }, { "name": "rows" }]);
    let head = json!({ "inputs": [input], "outputs": wanted }).to_string();
    let body = [head.as_bytes(), &floats(&[1.5, 2.0, -4.0])].concat();
    let answer = infer_binary(server.address, &head.len().to_string(), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let length: usize = answer.header(HEADER_LENGTH).unwrap().parse().unwrap();
    let json: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4);
    assert_eq!(json["outputs"][1]["data"], json!([1.5, 2.0, -4.0]));
    assert_eq!(answer.body[length..], (-0.5_f32).to_le_bytes());
    // No JSON at all: the model's only input, and all its outputs as bytes.
    let answer = infer_binary(server.address, "0", &floats(&[1.0, 2.0, 3.0]));
    let length: usize = answer.header(HEADER_LENGTH).unwrap().parse().unwrap();
    assert_eq!(answer.body[length..], floats(&[1.0, 2.0, 3.0, 6.0]));
}

#[test]
fn what_is_wrong_is_told_with_its_name_and_what_was_expected() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    let x = |change: Value| {
        let mut input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] });
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        json!({ "inputs": [input] })
    };
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let good = x(json!({}));
    for (body, words) in [
        (json!({}), &["inputs"][..]),
        (json!({ "inputs": [] }), &["x", "missing"]),
        (json!({ "inputs": [good["inputs"][0], good["inputs"][0]] }), &["x", "twice"]),
        (x(json!({ "name": "y" })), &["y", "expected x"]),
        (x(json!({ "datatype": "FLOAT" })), &["x", "FLOAT", "FP32"]),
        (x(json!({ "datatype": "INT8" })), &["x", "INT8", "FP32"]),
        (x(json!({ "shape": [1, 4] })), &["x", "[3]", "4 values"]),
        (x(json!({ "shape": [3, 1] })), &["x", "[3, 1]", "[-1, 3]"]),
        (x(json!({ "shape": [-1, 3] })), &["x", "[-1, 3]", "at least 0"]),
        (x(json!({ "shape": [1_u64 << 62, 1_u64 << 62] })), &["x", "fewer elements"]),
        (x(json!({ "shape": [0, 3], "data": [] })), &["x", "at least one"]),
        (x(json!({ "data": [1, "two", 3] })), &["x[1]", "two", "FP32"]),
        (x(json!({ "data": [[1, 2], [3]] })), &["x[1]", "expected 2"]),
        (x(json!({ "data": null })), &["x", "missing"]),
        (x(json!({ "parameters": { "binary_data_size": 12 } })), &["x", "both"]),
        (x(json!({ "data": null, "parameters": { "binary_data_size": 12 } })), &["x", HEADER_LENGTH]),
        (x(json!({ "parameters": { "shared_memory_region": "r" } })), &["shared_memory_region", "none"]),
        (with(good.clone(), "outputs", json!([{ "name": "z" }])), &["z", "rows, sums"]),
        (with(good.clone(), "parameters", json!({ "sequence_id": 3 })), &["sequence_id"]),
        (with(good.clone(), "parameters", json!({ "timeout": "soon" })), &["timeout", "soon", "microseconds"]),
        (with(good.clone(), "id", json!(7)), &["7", "string"]),
    ] {
        let answer = infer(server.address, &body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{body} {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{body}: {error:?} has {words:?}");
    }
    let head = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": { "binary_data_size": 12 } }] });
    let head = head.to_string();
    for (length, extra, words) in [
        (head.len().to_string(), 11, "11 bytes that are left"),
        (head.len().to_string(), 13, "1 bytes are left behind"),
        ("9999".to_owned(), 12, "at most the body's"),
        ("many".to_owned(), 12, "a number of bytes"),
    ] {
        let answer = infer_binary(server.address, &length, &[head.as_bytes(), &vec![0; extra]].concat());
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    let answer = infer_binary(server.address, "0", &[0; 3]);
    assert!(answer.status == 400 && answer.text().contains("a multiple of 12"), "{}", answer.text());
}

#[test]
fn a_requests_own_timeout_is_a_deadline() {
    let turn = Turn::shared();
    let repository = Repository::odd(&["row_sum"]);
    let server = turn.serve(&[repository.path(), "--chaos", "batch-delay=2s"]);
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] });
    let answer = infer(server.address, &json!({ "inputs": [input], "parameters": { "timeout": 50_000 } }));
    assert_eq!(answer.status, 504, "{}", answer.text());
}

#[test]
fn health_and_models_are_told_before_and_after_the_server_is_ready() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=2s"]);
    let get = |path: &str| client::get(server.address, path);
    assert_eq!(get("/v2/health/live").json(), json!({ "live": true }));
    let early = [get("/v2/health/ready"), get("/v2/models/digits/ready"), get("/v2/models/digits")];
    assert_eq!(early.map(|answer| answer.status), [503; 3]);
    assert_eq!(get("/v2").json()["name"], "torchpod");
    server.wait_until("serving");
    assert_eq!(get("/v2/health/ready").json(), json!({ "ready": true }));
    assert_eq!(get("/v2/models/digits/ready").json(), json!({ "name": "digits", "ready": true }));
    let missing = get("/v2/models/digits/versions/9/ready");
    assert_eq!(missing.status, 404);
    assert!(missing.json()["error"].as_str().unwrap().contains("digits@1"), "{}", missing.text());
    let inputs = &get("/v2/models/digits").json()["inputs"];
    assert_eq!(*inputs, json!([{ "name": "image", "datatype": "FP32", "shape": [-1, 8, 8] }]));
}
