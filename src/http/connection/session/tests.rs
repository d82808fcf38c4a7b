//! Sessions over streams in memory, on a clock that is paused: minutes pass at once.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::http::connection::moments::SILENCE;

const IDLE: Duration = Duration::from_secs(75);
const LARGE: usize = 1 << 20;
/// How exact a timer must be.
const EXACT: Duration = Duration::from_millis(100);

/// A session under way, and what moves it.
struct Served {
    session: JoinHandle<()>,
    stage: watch::Sender<Stage>,
    born: Instant,
}

impl Served {
    /// Serves `router` over a stream that holds `buffer` bytes in each direction.
    fn start(router: Router, terms: Terms, buffer: usize) -> (Self, DuplexStream) {
        let (client, server) = tokio::io::duplex(buffer);
        let (stage, stages) = watch::channel(Stage::Open);
        let session = tokio::spawn(Session::new(router, terms, &Stages(stages)).run(server));
        (Self { session, stage, born: Instant::now() }, client)
    }

    fn ended(&self) -> bool {
        self.session.is_finished()
    }

    /// Waits for its end, which comes `after` its begin and not before.
    async fn ends(self, after: Duration) {
        self.session.await.unwrap();
        let took = self.born.elapsed();
        assert!(took >= after && took < after + EXACT, "it took {took:?}, expected {after:?}");
    }
}

fn router() -> Router {
    let slow = || async {
        tokio::time::sleep(Duration::from_mins(10)).await;
        "slow"
    };
    let unread = |request: axum::extract::Request| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(request);
        "unread"
    };
    Router::new()
        .route("/", get(|| async { "small" }).post(unread))
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
        .route("/slow", get(slow))
        .route("/upload", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
}

fn full(buffer: usize) -> (Served, DuplexStream) {
    Served::start(router(), Terms::full(IDLE), buffer)
}

async fn ask(client: &mut DuplexStream, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: torchpod\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads up to and with `end`.
async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_dropped() {
    let (served, mut client) = full(1024);
    ask(&mut client, "/large").await;
    served.ends(WRITE_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_dropped() {
    let (served, mut client) = full(64 << 10);
    ask(&mut client, "/large").await;
    for _ in 0..16 {
        tokio::time::sleep(WRITE_TIMEOUT * 9 / 10).await;
        client.read_exact(&mut vec![0; 64 << 10]).await.unwrap();
    }
    assert!(!served.ended());
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_opens_no_window_is_dropped() {
    let (served, client) = full(LARGE);
    let _body = large_over_http2(client).await;
    served.ends(WRITE_TIMEOUT).await;
}

/// Asks for the large answer over HTTP/2 and reads none of it: its window is 64 KiB.
async fn large_over_http2(client: DuplexStream) -> h2::RecvStream {
    let (mut client, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://torchpod/large").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    answer.await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_http2_client_that_reads_slowly_gets_its_answer_to_the_last_byte() {
    const WINDOW: usize = (64 << 10) - 1;
    const HELD: usize = 48 << 10;
    let (served, client) = full(LARGE);
    let mut body = large_over_http2(client).await;
    served.stage.send_replace(Stage::Leave);
    tokio::time::sleep(LAST_CALL * 3 / 4).await;
    let (mut read, mut released) = (0, 0);
    while read < LARGE {
        read += body.data().await.unwrap().unwrap().len();
        if read == LARGE - HELD {
            // The server has no more to compute and no room to write.
            tokio::time::sleep(LAST_CALL * 3 / 4).await;
        }
        let room = if read < LARGE - HELD { read.min(LARGE - WINDOW - HELD) } else { read };
        body.flow_control().release_capacity(room - released).unwrap();
        released = room;
    }
    assert!(body.data().await.is_none_or(|end| end.unwrap().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_to_make_is_waited_for() {
    let (served, mut client) = full(1024);
    ask(&mut client, "/slow").await;
    assert!(read_until(&mut client, "slow").await.starts_with("HTTP/1.1 200 OK"));
    assert!(served.born.elapsed() >= Duration::from_mins(10));
    served.ends(Duration::from_mins(10) + IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_whole_in_time_and_idleness_before_it_does_not_count() {
    let (served, mut client) = full(1024);
    ask(&mut client, "/").await;
    read_until(&mut client, "small").await;
    tokio::time::sleep(IDLE * 9 / 10).await;
    let begun = served.born.elapsed();
    for _ in 0..14 {
        client.write_all(b"G").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!served.ended());
    served.ends(begun + HEAD_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_that_was_answered_early_is_not_taken_for_a_head() {
    let (served, mut client) = full(1024);
    client.write_all(b"POST / HTTP/1.1\r\nHost: torchpod\r\nContent-Length: 4\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.write_all(b"body").await.unwrap();
    read_until(&mut client, "unread").await;
    tokio::time::sleep(HEAD_TIMEOUT * 2).await;
    assert!(!served.ended());
    ask(&mut client, "/").await;
    read_until(&mut client, "small").await;
    served.ends(Duration::from_secs(1) + HEAD_TIMEOUT * 2 + IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_told_to_leave_and_pings_are_no_requests() {
    let (served, client) = full(1024);
    let (client, mut connection) = h2::client::handshake(client).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            tokio::time::sleep(PING.0 / 6).await;
        }
    });
    // Its end is a GOAWAY without an error.
    connection.await.unwrap();
    drop(client);
    served.ends(IDLE).await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_answers_no_ping_is_dropped() {
    let (served, mut client) = Served::start(router(), Terms::full(IDLE * 10), 1024);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    served.ends(PING.0 + PING.1).await;
}

#[tokio::test(start_paused = true)]
async fn a_send_off_waits_for_an_http2_clients_first_request() {
    let (served, client) = full(1024);
    served.stage.send_replace(Stage::SendOff);
    let (mut client, mut connection) = h2::client::handshake(client).await.unwrap();
    // A minute of nothing is no reason to leave.
    assert!(tokio::time::timeout(IDLE / 2, &mut connection).await.is_err());
    let request = http::Request::get("http://torchpod/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (answer, ended) = tokio::join!(answer, connection);
    assert_eq!(answer.unwrap().status(), 200);
    ended.unwrap();
    served.ends(IDLE / 2).await;
}

/// A frame of HTTP/2 on stream `id`.
fn frame(kind: u8, flags: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, id], payload].concat()
}

/// Reads frames up to and with one that is `wanted` by its kind and stream; says how many GOAWAYs came on the way.
/// Answers each PING at once, as clients do.
async fn frame_of(client: &mut DuplexStream, wanted: (u8, u8)) -> usize {
    const PING_FRAME: u8 = 6;
    const GOAWAY: u8 = 7;
    let mut goaways = 0;
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).await.unwrap();
        let [_, high, low, kind, flags, .., id] = header;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        client.read_exact(&mut payload).await.unwrap();
        if kind == PING_FRAME && flags == 0 {
            client.write_all(&frame(PING_FRAME, 1, 0, &payload)).await.unwrap();
        }
        goaways += usize::from(kind == GOAWAY);
        if (kind, id) == wanted {
            return goaways;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_follows_the_answer_to_a_ping_into_the_send_off_is_served() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    let ask = |id| frame(HEADERS, 0x5, id, b"\x82\x86\x84\x41\x08torchpod"); // GET http://torchpod/
    let (served, mut client) = full(1024);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    client.write_all(&ask(1)).await.unwrap();
    assert_eq!(frame_of(&mut client, (DATA, 1)).await, 0);
    served.stage.send_replace(Stage::SendOff);
    assert_eq!(frame_of(&mut client, (7, 0)).await, 1);
    tokio::time::sleep(SILENCE / 2).await;
    client.write_all(&ask(3)).await.unwrap();
    assert_eq!(frame_of(&mut client, (DATA, 3)).await, 0);
    // hyper's two, before and after its PING is answered.
    assert_eq!(frame_of(&mut client, (7, 0)).await, 1);
    assert_eq!(frame_of(&mut client, (7, 0)).await, 1);
    served.ends(SILENCE).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nobody_stays_without_a_request() {
    let quiet_http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (said, leaves) in [(&quiet_http2[..], LAST_CALL), (b"", SILENCE), (b"GET", SILENCE)] {
        let (served, mut client) = full(1024);
        client.write_all(said).await.unwrap();
        served.stage.send_replace(Stage::Leave);
        served.ends(leaves).await;
    }
    // Never silent for long enough, and never asking.
    let (served, mut client) = full(1024);
    served.stage.send_replace(Stage::Leave);
    tokio::spawn(async move {
        while client.write_all(b"G").await.is_ok() {
            tokio::time::sleep(SILENCE * 3 / 5).await;
        }
    });
    served.ends(LAST_CALL).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_request_that_comes_with_the_last_of_the_silence_is_served() {
    for _ in 0..20 {
        let (served, mut client) = full(1024);
        ask(&mut client, "/").await;
        read_until(&mut client, "small").await;
        served.stage.send_replace(Stage::Leave);
        tokio::time::sleep(SILENCE).await;
        ask(&mut client, "/").await;
        read_until(&mut client, "small").await;
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_request_in_flight_is_waited_for() {
    let (served, mut client) = full(1024);
    ask(&mut client, "/slow").await;
    tokio::task::yield_now().await;
    served.stage.send_replace(Stage::Leave);
    read_until(&mut client, "slow").await;
    served.ends(Duration::from_mins(10)).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_client_that_does_not_read_on_is_dropped() {
    let (served, mut client) = full(1024);
    ask(&mut client, "/large").await;
    tokio::task::yield_now().await;
    served.stage.send_replace(Stage::Leave);
    tokio::time::sleep(LAST_CALL / 2).await;
    client.read_u8().await.unwrap();
    served.ends(LAST_CALL * 3 / 2).await;

    let (served, client) = full(LARGE);
    let _body = large_over_http2(client).await;
    served.stage.send_replace(Stage::Leave);
    served.ends(LAST_CALL + SILENCE).await;
}

/// The head of a request whose body has 14 bytes.
const UPLOAD: &[u8] = b"POST /upload HTTP/1.1\r\nHost: torchpod\r\nContent-Length: 14\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn at_the_end_a_body_that_stands_still_or_trickles_is_cut_and_before_it_is_not() {
    for (bytes, cut) in [(0, 2), (4, 6), (13, 10)] {
        let (served, mut client) = full(1024);
        client.write_all(UPLOAD).await.unwrap();
        tokio::time::sleep(IDLE * 2).await;
        assert!(!served.ended());
        served.stage.send_replace(Stage::Leave);
        let trickle = async {
            for _ in 0..bytes {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = client.write_all(b"x").await;
            }
        };
        tokio::join!(trickle, served.ends(IDLE * 2 + Duration::from_secs(cut)));
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_body_that_is_whole_in_time_is_answered() {
    let (served, mut client) = full(1024);
    client.write_all(UPLOAD).await.unwrap();
    tokio::task::yield_now().await;
    served.stage.send_replace(Stage::Leave);
    for _ in 0..14 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        client.write_all(b"x").await.unwrap();
    }
    assert!(read_until(&mut client, "14 bytes").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_only_the_stream_whose_body_stands_still_is_cut() {
    let (served, client) = full(LARGE);
    let (mut client, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let request = |path| http::Request::post(format!("http://torchpod{path}")).body(()).unwrap();
    let (whole, _) = client.send_request(http::Request::get("http://torchpod/slow").body(()).unwrap(), true).unwrap();
    let (half, mut body) = client.send_request(request("/upload"), false).unwrap();
    body.send_data("half".into(), false).unwrap();
    tokio::time::sleep(SILENCE).await;
    served.stage.send_replace(Stage::Leave);
    let told = Instant::now();
    assert!(half.await.unwrap_err().is_reset());
    assert!(told.elapsed() >= LAST_CALL && told.elapsed() < LAST_CALL + EXACT, "{:?}", told.elapsed());
    assert_eq!(whole.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_reserve_gives_a_moment_for_a_head_and_takes_one_request() {
    for said in [&b""[..], b"GET"] {
        let (served, mut client) = Served::start(router(), Terms::reserve(), 1024);
        client.write_all(said).await.unwrap();
        served.ends(Duration::from_millis(300)).await;
    }

    let (served, mut client) = Served::start(router(), Terms::reserve(), 1024);
    ask(&mut client, "/").await;
    assert!(read_until(&mut client, "small").await.to_lowercase().contains("connection: close"));
    served.ends(Duration::ZERO).await;

    let (served, client) = Served::start(router(), Terms::reserve(), 1024);
    let (mut client, connection) = h2::client::handshake(client).await.unwrap();
    let request = http::Request::get("http://torchpod/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (answer, ended) = tokio::join!(answer, connection);
    assert_eq!(answer.unwrap().status(), 200);
    ended.unwrap();
    served.ends(Duration::ZERO).await;
}
