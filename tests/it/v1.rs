//! Version 1 of `KServe`'s protocol, which is `TensorFlow` Serving's: rows in, predictions out, or columns in, outputs out.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{self, Answer, JSON, RAW, SAMPLE};
use crate::models::{self, Repository};
use crate::support::{Server, Turn};

const ROW_SUM: &str = "/v1/models/row_sum:predict";

fn predict(address: SocketAddr, path: &str, body: &Value) -> Answer {
    models::post(address, path, body.to_string().as_bytes())
}

fn row_sum(turn: &Turn) -> (Repository, Server<'_>) {
    let repository = Repository::odd(&["row_sum", "two_inputs", "mean_of_batch", "half", "same"]);
    fs::write(repository.folder("row_sum").join("model.toml"), models::ROW_SUM).unwrap();
    let server = turn.serve(&[repository.path()]);
    (repository, server)
}

/// The error's text.
fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The text between the two, as it was sent: parsed, numbers could be rounded to each other.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start} is in {text}"));
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is in {rest}")).0
}

#[test]
fn the_same_rows_give_the_same_numbers_whatever_they_are_asked_by() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    let address = server.address;
    // Neither these nor their sums are short in binary.
    let rows = [[0.1_f32, 1e-7, 3.3], [16_777_217.0, 0.7, -1e30], [1.0 / 3.0, -0.0, 5e-45]];
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    let flat = rows.concat();
    let input = |data: Value| json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [3, 3], "data": data }] });
    let named: Vec<_> = rows.iter().map(|row| json!({ "x": row })).collect();

    let plain = predict(address, "/predict/row_sum", &json!({ "inputs": rows })).text();
    let sums = between(&plain, "\"sums\":[", "]").to_owned();
    assert_eq!(sums.split(',').count(), 3, "{plain}");
    let sums_of_bytes = {
        let raw = [format!("Content-Type: {RAW}"), format!("Content-Length: {}", bytes.len())];
        let request = client::request("POST", "/predict/row_sum", &[&raw[0], &raw[1]], &bytes);
        client::ask(address, &request).unwrap().text()
    };
    assert_eq!(sums_of_bytes, plain);
    for data in [json!(rows), json!(flat)] {
        let answer = predict(address, "/v2/models/row_sum/infer", &input(data)).text();
        assert_eq!(between(&answer, "\"shape\":[3],\"data\":[", "]"), sums, "{answer}");
    }
    let answer = predict(address, ROW_SUM, &json!({ "inputs": rows })).text();
    assert_eq!(between(&answer, "\"sums\":[", "]"), sums, "{answer}");
    for instances in [json!(rows), json!(named)] {
        let answer = predict(address, ROW_SUM, &json!({ "instances": instances })).text();
        let got: Vec<&str> = answer.split("\"sums\":").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(got.join(","), sums, "{answer}");
    }
    // In the binary extension the bits themselves come back.
    let head = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [3, 3], "parameters": { "binary_data_size": bytes.len() } }],
        "outputs": [{ "name": "sums", "parameters": { "binary_data": true } }],
    });
    let head = head.to_string();
    let length = format!("Inference-Header-Content-Length: {}", head.len());
    let body = [head.as_bytes(), &bytes].concat();
    let answer = client::ask(address, &models::posting("/v2/models/row_sum/infer", &[&length], &body)).unwrap();
    let json: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let raw = answer.body[json..].chunks_exact(4).map(|sum| f32::from_le_bytes(sum.try_into().unwrap()));
    let parsed = sums.split(',').map(|sum| sum.parse::<f32>().unwrap());
    assert_eq!(raw.map(f32::to_bits).collect::<Vec<_>>(), parsed.map(f32::to_bits).collect::<Vec<_>>());
}

#[test]
fn the_answer_has_the_form_of_the_request() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    let several = [json!({ "rows": [1.0, 2.0, 3.0], "sums": 6.0 }), json!({ "rows": [4.0, 5.0, 6.5], "sums": 15.5 })];
    let columns = json!({ "rows": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]], "sums": [6.0, 15.5] });
    let x = json!([[1, 2, 3], [4, 5, 6.5]]);
    for (model, body, expected) in [
        ("row_sum", json!({ "instances": x }), json!({ "predictions": several })),
        ("row_sum", json!({ "inputs": x }), json!({ "outputs": columns })),
        (
            "row_sum",
            json!({ "inputs": { "x": x }, "signature_name": "serving_default" }),
            json!({ "outputs": columns }),
        ),
        // Two inputs, and one output: 2a + b.
        (
            "two_inputs",
            json!({ "instances": [{ "b": [1, 1, 1], "a": [1, 2, 3] }, { "a": [0, 0, 0], "b": [7, 8, 9] }] }),
            json!({ "predictions": [[3.0, 5.0, 7.0], [7.0, 8.0, 9.0]] }),
        ),
        (
            "two_inputs",
            json!({ "inputs": { "b": [[1, 1, 1]], "a": [[1, 2, 3]] } }),
            json!({ "outputs": [[3.0, 5.0, 7.0]] }),
        ),
        // An output without rows, of the columns as a whole.
        ("mean_of_batch", json!({ "inputs": [[1, 2, 3], [4, 5, 6]] }), json!({ "outputs": 3.5 })),
        // A type that JSON does not know.
        ("half", json!({ "instances": [[1, 3, 65504]] }), json!({ "predictions": [[0.5, 1.5, 32752.0]] })),
        // Nothing describes this one: the numbers do.
        (
            "same",
            json!({ "instances": [{ "x": [1, 2] }, { "x": [3, 4] }] }),
            json!({ "predictions": [[1, 2], [3, 4]] }),
        ),
    ] {
        for path in [format!("/v1/models/{model}:predict"), format!("/v1/models/{model}/versions/1:predict")] {
            let answer = predict(server.address, &path, &body);
            assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{path} {body}");
            assert_eq!(answer.header("torchpod-model"), Some(model));
            assert_eq!(answer.header("torchpod-model-version"), Some("1"));
            assert_eq!(answer.header("content-type"), Some(JSON));
        }
    }
}

#[test]
fn each_row_gets_its_own_prediction_however_many_there_are() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    // Beyond a batch, and beyond what is parsed on the threads that answer probes.
    let rows: Vec<_> = (0..20_000).map(|row| json!({ "x": [row, 1, 0.5] })).collect();
    let answer = predict(server.address, ROW_SUM, &json!({ "instances": rows }));
    let predictions = answer.json()["predictions"].clone();
    assert_eq!(predictions.as_array().map(Vec::len), Some(20_000));
    for (row, prediction) in predictions.as_array().unwrap().iter().enumerate() {
        let first = u16::try_from(row).unwrap();
        assert_eq!(*prediction, json!({ "rows": [f32::from(first), 1.0, 0.5], "sums": f32::from(first) + 1.5 }));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_row_and_what_was_expected() {
    let turn = Turn::shared();
    let (_repository, server) = row_sum(&turn);
    for (model, body, words) in [
        ("row_sum", "", &["EOF"][..]),
        ("row_sum", "[[1,2,3]]", &["instances", "inputs"]),
        ("row_sum", "{\"instance\":[[1,2,3]]}", &["instances", "inputs", "missing"]),
        ("row_sum", r#"{"instances":[[1,2,3]],"inputs":[[1,2,3]]}"#, &["both", "expected one"]),
        ("row_sum", r#"{"instances":[]}"#, &["no rows", "at least one"]),
        ("row_sum", r#"{"instances":[1,2,3]}"#, &["x", "[]", "[3]"]),
        ("row_sum", r#"{"instances":[[1,2,3],[1,2,3,4]]}"#, &["instances[1]", "4 elements", "3"]),
        ("row_sum", r#"{"instances":[[1,2]]}"#, &["x", "[2]", "[3]"]),
        ("row_sum", r#"{"instances":[[1,"2",3]]}"#, &["instances[0][1]", "\"2\"", "FP32"]),
        ("row_sum", r#"{"instances":[{"y":[1,2,3]}]}"#, &["instances[0]", "\"y\"", "expected x"]),
        ("row_sum", r#"{"instances":[{"x":[1e39,2,3]}]}"#, &["instances[0].x[0]", "out of range"]),
        ("row_sum", r#"{"inputs":[[1,2]]}"#, &["x", "[1, 2]", "[-1, 3]"]),
        ("two_inputs", r#"{"instances":[[1,2,3]]}"#, &["instances[0]", "a, b"]),
        ("two_inputs", r#"{"instances":[{"a":[1,2,3]}]}"#, &["instances[0]", "b is missing"]),
        ("two_inputs", r#"{"instances":[{"a":[1,2,3],"a":[1,2,3]}]}"#, &["instances[0]", "a is given twice"]),
        ("two_inputs", r#"{"inputs":{"a":[[1,2,3]],"b":[[1,2,3],[4,5,6]]}}"#, &["b", "2 rows", "expected 1"]),
        ("mean_of_batch", r#"{"instances":[[1,2,3],[4,5,6]]}"#, &["mean", "[]", "2 instances", "inputs"]),
    ] {
        let answer = models::post(server.address, &format!("/v1/models/{model}:predict"), body.as_bytes());
        let error = error(&answer);
        assert_eq!(answer.status, 400, "{body}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{body}: {error:?} has {words:?}");
        assert_eq!(answer.header("torchpod-model"), Some(model), "errors say who gave them");
    }
    for (path, words) in [
        ("/v1/models/nobody:predict", &["nobody", "row_sum@1"][..]),
        ("/v1/models/row_sum/versions/9:predict", &["version 9", "row_sum@1"]),
        ("/v1/models/row_sum", &["row_sum", ":predict"]),
        ("/v1/models/row_sum:classify", &["row_sum:classify", ":predict"]),
        ("/v1/models/row_sum:predict/versions/1", &["\"1\"", ":predict"]),
        ("/v1/models/%ff:predict", &["UTF-8"]),
    ] {
        let answer = models::post(server.address, path, br#"{"instances":[[1,2,3]]}"#);
        let error = error(&answer);
        assert_eq!(answer.status, 404, "{path}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{path}: {error:?} has {words:?}");
    }
    // It still answers, after all of that.
    assert_eq!(predict(server.address, ROW_SUM, &json!({ "instances": [[1, 2, 3]] })).status, 200);
}

#[test]
fn a_deadline_counts_and_so_does_the_request() {
    let turn = Turn::shared();
    let repository = Repository::odd(&["row_sum"]);
    let server = turn.serve(&[repository.path(), "--chaos", "batch-delay=2s"]);
    let body = json!({ "instances": [[1, 2, 3]] }).to_string();
    let ask =
        |header: &str| client::ask(server.address, &models::posting(ROW_SUM, &[header], body.as_bytes())).unwrap();
    let late = ask("X-Request-Timeout-Ms: 50");
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(error(&late).contains("deadline"), "{}", late.text());
    let odd = ask("Torchpod-Priority: urgent");
    assert!(odd.status == 400 && error(&odd).contains("urgent"), "{}", odd.text());
    let odd = ask("Content-Encoding: br");
    assert!(odd.status == 415 && error(&odd).contains("br"), "{}", odd.text());
    let series = |outcome| {
        format!("torchpod_requests_total{{model=\"row_sum\",version=\"1\",protocol=\"v1\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(client::count(server.address, &series("deadline")), 1);
    assert_eq!(client::count(server.address, &series("client_error")), 2);
}

#[test]
fn models_are_told_in_the_words_of_both_protocols() {
    let turn = Turn::shared();
    let repository = Repository::of("digits");
    repository.add("digits", 2);
    repository.describe("digits", &format!("versions = \"all\"\n{}", models::without_golden()));
    let server = turn.start(&[repository.path(), "--chaos", "load-delay=2s"]);
    let get = |path: &str| client::get(server.address, path);
    let early = [get("/v1/models/digits"), predict(server.address, "/v1/models/digits:predict", &json!({}))];
    for answer in &early {
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", answer.text());
        assert!(error(answer).contains("not serving"), "{}", answer.text());
    }
    assert_eq!(get("/v1/models").json(), json!({ "models": [] }));
    server.wait_until("serving");
    assert_eq!(get("/v1/models").json(), json!({ "models": ["digits"] }));
    let version = |version: &str| json!({ "version": version, "state": "AVAILABLE", "status": { "error_code": "OK", "error_message": "" } });
    let told = |versions: &[&str]| {
        let versions: Vec<_> = versions.iter().copied().map(version).collect();
        json!({ "name": "digits", "ready": true, "model_version_status": versions })
    };
    assert_eq!(get("/v1/models/digits").json(), told(&["1", "2"]));
    assert_eq!(get("/v1/models/digits/versions/1").json(), told(&["1"]));
    for (path, words) in [("/v1/models/nobody", "nobody"), ("/v1/models/digits/versions/9", "version 9")] {
        let answer = get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(error(&answer).contains(words) && error(&answer).contains("digits@1"), "{}", answer.text());
    }
    // Each version computes with its own weights.
    let image = serde_json::from_slice::<Value>(SAMPLE).unwrap()["inputs"].clone();
    for version in ["1", "2"] {
        let path = format!("/v1/models/digits/versions/{version}:predict");
        let answer = predict(server.address, &path, &json!({ "inputs": image }));
        assert_eq!(answer.header("torchpod-model-version"), Some(version), "{}", answer.text());
    }
}

#[test]
fn it_is_spoken_where_predictions_are_made_and_nowhere_else() {
    let turn = Turn::shared();
    let server = turn.serve(&["--probe-listen", crate::support::ANY_PORT]);
    let body = json!({ "instances": [{ "image": vec![vec![0; 8]; 8] }] });
    let path = "/v1/models/digits:predict";
    assert_eq!(predict(server.address, path, &body).status, 200);
    let probes = predict(server.probe.unwrap(), path, &body);
    assert!(probes.status == 404 && probes.text().contains("--listen"), "{}", probes.text());
    let delete = client::ask(server.address, &client::request("DELETE", "/v1/models/digits", &[], b"")).unwrap();
    assert_eq!((delete.status, delete.header("allow")), (405, Some("GET,HEAD,POST")), "{}", delete.text());
}
