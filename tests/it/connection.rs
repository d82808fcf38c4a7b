//! Clients that connect and do not get on with it.

use std::io::Read as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::support::Turn;

/// The server's patience with a head is 15 s.
const PATIENCE: std::ops::Range<Duration> = Duration::from_secs(13)..Duration::from_secs(20);

#[test]
fn a_connection_that_never_asks_is_closed_and_one_that_did_ask_is_not() {
    use std::io::Write as _;
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=17s"]);
    thread::scope(|scope| {
        for said in ["", "P", "PRI * HTTP/2.0\r\n", "POST /predict HTTP/1.1\r\nHost: torchpod\r\n"] {
            let address = server.address;
            scope.spawn(move || {
                let opened = Instant::now();
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE.end)).unwrap();
                stream.write_all(said.as_bytes()).unwrap();
                let ended = stream.read_to_end(&mut Vec::new());
                let took = opened.elapsed();
                assert!(ended.is_ok() && PATIENCE.contains(&took), "after {said:?}: {ended:?} in {took:?}");
            });
        }
        // An answer may take longer than a head: this one takes 17 s.
        let mut slow = Connection::open(server.address).unwrap();
        assert_eq!(slow.ask(&client::predict_request(JSON, SAMPLE)).unwrap().status, 200);
    });
}
