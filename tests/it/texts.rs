//! Texts through a real server: whatever their bytes, and whoever shares their batch, everyone gets their own.

use std::fs;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::client::{self, Answer, Connection, JSON, NPY, RAW};
use crate::models::{self, Repository};
use crate::support::{Random, Server, Turn};

const CALLERS: u64 = 32;
const REQUESTS: usize = 20;

fn predict(server: &Server<'_>, inputs: &Value) -> Answer {
    client::predict(server.address, JSON, json!({ "inputs": inputs }).to_string().as_bytes())
}

/// The outputs of a request that must succeed.
fn outputs(server: &Server<'_>, inputs: &Value) -> Value {
    let answer = predict(server, inputs);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["outputs"].clone()
}

/// Serves one model while `ask` asks.
fn serving(turn: &Turn, name: &str, flags: &[&str], ask: impl FnOnce(&Server<'_>)) {
    let repository = Repository::odd(&[name]);
    ask(&turn.serve(&[&[repository.path()], flags].concat()));
}

#[test]
fn texts_come_back_as_they_went() {
    let turn = Turn::shared();
    serving(&turn, "texts", &[], |server| {
        let long = "long and longer ü ".repeat((1 << 20) / 18);
        for texts in [
            json!(["one"]),
            json!([""]),
            json!(["", "", "a", ""]),
            json!(["größer", "日本語", "🦀", "\u{0}\n\t\"\\"]),
            json!([long, "short", long]),
            // Bytes that are not UTF-8.
            json!([{"b64": "/wCAYQ=="}, "a"]),
            json!(vec!["many"; 5000]),
        ] {
            assert_eq!(outputs(server, &texts)["output"], texts);
        }
        assert_eq!(outputs(server, &json!("one row"))["output"], json!(["one row"]));
        assert_eq!(outputs(server, &json!({"x": [{"b64": "YQ=="}]}))["output"], json!(["a"]));
    });
}

#[test]
fn a_model_of_texts_needs_no_description() {
    let turn = Turn::shared();
    serving(&turn, "texts_upper", &[], |server| {
        server.log.wait_for("proved", |line| line["message"] == "rows are independent: requests share batches");
        assert_eq!(outputs(server, &json!(["cat", "Größe"]))["output"], json!(["CAT", "GRößE"]));
    });
    serving(&turn, "texts_pairs", &[], |server| {
        let pairs = json!([["a", ""], ["", "bc"]]);
        assert_eq!(outputs(server, &pairs)["output"], pairs);
        assert_eq!(outputs(server, &json!(["a", "b", "c"]))["output"], json!([["a", "b", "c"]]));
    });
    serving(&turn, "texts_mixed", &[], |server| {
        let both = outputs(server, &json!({"x": ["a", "bc"], "weight": [[1], [2]]}));
        assert_eq!(both, json!({"output_0": ["a", "bc"], "output_1": [[1], [2]]}));
        server.log.wait_for("learned", |line| line["message"] == "rows are independent: requests share batches");
    });
    let repository = Repository::odd(&["texts_upper"]);
    let output = turn.run(&["check", repository.path(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let port = |name: &str| json!([{"name": name, "dtype": "BYTES", "shape": "[-1]"}]);
    let model = &report["models"][0];
    assert_eq!((&model["inputs"], &model["outputs"]), (&port("x"), &port("output")), "{report}");
    assert_eq!(model["row_wise"], true, "{report}");
}

#[test]
fn texts_and_numbers_go_together() {
    let turn = Turn::shared();
    serving(&turn, "texts_lengths", &[], |server| {
        assert_eq!(outputs(server, &json!(["", "a", "four"])), json!({"lengths": [0, 1, 4]}));
    });
    serving(&turn, "texts_weighted", &[], |server| {
        let both = outputs(server, &json!({"x": ["four", ""], "weight": [0.5, 3]}));
        assert_eq!(both, json!({"same": ["four", ""], "weighted": [2.0, 0.0]}));
        let wrong = predict(server, &json!({"x": ["four", ""], "weight": [0.5]})).text();
        assert!(wrong.contains("weight: 1 rows, expected 2 as in x"), "{wrong}");
    });
    serving(&turn, "texts_column", &[], |server| {
        assert_eq!(outputs(server, &json!([["a"], ["b"]]))["y"], json!([["a"], ["b"]]));
    });
}

#[test]
fn a_vocabulary_is_warmed_with_its_golden_rows() {
    let turn = Turn::shared();
    serving(&turn, "texts_vocabulary", &[], |server| {
        server.log.wait_for("proved", |line| line["message"] == "rows are independent: requests share batches");
        assert_eq!(outputs(server, &json!(["cat", "dog", "cat"]))["id"], json!([1, 2, 1]));
        assert_eq!(predict(server, &json!(["cow"])).status, 500);
        assert_eq!(outputs(server, &json!(["cat"]))["id"], json!([1]));
    });
}

#[test]
fn texts_that_depend_on_each_other_share_no_batch() {
    let turn = Turn::shared();
    serving(&turn, "texts_padded", &[], |server| {
        let line = server
            .log
            .wait_for("a reason", |line| line["message"] == "batching is off: each request is computed alone");
        let reason = line["reason"].as_str().unwrap();
        assert!(
            reason.contains("of a row changes when another row shares its batch: element 0 is \"a text "),
            "{line}"
        );
        assert_eq!(outputs(server, &json!(["a", "abc"]))["output"], json!(["a  ", "abc"]));
    });
}

/// The texts that a caller sends at a time: of many lengths, and of no one else.
fn texts_of(caller: u64, random: &mut Random) -> Vec<String> {
    let text = |random: &mut Random| format!("{caller}:{}:ü", "x".repeat(random.below(2000)));
    (0..=random.below(40)).map(|_| if random.below(5) == 0 { String::new() } else { text(random) }).collect()
}

#[test]
fn everyone_who_shares_a_batch_gets_their_own_texts() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["texts_weighted"]));
    let toml = repository.folder("texts_weighted").join("model.toml");
    let batching = "[batching]\nmax_size = 48\nmax_delay = \"2ms\"\n[instances]\ncount = 2\nthreads = 1\n";
    fs::write(&toml, fs::read_to_string(&toml).unwrap() + batching).unwrap();
    let server = turn.serve(&[repository.path()]);
    let together = Barrier::new(usize::try_from(CALLERS).unwrap());
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (together, address) = (&together, server.address);
            scope.spawn(move || {
                let (mut connection, mut random) = (Connection::open(address).unwrap(), Random(caller));
                together.wait();
                for _ in 0..REQUESTS {
                    let texts = texts_of(caller, &mut random);
                    let half = |text: &String| f64::from(u32::try_from(text.len()).unwrap()) * 0.5;
                    let weighted: Vec<f64> = texts.iter().map(half).collect();
                    let body = json!({"inputs": {"x": texts, "weight": vec![0.5; texts.len()]}}).to_string();
                    let answer = connection.ask(&client::predict_request(JSON, body.as_bytes())).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json()["outputs"], json!({"same": texts, "weighted": weighted}));
                }
            });
        }
    });
    let labels = "model=\"texts_weighted\",version=\"1\"";
    let full = client::count(server.address, &format!("torchpod_batch_cuts_total{{{labels},reason=\"full\"}}"));
    let batches = client::count(server.address, &format!("torchpod_batch_rows_count{{{labels}}}"));
    let requests = usize::try_from(CALLERS).unwrap() * REQUESTS;
    assert!(full > 100 && batches < requests, "{requests} requests in {batches} batches, {full} of them full");
}

#[test]
fn what_is_no_text_is_refused_with_its_place() {
    let turn = Turn::shared();
    serving(&turn, "texts", &[], |server| {
        let depth = "expected [-1] (rows first) or a text for one row";
        for (inputs, says) in [
            (json!([1]), "inputs[0]: got 1, expected BYTES, a text"),
            (json!(["a", null]), "inputs[1]: got null, expected BYTES, a text"),
            (json!(["a", {"b64": "a"}]), "inputs[1]: b64 is no Base64"),
            (json!(["a", {"text": "a"}]), "inputs[1]: got an object, expected a text"),
            (json!([["a"], ["b"]]), depth),
            (json!([["a", "b"], ["c"]]), "inputs[1]: 1 elements, expected 2"),
            (json!([]), "x: shape [0] has no rows"),
        ] {
            let answer = predict(server, &inputs);
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert_eq!(answer.status, 400, "{message}");
            assert!(message.contains(says), "{says:?} in {message:?}");
        }
        let not_utf8 = client::predict(server.address, JSON, b"{\"inputs\": [\"\xff\"]}");
        assert_eq!(not_utf8.status, 400, "{}", not_utf8.text());
        let raw = client::predict(server.address, RAW, b"\x01\x00\x00\x00a").json()["error"].clone();
        assert_eq!(raw["message"], "x: raw bytes do not tell where a text ends, and the model takes texts");
        assert_eq!(raw["hint"], "send JSON");
        let npy = client::predict(server.address, NPY, &client::npy("|S1", "(1,)", b"a")).text();
        assert!(npy.contains("which means texts") && npy.contains("texts come as JSON"), "{npy}");
        let numbers = client::predict(server.address, NPY, &client::npy("<f4", "(1,)", &[0; 4])).text();
        assert!(numbers.contains("x: dtype FP32, expected BYTES"), "{numbers}");
        assert_eq!(outputs(server, &json!(["still here"]))["output"], json!(["still here"]));
    });
    // A model of numbers, for a text.
    let server = turn.serve(&[]);
    let text = client::predict(server.address, JSON, br#"{"inputs": "seven"}"#).text();
    assert!(text.contains("inputs: got the text \\\"seven\\\", expected FP32"), "{text}");
}

#[test]
fn the_inference_protocol_carries_texts_in_both_of_its_forms() {
    const PATH: &str = "/v2/models/texts_pairs/infer";
    let turn = Turn::shared();
    serving(&turn, "texts_pairs", &[], |server| {
        let input = json!({"name": "x", "datatype": "BYTES", "shape": [2, 2], "data": ["a", "", "ü", "bc"]});
        let answer = models::post(server.address, PATH, json!({ "inputs": [input] }).to_string().as_bytes()).json();
        let output = json!({"name": "output", "datatype": "BYTES", "shape": [2, 2], "data": ["a", "", "ü", "bc"]});
        assert_eq!(answer["outputs"], json!([output]));
        let classes = json!([{"name": "output", "parameters": {"classification": 1}}]);
        let wrong =
            models::post(server.address, PATH, json!({ "inputs": [input], "outputs": classes }).to_string().as_bytes());
        assert!(wrong.status == 400 && wrong.text().contains("has no scores"), "{}", wrong.text());

        let ask = |texts: &[u8]| {
            let parameters = json!({ "binary_data_size": texts.len() });
            let input = json!({"name": "x", "datatype": "BYTES", "shape": [1, 2], "parameters": parameters});
            let head = json!({ "inputs": [input], "parameters": { "binary_data_output": true } }).to_string();
            let length = format!("inference-header-content-length: {}", head.len());
            let request = models::posting(PATH, &[&length], &[head.as_bytes(), texts].concat());
            client::ask(server.address, &request).unwrap()
        };
        let texts = b"\x02\0\0\0\xff\0\0\0\0\0";
        let answer = ask(texts);
        assert!(answer.status == 200 && answer.body.ends_with(texts), "{}", answer.text());
        for (texts, says) in [
            (&b"\x02\0\0\0ab"[..], "x: text 1 has no whole length: 0 bytes are left"),
            (b"\xff\xff\xff\xffab\0\0", "x: text 0 ends too early: its length is 4294967295, and 4 bytes are left"),
            (b"\0\0\0\0\0\0\0\0a", "x: 1 bytes are left after 2 texts"),
            (b"", "x: text 0 has no whole length"),
        ] {
            let answer = ask(texts);
            assert!(answer.status == 400 && answer.text().contains(says), "{says:?} in {}", answer.text());
        }
    });
}

#[test]
fn every_type_has_a_model_that_returns_what_it_gets() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&models::IDENTITIES));
    let server = turn.serve(&[repository.path()]);
    for name in models::IDENTITIES {
        let values = match name {
            "identity_bool" => json!([[true, false, true], [false, false, true]]),
            "identity_bytes" => json!([["a", "", "ü"], ["b", "c", "d"]]),
            name if name.contains("fp") || name.contains("bf") => json!([[0.5, -2.0, 0.0], [1.0, 1.5, 64.0]]),
            name if name.contains("uint") => json!([[0, 1, 2], [253, 254, 255]]),
            _ => json!([[-128, -1, 0], [1, 2, 127]]),
        };
        let body = json!({ "inputs": { "INPUT0": values } }).to_string();
        let answer = models::post(server.address, &format!("/predict/{name}"), body.as_bytes());
        assert_eq!(answer.json()["outputs"], json!({ "OUTPUT0": values }), "{name}: {}", answer.text());
    }
}
