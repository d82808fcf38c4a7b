//! Four times what the server can do: whoever is admitted is answered in time, the rest hears no at once.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{self, Answer, Connection, RAW};
use crate::support::{OverAtEnd, Turn};

/// A batch takes this long, and half a millisecond of computing.
const BATCH: Duration = Duration::from_millis(50);
/// As in models/digits/model.toml.
const MAX_SIZE: u32 = 32;
/// Rows a request: few requests make much load.
const ROWS: u32 = 8;
const MAX_QUEUE: u32 = 32;
/// What a full queue takes to be computed.
const QUEUE_TIME: Duration = Duration::from_millis(50 * (MAX_QUEUE * ROWS / MAX_SIZE) as u64);
/// Requests a second: four times `MAX_SIZE` rows a batch.
const OFFERED: u32 = 4 * MAX_SIZE / ROWS * 20;
/// Each asks twice a second, which leaves an admitted one its time.
const CLIENTS: u32 = OFFERED / 2;
const PERIOD: Duration = Duration::from_millis(500);
const PROMPT: Duration = Duration::from_millis(5);

#[test]
fn four_times_the_load_is_answered_in_time_or_refused_at_once() {
    overload(Duration::from_secs(5), 950);
}

#[test]
#[ignore = "soak: it has the machine alone for a minute"]
fn four_times_the_load_for_a_minute_changes_nothing() {
    overload(Duration::from_mins(1), 990);
}

/// Refuses `prompt` of a thousand within [`PROMPT`].
fn overload(duration: Duration, prompt: usize) {
    let turn = Turn::alone();
    let delay = format!("batch-delay={}ms", BATCH.as_millis());
    let server = turn.serve(&["--chaos", &delay, "--max-queue", &MAX_QUEUE.to_string()]);
    let body = vec![0; ROWS as usize * 8 * 8 * 4];
    let request = client::predict_request(RAW, &body);
    // One round first, so that threads and connections count as memory before.
    load(server.address, &request, PERIOD);
    let (memory, done) = (server.resident(), AtomicBool::new(false));
    let answers = thread::scope(|scope| {
        let over = OverAtEnd(&done);
        let probe = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let answer = client::get(server.address, "/ready");
                assert_eq!(answer.status, 200, "{}", answer.text());
                asked += 1;
                thread::sleep(Duration::from_millis(20));
            }
            asked
        });
        let answers = load(server.address, &request, duration);
        drop(over);
        assert!(probe.join().expect("/ready stays 200") > 10);
        answers
    });
    let growth = server.resident().saturating_sub(memory);
    let took = |status: u16| {
        let of_status = answers.iter().filter(|(answer, _)| answer.status == status);
        let mut took: Vec<_> = of_status.map(|(_, took)| *took).collect();
        took.sort_unstable();
        took
    };
    let (admitted, refused) = (took(200), took(503));
    let quantile = |took: &[Duration], share: usize| took[(took.len() - 1) * share / 1000];
    println!(
        "{} admitted, p99 {:?} of {QUEUE_TIME:?} of queue; {} refused, p50 {:?}, p99 {:?}; memory grew by {} KiB",
        admitted.len(),
        quantile(&admitted, 990),
        refused.len(),
        quantile(&refused, 500),
        quantile(&refused, 990),
        growth >> 10
    );
    assert_eq!(admitted.len() + refused.len(), answers.len(), "nothing but 200 and 503");
    // Three of four are too many; the first queue's worth is for free.
    assert!(refused.len() * 10 > answers.len() * 6, "{} of {} were refused", refused.len(), answers.len());
    let capacity = duration.as_secs_f64() / BATCH.as_secs_f64() * f64::from(MAX_SIZE / ROWS);
    let computed = f64::from(u32::try_from(admitted.len()).expect("few"));
    assert!(computed > capacity * 0.8, "{computed} of {capacity} that were possible were computed");
    assert!(quantile(&admitted, 990) <= 2 * QUEUE_TIME, "p99 of the admitted is {:?}", quantile(&admitted, 990));
    let slow = quantile(&refused, prompt);
    assert!(slow <= PROMPT, "{prompt} of a thousand refusals took up to {slow:?}");
    for (answer, _) in answers.iter().filter(|(answer, _)| answer.status == 503) {
        let retry_after: Option<u64> = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
        assert!(retry_after.is_some_and(|seconds| (1..=2).contains(&seconds)), "{retry_after:?}");
    }
    assert!(growth < 64 << 20, "memory grew by {} KiB", growth >> 10);
}

/// Every client asks once a period, whatever came of its last request.
fn load(address: SocketAddr, request: &[u8], duration: Duration) -> Vec<(Answer, Duration)> {
    let answers = Mutex::new(Vec::new());
    let start = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let answers = &answers;
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                let mut next = PERIOD * client / CLIENTS;
                while next < duration {
                    thread::sleep(next.saturating_sub(start.elapsed()));
                    let asked = Instant::now();
                    let answer = connection.ask(request).unwrap();
                    answers.lock().unwrap().push((answer, asked.elapsed()));
                    next += PERIOD;
                }
            });
        }
    });
    answers.into_inner().unwrap()
}
