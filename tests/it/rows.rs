//! Whatever shares a batch, is split or is rejoined: every caller gets the rows that it sent.

use std::fs;
use std::net::SocketAddr;
use std::thread;

use crate::client::{self, Connection, RAW};
use crate::digits::{self, numbers, rows};
use crate::models::{self, Repository};
use crate::support::{Random, Server, Turn};

const CALLERS: u64 = 64;
const REQUESTS: usize = 12;
const MOST_ROWS: usize = 100;

/// So many `callers` at once, each asking again and again by `ask`, with random numbers of its own.
fn ask_at_once(callers: u64, server: &Server, ask: impl Fn(&mut Connection, &mut Random) + Sync) {
    thread::scope(|scope| {
        for caller in 0..callers {
            let (ask, address): (_, SocketAddr) = (&ask, server.address);
            scope.spawn(move || {
                let (mut connection, mut random) = (Connection::open(address).unwrap(), Random(caller));
                for _ in 0..REQUESTS {
                    ask(&mut connection, &mut random);
                }
            });
        }
    });
}

#[test]
fn sixty_four_callers_of_one_to_a_hundred_rows_get_their_own_rows_bit_for_bit() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["row_sum"]));
    fs::write(repository.folder("row_sum").join("model.toml"), models::ROW_SUM).unwrap();
    let server = turn.serve(&[repository.path()]);
    ask_at_once(CALLERS, &server, |connection, random| {
        let row_count = 1 + random.below(MOST_ROWS);
        // Whole numbers, whose sums are exact.
        let sent: Vec<f32> = (0..3 * row_count).map(|_| f32::from(random.byte()) * 257.0).collect();
        let body: Vec<u8> = sent.iter().flat_map(|number| number.to_le_bytes()).collect();
        let answer = connection.ask(&client::predict_request(RAW, &body)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outputs = &answer.json()["outputs"];
        let sent: Vec<[f64; 3]> = sent.chunks_exact(3).map(|row| [0, 1, 2].map(|place| row[place].into())).collect();
        assert_eq!(rows(&outputs["rows"]), sent);
        assert_eq!(numbers(&outputs["sums"]), sent.iter().map(|row| row.iter().sum()).collect::<Vec<f64>>());
    });
    let full = "torchpod_batch_cuts_total{model=\"row_sum\",version=\"1\",reason=\"full\"}";
    let full = client::count(server.address, full);
    assert!(full > 100, "requests were split and shared batches, {full} of them full");
}

#[test]
fn digits_are_those_of_a_row_alone_whatever_the_batch() {
    let turn = Turn::shared();
    for repository in models::forms() {
        let server = turn.serve(&[repository.path()]);
        let pixels = digits::golden().bytes();
        let images: Vec<&[u8]> = pixels.chunks_exact(8 * 8 * 4).collect();
        let ask = |connection: &mut Connection, rows_of: &[u8]| {
            let answer = connection.ask(&client::predict_request(RAW, rows_of)).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            rows(&answer.json()["outputs"]["logits"])
        };
        let mut alone = Connection::open(server.address).unwrap();
        let expected: Vec<Vec<f64>> = images.iter().map(|image| ask(&mut alone, image).remove(0)).collect();
        ask_at_once(CALLERS, &server, |connection, random| {
            let picked: Vec<usize> = (0..=random.below(MOST_ROWS)).map(|_| random.below(images.len())).collect();
            let body = picked.iter().map(|row| images[*row]).collect::<Vec<_>>().concat();
            for (got, row) in ask(connection, &body).iter().zip(&picked) {
                for (got, expected) in got.iter().zip(&expected[*row]) {
                    let distance = (got - expected).abs() / expected.abs().max(1.0);
                    assert!(distance <= 1e-5, "row {row}: {got} in a batch, {expected} alone");
                }
            }
        });
    }
}

#[test]
fn callers_that_are_answered_together_are_computed_together_again() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=40ms"]);
    let request = client::predict_request(RAW, &[0; 8 * 8 * 4]);
    ask_at_once(8, &server, |connection, _| assert_eq!(connection.ask(&request).unwrap().status, 200));
    let batches = client::count(server.address, "torchpod_batch_rows_count{model=\"digits\",version=\"1\"}");
    // Two for each round would be: who asks again first, and the others.
    assert!(batches < 7 * REQUESTS / 4, "{batches} batches for {REQUESTS} requests of each");
}
