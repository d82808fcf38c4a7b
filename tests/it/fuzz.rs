//! What a client can do wrong: a thousand spoilt bodies, and the table of clear errors.

use serde_json::{Value, json};

use crate::client::{self, Connection, JSON, NPY, RAW, SAMPLE, npy, request};
use crate::support::{Random, Server, Turn};

/// Tokens that stand where a number should.
const TOKENS: [&str; 26] = [
    "NaN",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e39",
    "1e-999",
    "null",
    "true",
    "\"7\"",
    "\"\\ud800\"",
    "[]",
    "[[]]",
    "{}",
    "{\"a\":[1]}",
    "01",
    "1.",
    ".5",
    "-",
    "1e",
    "+1",
    "0x10",
    "18446744073709551616",
    "[1,2]",
    "",
    "1 2",
    "\u{0}",
];
const KEYS: [&str; 8] = ["input", "Inputs", "", "instances", "inputs\\u0000", "parameters", "$", "__proto__"];
const DESCRIPTORS: [&str; 7] = ["<f8", ">f4", "|O", "<f2", "<i4", "<U9", ""];
const SHAPES: [&str; 10] = [
    "(1, 64)",
    "(64,)",
    "()",
    "(0, 8, 8)",
    "(-1, 8, 8)",
    "(1, 8, 8, 1)",
    "(4611686018427387904, 8, 8)",
    "(99999999999999999999,)",
    "(18446744073709551615, 2, 0)",
    "1, 8, 8",
];
const TYPES: [&str; 3] = [JSON, NPY, RAW];

/// The good body of a content type.
fn good(content_type: &str) -> Vec<u8> {
    let pixels: Vec<u8> = (0..64_u8).flat_map(|pixel| f32::from(pixel % 17).to_le_bytes()).collect();
    match content_type {
        JSON => SAMPLE.to_vec(),
        NPY => npy("<f4", "(1, 8, 8)", &pixels),
        _ => pixels,
    }
}

/// A content type and a body that is likely wrong.
fn spoilt(random: &mut Random) -> (&'static str, Vec<u8>) {
    let content_type = random.pick(&TYPES);
    let body = match random.below(8) {
        0 => good(random.pick(&TYPES)), // perhaps of another type
        1 => {
            let mut body = good(content_type);
            body.truncate(random.below(body.len()));
            body
        }
        2 => {
            let mut body = good(content_type);
            for _ in 0..=random.below(8) {
                let place = random.below(body.len());
                body[place] = random.byte();
            }
            body
        }
        3 => (0..random.below(2000)).map(|_| random.byte()).collect(),
        _ if content_type == JSON => spoilt_json(random).into_bytes(),
        _ if content_type == NPY => spoilt_npy(random),
        // Any number of bytes: whole rows of it are good, whatever numbers they are.
        _ => (0..random.pick(&[0, 1, 255, 256, 257, 512, 4096])).map(|_| random.byte()).collect(),
    };
    (content_type, body)
}

fn spoilt_json(random: &mut Random) -> String {
    let sample = String::from_utf8_lossy(SAMPLE).into_owned();
    match random.below(8) {
        0 | 1 => {
            // One number, somewhere, becomes something else.
            let numbers: Vec<_> = sample.match_indices(|c: char| c.is_ascii_digit()).map(|(place, _)| place).collect();
            let place = random.pick(&numbers);
            format!("{}{}{}", &sample[..place], random.pick(&TOKENS), &sample[place + 1..])
        }
        2 => sample.replacen("inputs", random.pick(&KEYS), 1),
        3 => {
            let open = random.pick(&["[", "{\"inputs\":", "{\"inputs\":[", "{\"inputs\":{\"image\":["]);
            format!("{open}{}", random.pick(&["[", "{\"a\":", "[0,", "{\"inputs\":"]).repeat(100_000))
        }
        4 => {
            let twice = sample.trim_end().trim_end_matches('}');
            format!(
                "{twice},{}",
                random.pick(&["\"inputs\":[]}", "\"inputs\":1}", "\"image\":[[1]]}", "}", "\"inputs\""])
            )
        }
        5 => format!("{{\"inputs\":{}}}", random.pick(&TOKENS)),
        6 => format!("{{\"inputs\":{{\"{}\":[[1]]}}}}", random.pick(&["image", "Image", "x", "", "image\",\"image"])),
        _ => {
            // Text long enough to show whether it is sent back whole.
            let long = "x".repeat(random.below(100_000));
            random
                .pick(&["{\"inputs\":\"?\"}", "{\"inputs\":{\"?\":1}}", "{\"?\":1}", "{\"inputs\":[\"?\"]}", "\"?\""])
                .replace('?', &long)
        }
    }
}

fn spoilt_npy(random: &mut Random) -> Vec<u8> {
    let mut body = good(NPY);
    let replace = |body: &[u8], from: &[u8], to: &[u8]| {
        let place = body.windows(from.len()).position(|window| window == from).expect("it is in the header");
        [&body[..place], to, &body[place + from.len()..]].concat()
    };
    match random.below(6) {
        0 => body[random.below(10)] = random.byte(), // magic, version or length
        1 => body = replace(&body, b"<f4", random.pick(&DESCRIPTORS).as_bytes()),
        2 => body = npy("<f4", random.pick(&SHAPES), &body[body.len() - 256..]),
        3 => body = replace(&body, b"False", random.pick(&["True", "", "Falsehood", "\u{e9}"]).as_bytes()),
        4 => body = npy("<f4", &format!("({})", "1, ".repeat(random.below(20_000))), &body[body.len() - 256..]),
        _ => body.extend((0..=random.below(600)).map(|_| 0xff)),
    }
    body
}

fn check_sample(server: &Server<'_>) {
    let answer = client::predict(server.address, JSON, SAMPLE);
    assert_eq!((answer.status, answer.label()), (200, json!("7")));
}

#[test]
fn no_body_makes_the_server_fail() {
    send_spoilt_bodies(7, 1000);
}

#[test]
#[ignore = "soak: 100 000 bodies take about two minutes"]
fn none_of_a_hundred_thousand_bodies_makes_the_server_fail() {
    send_spoilt_bodies(8, 100_000);
}

fn send_spoilt_bodies(seed: u64, bodies: usize) {
    println!("seed {seed}");
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let mut random = Random(seed);
    let mut connection = Connection::open(server.address).unwrap();
    let (mut refused, mut longest) = (0, (0, String::new()));
    for number in 0..bodies {
        let (content_type, body) = spoilt(&mut random);
        let start = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let what = || format!("body {number} of seed {seed}, {content_type}, {} bytes: {start:?}", body.len());
        // One connection for all: each answer leaves it usable.
        let answer = connection.ask(&client::predict_request(content_type, &body));
        let answer = answer.unwrap_or_else(|error| panic!("{error} after {}", what()));
        assert!(matches!(answer.status, 200 | 400), "{} for {}", answer.status, what());
        if answer.status == 400 {
            refused += 1;
            let error = &answer.json()["error"];
            assert_eq!(error["code"], "bad_input", "{}", what());
            assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{error} for {}", what());
            if answer.body.len() > longest.0 {
                longest = (answer.body.len(), what());
            }
        }
        if number % 100 == 99 {
            check_sample(&server);
        }
    }
    println!("{refused} of {bodies} refused");
    assert!((bodies / 2..bodies).contains(&refused), "{refused} refused: the bodies are spoilt, and not all of them");
    let log = server.log.text();
    assert!(!log.contains("panicked") && !log.contains("\"ERROR\""), "{log}");
    assert!(longest.0 < 1024, "a client's own text comes back whole: {} bytes for {}", longest.0, longest.1);
}

/// A request, and what the answer must say.
struct Row {
    request: Vec<u8>,
    status: u16,
    code: &'static str,
    says: &'static [&'static str],
}

fn row(request: Vec<u8>, status: u16, code: &'static str, says: &'static [&'static str]) -> Row {
    Row { request, status, code, says }
}

fn predict(body: &str) -> Vec<u8> {
    client::predict_request(JSON, body.as_bytes())
}

/// 65 MiB, announced or in chunks of one.
fn too_large(chunked: bool) -> Vec<u8> {
    const MIB: usize = 1 << 20;
    if chunked {
        let chunk = [b"100000\r\n", &vec![b' '; MIB][..], b"\r\n"].concat();
        let body = [chunk.repeat(65), b"0\r\n\r\n".to_vec()].concat();
        return request("POST", "/predict", &["Transfer-Encoding: chunked"], &body);
    }
    client::predict_request(JSON, &vec![b' '; 65 * MIB])
}

#[test]
fn errors_name_the_field_the_value_and_what_was_expected() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let long = format!("X-Long: {}", "x".repeat(70 << 10));
    let expect = request("POST", "/predict", &["Expect: 100-continue", "Content-Length: 68157440"], b"");
    let seven_rows = json!({"inputs": [vec![vec![0; 8]; 7]]}).to_string();
    let ragged = json!({"inputs": [[[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0]]]}).to_string();
    for Row { request, status, code, says } in [
        row(client::get_request("/nowhere"), 404, "not_found", &["/nowhere"]),
        row(client::get_request("/predict"), 405, "method_not_allowed", &["/predict", "GET"]),
        row(request("POST", "/ready", &["Content-Length: 0"], b""), 405, "method_not_allowed", &["/ready", "POST"]),
        row(too_large(false), 413, "too_large", &["67108864"]),
        row(too_large(true), 413, "too_large", &["67108864"]),
        row(expect, 413, "too_large", &["67108864"]),
        row(client::predict_request("text/csv", b"1,2"), 415, "unsupported_media_type", &["text/csv", JSON, NPY, RAW]),
        row(
            request("POST", "/predict", &["Content-Encoding: br", "Content-Length: 2"], b"{}"),
            415,
            "unsupported_encoding",
            &["br", "gzip"],
        ),
        row(request("GET", "/health", &[&long], b""), 431, "head_too_large", &["65536"]),
        row(predict(&seven_rows), 400, "bad_input", &["image", "[1, 7, 8]", "[-1, 8, 8]", "[8, 8]"]),
        row(predict(&ragged), 400, "bad_input", &["inputs[0][1]", "3 elements", "expected 8"]),
        row(predict(r#"{"inputs": [["a"]]}"#), 400, "bad_input", &["inputs[0][0]", "\"a\"", "FP32"]),
        row(predict(r#"{"inputs": [[1e39]]}"#), 400, "bad_input", &["inputs[0][0]", "out of range", "FP32"]),
        row(predict(r#"{"inputs": {"x": [1]}}"#), 400, "bad_input", &["\"x\"", "image"]),
        row(predict(r#"{"instances": [1]}"#), 400, "bad_input", &["\"instances\"", "inputs"]),
        row(predict("{}"), 400, "bad_input", &["inputs", "missing"]),
        row(client::predict_request(NPY, b"PK"), 400, "bad_input", &[".npy", "NUMPY"]),
        row(client::predict_request(RAW, &[0; 255]), 400, "bad_input", &["image", "255 bytes", "multiple of 256"]),
    ] {
        let answer = client::ask(server.address, &request).unwrap_or_else(|error| panic!("{error}, expected {status}"));
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]["code"]), (status, &json!(code)), "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        for part in says {
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
        assert!(body["error"].get("hint").is_none_or(Value::is_string));
        assert_eq!(answer.header("allow").is_some(), status == 405, "Allow says what a route takes");
    }
    check_sample(&server);
}
