//! A log whose reader has stopped reading: nobody waits for it, and the end comes all the same.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::support::{ANY_PORT, BINARY, ROOT, Turn, poll, wait};

#[test]
fn a_reader_that_stops_reading_the_log_stalls_neither_probes_nor_the_end() {
    let (_turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    fs::write(&termination_log, "").unwrap();
    let address = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--listen", &address.to_string(), "--grpc-listen", "off", "--log-filter", "trace"]);
    command.args(["--chaos", "batch-delay=30s", "--drain-delay", "0s", "--drain-timeout", "1s"]);
    command.arg("--termination-log").arg(&termination_log).current_dir(ROOT);
    // A pipe, of 64 KiB as the kernel makes them, that nobody reads.
    let mut server = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    poll("it serves", || client::ask(address, &client::get_request("/ready")).is_ok_and(|answer| answer.status == 200));
    let dropped = |text: &str| {
        text.lines()
            .any(|line| line.strip_prefix("torchpod_log_lines_dropped_total ").is_some_and(|count| count != "0"))
    };
    poll("more lines than can wait", || {
        for _ in 0..100 {
            let asked = Instant::now();
            assert_eq!(client::get(address, "/health").status, 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "a probe took {:?}", asked.elapsed());
        }
        dropped(&client::get(address, "/metrics").text())
    });
    let mut busy = Connection::open(address).unwrap();
    busy.send(&client::predict_request(JSON, SAMPLE)).unwrap();
    poll("it is in flight", || client::get(address, "/metrics").text().contains("torchpod_in_flight_requests 1"));
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    let status = wait(&mut server, Duration::from_secs(4));
    let _ = server.kill();
    assert_eq!(status.expect("it ends in time").code(), Some(1));
    let reason = fs::read_to_string(termination_log).unwrap();
    assert!(reason.contains("the drain missed its deadline"), "{reason}");
}
