//! What parsing costs a MiB of JSON, beside the parsers that are built for speed.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use axum::body::Bytes;
use serde::Deserialize;
use torchpod::fuzz;
use torchpod::model::spec;
use torchpod::tensor::pool::Pool;

use crate::cell::Figure;
use crate::model::{self, Body};
use crate::table::{Table, median};
use crate::target::{Bound, Verdict};

const ROUNDS: usize = 41;
const MIB: usize = 1 << 20;
/// Rows of the MLP's 64 floats that make about a MiB.
const ROWS: usize = 1400;
const RATIO: f64 = 1.3;

/// As other parsers have to read it: numbers in a vector of each row.
#[derive(Deserialize)]
struct Rows {
    #[serde(rename = "inputs")]
    rows: Vec<Vec<f32>>,
}

/// Microseconds a MiB, by parser, and what they come to.
pub(crate) struct Parsing {
    pub(crate) table: Table,
    pub(crate) verdict: Verdict,
}

pub(crate) fn measure() -> Result<Parsing> {
    let body = Bytes::from(model::named("mlp")?.request(ROWS, Body::Json)?);
    let (spec, pool) =
        (spec::from_inputs(vec![spec::parse_input("x:FP32[-1,64]").map_err(anyhow::Error::msg)?]), Pool::new(64 * MIB));
    ensure!(fuzz::is_right(&spec, body.clone(), &pool), "torchpod refuses the body");
    let size = body.len();
    #[allow(clippy::cast_precision_loss)] // a megabyte
    let timed = |parse: &mut dyn FnMut()| {
        let started = Instant::now();
        parse();
        started.elapsed().as_secs_f64() * 1e6 * MIB as f64 / size as f64
    };
    let (mut own, mut sonic, mut simd) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.push(timed(&mut || assert!(fuzz::is_right(&spec, body.clone(), &pool))));
        sonic.push(timed(&mut || drop(black_box(sonic_rs::from_slice::<Rows>(&body).map(|all| all.rows)))));
        // It writes into what it reads.
        let mut copy = body.to_vec();
        simd.push(timed(&mut || drop(black_box(simd_json::from_slice::<Rows>(&mut copy).map(|all| all.rows)))));
    }
    let mut table = Table::new(&["parser", "µs a MiB"]);
    for (name, times) in [("torchpod", &own), ("sonic-rs", &sonic), ("simd-json", &simd)] {
        table.row([name.to_owned(), format!("{:.0}", median(times.iter().copied()))]);
    }
    let best = |index: usize| f64::min(sonic[index], simd[index]);
    let ratios = own.iter().enumerate().map(|(index, time)| time / best(index));
    let what = "parsing JSON ÷ the faster of sonic-rs and simd-json";
    Ok(Parsing { table, verdict: Verdict { what, figure: Figure::of(ratios), bound: Bound::Most(RATIO) } })
}
