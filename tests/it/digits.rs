//! The shipped model through every kind of body: are the answers those of the training run?

use std::thread;

use serde_json::{Value, json};

use crate::client::{self, Answer, JSON, NPY, RAW, SAMPLE};
use crate::models::forms;
use crate::support::{ROOT, Server, Turn};

const ROWS: usize = 200;

/// The golden file: what goes in, what must come out, and what the digits really are.
pub(crate) struct Golden {
    images: Vec<Value>,
    logits: Vec<Vec<f64>>,
    labels: Vec<String>,
}

pub(crate) fn golden() -> Golden {
    let text = std::fs::read_to_string(format!("{ROOT}/models/digits/golden.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let labels = file["labels"].as_array().unwrap().iter().map(Value::to_string).collect();
    let images = file["inputs"]["image"].as_array().unwrap().clone();
    let golden = Golden { images, logits: rows(&file["outputs"]["logits"]), labels };
    assert_eq!((golden.images.len(), golden.logits.len(), golden.labels.len()), (ROWS, ROWS, ROWS));
    golden
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

impl Golden {
    /// Row-major little-endian FP32.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let pixels = self.images.iter().flat_map(|image| rows(image).concat());
        #[allow(clippy::cast_possible_truncation)] // 0 to 16
        pixels.flat_map(|pixel| (pixel as f32).to_le_bytes()).collect()
    }

    /// Checks an answer to all rows.
    fn check(&self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        self.check_rows(&rows(&answer["outputs"]["logits"]), answer["predictions"].as_array().unwrap());
    }

    fn check_rows(&self, logits: &[Vec<f64>], predictions: &[Value]) {
        assert_eq!((logits.len(), predictions.len()), (ROWS, ROWS));
        for (row, (got, expected)) in logits.iter().zip(&self.logits).enumerate() {
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                let distance = (got - expected).abs() / expected.abs().max(1.0);
                assert!(distance <= 1e-5, "row {row}: got {got}, expected {expected}");
            }
        }
        let right = predictions.iter().zip(&self.labels).filter(|(got, label)| got["label"] == label.as_str()).count();
        assert!(right >= ROWS * 98 / 100, "{right} of {ROWS} rows are right");
    }
}

#[test]
fn the_sample_sent_as_curl_sends_it_is_a_seven() {
    let turn = Turn::shared();
    for repository in forms() {
        let server = turn.serve(&[repository.path()]);
        let answer = client::predict(server.address, "application/x-www-form-urlencoded", SAMPLE);
        assert_eq!((answer.status, answer.label()), (200, json!("7")), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer = answer.json();
        assert!(answer["predictions"][0]["score"].as_f64().unwrap() > 0.9, "{answer}");
        assert_eq!((&answer["model"], &answer["version"]), (&json!("digits"), &json!("1")));
    }
}

#[test]
fn the_golden_rows_come_out_right_one_by_one_from_many_clients() {
    let (turn, golden) = (Turn::shared(), golden());
    for repository in forms() {
        let server = turn.serve(&[repository.path()]);
        let answers = thread::scope(|scope| {
            let clients: Vec<_> =
                golden.images.chunks(ROWS / 8).map(|share| scope.spawn(|| one_by_one(&server, share))).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        let (logits, predictions): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        golden.check_rows(&logits, &predictions);
    }
}

/// The logits and the prediction of each image, asked on one connection.
fn one_by_one(server: &Server<'_>, images: &[Value]) -> Vec<(Vec<f64>, Value)> {
    let mut connection = client::Connection::open(server.address).unwrap();
    let ask = |image: &Value| {
        let body = json!({"inputs": {"image": [image]}}).to_string();
        let answer = connection.ask(&client::predict_request(JSON, body.as_bytes())).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        (rows(&answer["outputs"]["logits"]).concat(), answer["predictions"][0].clone())
    };
    images.iter().map(ask).collect()
}

#[test]
fn a_request_larger_than_a_batch_comes_out_right_from_every_kind_of_body() {
    let (turn, golden) = (Turn::shared(), golden());
    let json = json!({"inputs": golden.images}).to_string();
    for repository in forms() {
        let server = turn.serve(&[repository.path()]);
        golden.check(&client::predict(server.address, JSON, json.as_bytes()));
        golden.check(&client::predict(server.address, NPY, &client::npy("<f4", "(200, 8, 8)", &golden.bytes())));
        golden.check(&client::predict(server.address, RAW, &golden.bytes()));
    }
}

#[test]
fn the_root_names_the_model_or_its_label() {
    let turn = Turn::shared();
    assert_eq!(client::get(turn.serve(&[]).address, "/").text(), "digits@1\n");
    let labelled = turn.serve(&["--label", "Model v1 (stable)"]);
    assert_eq!(client::get(labelled.address, "/").text(), "Model v1 (stable)\n");
}

#[test]
fn the_metrics_tell_what_runs_and_count_requests_by_outcome() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    for _ in 0..3 {
        client::predict(server.address, JSON, SAMPLE);
    }
    client::predict(server.address, JSON, b"{}");
    let metrics = client::get(server.address, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    let metrics = metrics.text();
    let info = metrics.lines().find(|line| line.starts_with("torchpod_build_info{")).expect("build info");
    assert!(info.contains("libtorch 2.11.0") && info.ends_with(" 1"), "{info}");
    for line in [
        r#"torchpod_requests_total{model="digits",version="1",protocol="predict",outcome="ok"} 3"#,
        r#"torchpod_requests_total{model="digits",version="1",protocol="predict",outcome="client_error"} 1"#,
        r#"torchpod_rows_total{model="digits",version="1",protocol="predict",outcome="ok"} 3"#,
        r#"torchpod_parse_duration_seconds_count{model="digits",version="1"} 3"#,
        r#"torchpod_format_duration_seconds_count{model="digits",version="1"} 3"#,
        r#"torchpod_batch_rows_count{model="digits",version="1"} 3"#,
        r#"torchpod_phase{phase="serving"} 1"#,
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
}
