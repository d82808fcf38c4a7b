//! Compressed bodies, from their clients and to them.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use rustix::process::Signal;
use serde_json::json;

use crate::client::{self, Answer, Connection, RAW, SAMPLE};
use crate::models::{self, ROW_SUM, Repository, posting};
use crate::probes::in_flight;
use crate::shutdown::report;
use crate::support::{ANY_PORT, OverAtEnd, Turn, poll};

const CODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];
const MIB: usize = 1 << 20;

fn coded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        _ => zstd::encode_all(bytes, 1),
    }
    .unwrap()
}

/// The body as it was before it was encoded.
fn plain(answer: &Answer) -> Vec<u8> {
    let (mut plain, body) = (Vec::new(), &answer.body[..]);
    match answer.header("content-encoding") {
        None => return body.to_vec(),
        Some("gzip") => GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
        Some("deflate") => ZlibDecoder::new(body).read_to_end(&mut plain).unwrap(),
        Some("zstd") => return zstd::decode_all(body).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    };
    plain
}

/// So many rows of a seven.
fn rows(count: usize) -> Vec<u8> {
    let sample: serde_json::Value = serde_json::from_slice(SAMPLE).unwrap();
    let row = sample["inputs"].to_string();
    format!("{{\"inputs\":[{}]}}", vec![row; count].join(",")).into_bytes()
}

/// A zeroed body of so many bytes, as raw tensors, in a coding.
fn bomb(coding: &str, bytes: usize) -> Vec<u8> {
    let body = coded(coding, &vec![0; bytes]);
    let head = [
        format!("Content-Type: {RAW}"),
        format!("Content-Encoding: {coding}"),
        format!("Content-Length: {}", body.len()),
    ];
    client::request("POST", "/predict", &head.each_ref().map(String::as_str), &body)
}

#[test]
fn compressed_requests_are_answered_as_plain_ones_are_on_every_route_that_takes_a_body() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["row_sum"]));
    std::fs::write(repository.folder("row_sum").join("model.toml"), ROW_SUM).unwrap();
    let server = turn.serve(&repository.explicit(&[]));
    let infer = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":[1,2,3,4,5,6]}]}"#;
    for (path, body) in [
        ("/predict", &b"{\"inputs\":[[1,2,3],[4,5,6]]}"[..]),
        ("/v2/models/row_sum/infer", infer),
        ("/v2/repository/index", b"{\"ready\":true}"),
    ] {
        let expected = models::post(server.address, path, body);
        assert_eq!(expected.status, 200, "{path}: {}", expected.text());
        let ask = |coding: &str, body: &[u8]| {
            let request = posting(path, &[&format!("Content-Encoding: {coding}")], body);
            client::ask(server.address, &request).unwrap()
        };
        for coding in CODINGS {
            let answer = ask(coding, &coded(coding, body));
            assert_eq!((answer.status, answer.json()), (200, expected.json()), "{path} in {coding}");
            let broken = ask(coding, &coded(coding, body)[..20]);
            let said = broken.text();
            assert!(broken.status == 400 && said.contains(&format!("no whole {coding} stream")), "{path}: {said}");
        }
        assert_eq!(ask("identity", body).status, 200);
        let odd = ask("br", body);
        assert_eq!((odd.status, odd.header("accept-encoding")), (415, Some("gzip, deflate, zstd")), "{path}");
        assert!(odd.text().contains(r#"Content-Encoding is \"br\", expected gzip, deflate or zstd"#), "{}", odd.text());
    }
    let load = posting("/v2/repository/models/row_sum/load", &["Content-Encoding: gzip"], &coded("gzip", b"{}"));
    assert_eq!(client::ask(server.probe.unwrap(), &load).unwrap().status, 200);
    let large = posting("/v2/repository/index", &["Content-Encoding: zstd"], &coded("zstd", &vec![b' '; MIB]));
    assert_eq!(client::ask(server.address, &large).unwrap().status, 413);
}

#[test]
fn a_few_bytes_that_stand_for_many_are_refused_at_the_limit_and_hold_nothing() {
    let turn = Turn::shared();
    let server = turn.serve(&["--request-memory", "256MiB"]);
    for coding in CODINGS {
        let answer = client::ask(server.address, &bomb(coding, 80 * MIB)).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"too_large".into()), "{coding}");
        assert!(answer.text().contains("larger than 67108864 bytes"), "{}", answer.text());
    }
    let before = server.resident();
    // Few enough to be sent at once, and too many to be held.
    let bomb = bomb("zstd", 2000 * MIB);
    assert!(bomb.len() < MIB);
    let answer = client::ask(server.address, &bomb).unwrap();
    assert_eq!(answer.status, 413);
    let growth = server.resident().saturating_sub(before);
    assert!(growth < 160 * MIB, "resident memory grew by {} MiB", growth / MIB);
    poll("all memory is given back", || client::count(server.address, "torchpod_request_memory_bytes") == 0);
}

#[test]
fn what_is_decoded_counts_against_what_requests_may_hold() {
    let turn = Turn::shared();
    let server = turn.serve(&["--request-memory", "4MiB"]);
    let answer = client::ask(server.address, &bomb("gzip", 6 * MIB)).unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"too_large".into()), "{}", answer.text());
    poll("all memory is given back", || client::count(server.address, "torchpod_request_memory_bytes") == 0);
}

#[test]
fn a_client_gets_the_coding_that_it_accepts_where_that_is_worth_it() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&[repository.path(), "--probe-listen", ANY_PORT]);
    let ask = |accept: &str, rows: &[u8]| {
        client::ask(server.address, &posting("/predict", &[&format!("Accept-Encoding: {accept}")], rows)).unwrap()
    };
    let many = rows(100);
    let expected = models::post(server.address, "/predict", &many);
    assert_eq!((expected.header("content-encoding"), expected.header("vary")), (None, Some("Accept-Encoding")));
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("br", None),
        ("identity", None),
    ] {
        let answer = ask(accept, &many);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert!(coding.is_none() || answer.body.len() < expected.body.len() / 3, "{}", answer.body.len());
        assert!(plain(&answer) == expected.body, "{accept}");
        assert_eq!(answer.header("torchpod-model"), Some("digits"));
    }
    assert_eq!(ask("gzip", SAMPLE).header("content-encoding"), None, "an answer that fits in a packet");
    let get = |address, path: &str| {
        client::ask(address, &client::request("GET", path, &["Accept-Encoding: gzip"], b"")).unwrap()
    };
    for address in [server.address, server.probe.unwrap()] {
        for path in ["/startup", "/health", "/ready", "/ready?verbose"] {
            let answer = get(address, path);
            let headers = [answer.header("content-encoding"), answer.header("vary")];
            assert_eq!((answer.status, headers), (200, [None; 2]), "{path}: probes are spared it");
        }
        let metrics = get(address, "/metrics");
        assert_eq!(metrics.header("content-encoding"), Some("gzip"), "Prometheus asks for it");
        assert!(String::from_utf8(plain(&metrics)).unwrap().contains("torchpod_in_flight_requests"));
    }
}

#[test]
fn tensors_as_bytes_are_compressed_only_for_whoever_asks_for_one_coding() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["row_sum"]));
    std::fs::write(repository.folder("row_sum").join("model.toml"), ROW_SUM).unwrap();
    let server = turn.serve(&[repository.path()]);
    let infer = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [500, 3], "data": vec![1.5; 1500] }],
        "parameters": { "binary_data_output": true },
    });
    let ask = |accept: &str| {
        let line = format!("Accept-Encoding: {accept}");
        client::ask(server.address, &posting("/v2/models/row_sum/infer", &[&line], infer.to_string().as_bytes()))
            .unwrap()
    };
    let expected = ask("gzip, deflate");
    assert_eq!((expected.status, expected.header("content-type")), (200, Some(RAW)), "{}", expected.text());
    assert_eq!(expected.header("content-encoding"), None, "what libraries say by themselves");
    for coding in CODINGS {
        let answer = ask(coding);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert!(plain(&answer) == expected.body);
        let length = "inference-header-content-length";
        assert_eq!(answer.header(length), expected.header(length), "of what is behind the coding");
    }
}

#[test]
fn a_drain_loses_no_compressed_answer() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=200ms", "--drain-delay", "0s"]);
    let many = rows(100);
    let clients: Vec<_> = CODINGS
        .into_iter()
        .map(|coding| {
            let lines = [format!("Accept-Encoding: {coding}"), format!("Content-Encoding: {coding}")];
            let mut connection = Connection::open(server.address).unwrap();
            let lines = lines.each_ref().map(String::as_str);
            connection.send(&posting("/predict", &lines, &coded(coding, &many))).unwrap();
            (coding, connection)
        })
        .collect();
    poll("all are in flight", || in_flight(&server) == 3);
    server.signal(Signal::TERM);
    server.wait_until("draining");
    for (coding, mut connection) in clients {
        let answer = connection.answer().expect("whoever was taken is answered");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)));
        let answer: serde_json::Value = serde_json::from_slice(&plain(&answer)).unwrap();
        assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(100));
    }
    let ended = server.end_within(Duration::from_secs(10));
    let report = report(&ended);
    assert_eq!((ended.code, &report["completed"], &report["aborted"]), (Some(0), &3.into(), &0.into()), "{report}");
}

#[test]
fn a_drain_waits_for_a_client_that_has_not_read_its_compressed_answer() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "0s"]);
    let mut connection = Connection::open(server.address).unwrap();
    let outputs = posting("/predict", &["Accept-Encoding: gzip"], &rows(200));
    connection.send(&outputs).unwrap();
    let done = "torchpod_requests_total{model=\"digits\",version=\"1\",protocol=\"predict\",outcome=\"ok\"}";
    poll("it is computed", || client::metric(server.address, done) == Some(1.0));
    server.signal(Signal::TERM);
    assert_eq!(connection.answer().unwrap().header("content-encoding"), Some("gzip"));
    assert_eq!(server.end_within(Duration::from_secs(10)).code, Some(0));
}

#[test]
fn decoding_much_keeps_no_probe_waiting() {
    let turn = Turn::alone();
    let server = turn.serve(&["--io-threads", "1", "--request-memory", "512MiB"]);
    let (over, bomb) = (AtomicBool::new(false), bomb("gzip", 70 * MIB));
    let mut slowest = Duration::ZERO;
    let refused = thread::scope(|scope| {
        let _over = OverAtEnd(&over);
        let clients = (0..2).map(|_| scope.spawn(|| client::ask(server.address, &bomb).map(|answer| answer.status)));
        let clients: Vec<_> = clients.collect();
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) && !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert_eq!(client::get(server.address, "/health").status, 200);
            slowest = slowest.max(asked.elapsed());
        }
        clients.into_iter().map(|client| client.join().unwrap().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(refused, [413; 2]);
    // Unoptimised, decoding all of it takes seconds.
    assert!(slowest < Duration::from_millis(200), "the slowest probe took {slowest:?}");
}
