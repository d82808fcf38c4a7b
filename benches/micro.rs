//! `make bench-micro`: what a request passes on its way, each alone and without a server. `compare` says what ought to
//! come of it; this says which part a change has made quicker.

use std::hint::black_box;
use std::time::Duration;

use axum::body::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use torchpod::health::{Health, Probe};
use torchpod::model::spec::{self, Spec};
use torchpod::telemetry::Telemetry;
use torchpod::telemetry::metrics::{CutReason, Outcome, Scrape};
use torchpod::telemetry::protocol::Protocol;
use torchpod::tensor::pool::Pool;
use torchpod::tensor::{DType, Tensor, json};
use torchpod::{dependency, fuzz, lifecycle};

const MIB: usize = 1 << 20;
const MODELS: usize = 64;

/// As other parsers have to read it: numbers in a vector of each row.
#[derive(Deserialize)]
struct Rows {
    #[serde(rename = "inputs")]
    rows: Vec<Vec<f32>>,
}

/// Rows of 64 floats with all their digits, as many as `size` bytes hold.
fn body(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(18);
    let mut row = || {
        let numbers: Vec<String> = (0..64).map(|_| (random.f32() * 2.0 - 1.0).to_string()).collect();
        format!("[{}]", numbers.join(","))
    };
    let mut body = format!("{{\"inputs\":[{}", row());
    while body.len() < size {
        body = body + "," + &row();
    }
    (body + "]}").into_bytes()
}

fn spec() -> Spec {
    spec::from_inputs(vec![spec::parse_input("x:FP32[-1,64]").expect("it is right")])
}

fn parse(criterion: &mut Criterion) {
    let (spec, pool) = (spec(), Pool::new(64 * MIB));
    for (name, size) in [("one row", 1), ("1 MiB", MIB)] {
        let body = Bytes::from(body(size));
        let mut group = criterion.benchmark_group(format!("parse {name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("torchpod", |bencher| {
            bencher.iter(|| assert!(fuzz::is_right(&spec, body.clone(), &pool)));
        });
        group.bench_function("sonic-rs", |bencher| {
            bencher.iter(|| sonic_rs::from_slice::<Rows>(&body).expect("it is JSON").rows);
        });
        // It writes into what it reads.
        group.bench_function("simd-json", |bencher| {
            bencher.iter_batched_ref(
                || body.to_vec(),
                |body| simd_json::from_slice::<Rows>(body).expect("it is JSON").rows,
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn format(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format");
    for rows in [1_usize, 32] {
        let numbers = (0_u16..).map(|number| f32::from(number).sin()).take(rows * 10);
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        let tensor = Tensor { dtype: DType::Fp32, shape: vec![rows, 10], bytes: bytes.into() };
        group.bench_function(format!("{rows} × 10 floats"), |bencher| {
            bencher.iter_batched_ref(Vec::new, |out| json::write(black_box(out), &tensor), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// What a kubelet is told, before it is written down.
fn probe(criterion: &mut Criterion) {
    let (_lifecycle, moments) = lifecycle::channel([]);
    let health = Health::new(moments, dependency::watch(Vec::new(), |_| {}), false);
    criterion
        .bench_function("verdict of /ready", |bencher| bencher.iter(|| health.ask(black_box(Probe::Readiness)).0.pass));
}

/// What Prometheus is told by a server of many models, each of which was asked since the last scrape.
fn scrape(criterion: &mut Criterion) {
    let telemetry = Telemetry::default();
    let models: Vec<_> = (0..MODELS).map(|number| telemetry.model(&format!("model-{number}"), "1")).collect();
    let (_lifecycle, moments) = lifecycle::channel([]);
    let snapshot = moments.snapshot();
    let scrape = Scrape {
        snapshot: &snapshot,
        in_flight: 0,
        oldest_batch: Duration::ZERO,
        request_memory: 0,
        serving: Vec::new(),
        versions: Vec::new(),
        stuck_loads: 0,
        probe_answers: Vec::new(),
    };
    let ask_all = || {
        for model in &models {
            model.queue_time(Duration::from_micros(200));
            model.batch(8, Duration::from_millis(2));
            model.cut(CutReason::Idle);
            model.parse_time(Duration::from_micros(20));
            model.format_time(Duration::from_micros(20));
            model.request(Protocol::V2, Outcome::Ok, 8, Duration::from_millis(3));
        }
    };
    criterion.bench_function("/metrics of 64 models", |bencher| {
        bencher.iter_batched(ask_all, |()| telemetry.render(black_box(&scrape)), BatchSize::PerIteration);
    });
}

criterion_group!(benches, parse, format, probe, scrape);
criterion_main!(benches);
