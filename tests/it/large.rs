//! Requests as large as they may be: they hold little more than their tensors, and nobody else waits while they are read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tonic::codec::CompressionEncoding;
use torchpod::grpc::proto::{InferTensorContents, ModelInferRequest};

use crate::client::{self, JSON, RAW};
use crate::grpc::block_on;
use crate::grpc_inference::{asking, connect};
use crate::models::posting;
use crate::support::{Server, Turn};

/// Ten million pixels.
const ROWS: usize = 156_250;
const ROW: usize = 8 * 8;
const TENSOR: usize = ROWS * ROW * size_of::<f32>();
/// An unoptimised server on a busy machine takes its time over ten million floats.
const PATIENT: [&str; 2] = ["--request-timeout", "5m"];
/// How long a request may make others wait.
const STALL: Duration = Duration::from_millis(20);

fn pixel(index: usize) -> f32 {
    f32::from(u8::try_from(index % 33).unwrap()) / 2.0
}

/// So many rows of floats, each with its decimal, in arrays as deep as their shape.
fn floats(row_count: usize) -> String {
    let row = |row: usize| {
        let line = |line: usize| {
            let pixels = (0..8).map(|column| format!("{:.1}", pixel(row * ROW + line * 8 + column)));
            format!("[{}]", pixels.collect::<Vec<_>>().join(","))
        };
        format!("[{}]", (0..8).map(line).collect::<Vec<_>>().join(","))
    };
    // The pixels come again after 33 rows.
    let rows: Vec<String> = (0..33).map(row).collect();
    format!("[{}]", (0..row_count).map(|index| &*rows[index % 33]).collect::<Vec<_>>().join(","))
}

fn predict(rows: usize) -> Vec<u8> {
    client::predict_request(JSON, format!("{{\"inputs\":{}}}", floats(rows)).as_bytes())
}

/// The same by the Open Inference Protocol; the answer is binary.
fn infer(rows: usize) -> Vec<u8> {
    let body = format!(
        "{{\"inputs\":[{{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[{rows},8,8],\"data\":{}}}],\
         \"parameters\":{{\"binary_data_output\":true}}}}",
        floats(rows)
    );
    posting("/v2/models/digits/infer", &[], body.as_bytes())
}

/// The same as a typed list, over gRPC.
fn message(rows: usize) -> ModelInferRequest {
    let mut request = asking("digits", "image", &[i64::try_from(rows).unwrap(), 8, 8]);
    let fp32_contents = (0..rows * ROW).map(pixel).collect();
    request.inputs[0].contents = Some(InferTensorContents { fp32_contents, ..InferTensorContents::default() });
    request
}

/// The slowest answer to a probe while `work` is done.
fn stalled(server: &Server, work: impl FnOnce() + Send) -> Duration {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            work();
            done.store(true, Ordering::Relaxed);
        });
        let mut slowest = Duration::ZERO;
        while !done.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert_eq!(client::get(server.address, "/ready").status, 200);
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    })
}

fn ask(address: SocketAddr, request: &[u8]) {
    let answer = client::ask(address, request).unwrap();
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]);
    assert_eq!(answer.status, 200, "{text}");
}

#[test]
fn ten_million_floats_in_one_body_hold_three_times_their_tensor_at_most() {
    let turn = Turn::alone();
    let most = 3 * TENSOR;
    for (name, request) in [("infer", infer(ROWS)), ("predict", predict(ROWS))] {
        let server = turn.serve(&PATIENT);
        let before = server.resident();
        server.forget_peak();
        ask(server.address, &request);
        let growth = server.peak().saturating_sub(before);
        println!("{name}: grew by {} MiB, expected at most {} MiB", growth >> 20, most >> 20);
        assert!(growth <= most, "{name}: {} MiB, expected at most {} MiB", growth >> 20, most >> 20);
    }
}

#[test]
fn large_requests_stall_nobody_while_they_are_read() {
    /// A million floats: on a thread that answers probes, this build would read them for half a second.
    const MANY: usize = ROWS / 10;
    const ROUNDS: usize = 20;
    let turn = Turn::alone();
    let server = turn.serve(&PATIENT);
    let (predict, infer, message) = (predict(MANY), infer(MANY), message(MANY));
    let typed = |compressed: bool| {
        block_on(async {
            let client = connect(server.grpc).await;
            let mut client = if compressed { client.send_compressed(CompressionEncoding::Gzip) } else { client };
            let answer = client.model_infer(message.clone()).await.unwrap().into_inner();
            assert_eq!(answer.outputs[0].shape, [i64::try_from(MANY).unwrap(), 10]);
        });
    };
    // As large as may be, so that it arrives for a while, and a byte too long for whole rows, so that nobody computes it.
    let raw = client::predict_request(RAW, &vec![0; (60 << 20) + 1]);
    let ways: [(&str, &(dyn Fn() + Sync)); 5] = [
        ("raw", &|| assert_eq!(client::ask(server.address, &raw).unwrap().status, 400)),
        ("predict", &|| ask(server.address, &predict)),
        ("infer", &|| ask(server.address, &infer)),
        ("lists", &|| typed(false)),
        ("compressed lists", &|| typed(true)),
    ];
    for (name, work) in ways {
        // A neighbour on the machine may spoil some rounds; the server would spoil all of them.
        let stalls = (0..ROUNDS).map(|_| stalled(&server, work)).inspect(|stall| println!("{name}: {stall:?}"));
        let is_none = stalls.into_iter().any(|stall| stall <= STALL);
        assert!(is_none, "{name}: a probe took more than {STALL:?}, {ROUNDS} times");
    }
}
