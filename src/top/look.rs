//! One look at one replica: what it tells at `/console/state`, or in a line why it tells nothing.
//!
//! On a connection of its own, as a probe's is: one that was kept would hide that the next is refused.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::state::State;
use super::text::plain;
use crate::probe::why;

/// Some thousand models fit.
const MAX_BODY: usize = 8 << 20;
/// Of a message that somebody else has written.
const LONGEST_MESSAGE: usize = 200;

pub(super) async fn look(address: SocketAddr, timeout: Duration) -> Result<Box<State>, String> {
    let late = |_| Err(format!("no answer within {}", humantime::format_duration(timeout)));
    tokio::time::timeout(timeout, ask(address)).await.unwrap_or_else(late)
}

async fn ask(address: SocketAddr) -> Result<Box<State>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| why(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/console/state")
        .header(HOST, address.to_string())
        .header(USER_AGENT, concat!("torchpod-top/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| why(&error))?;
    let response = sender.send_request(request).await.map_err(|error| why(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            "no torchpod: it answers without end".to_owned()
        } else {
            why(error.as_ref())
        }
    })?;
    told(status, &body.to_bytes())
}

fn told(status: StatusCode, body: &[u8]) -> Result<Box<State>, String> {
    match status {
        StatusCode::OK => serde_json::from_slice(body)
            .map_err(|error| format!("no torchpod, or one of quite another release: {error}")),
        StatusCode::NOT_FOUND => {
            Err("404: no torchpod, or its console is off (--no-console); ask the port of --probe-listen".to_owned())
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Err("415: this is a port for gRPC; ask the one for HTTP".to_owned()),
        _ => {
            let words = status.canonical_reason().unwrap_or("not told why").to_owned();
            Err(format!("{}: {}", status.as_u16(), message(body).unwrap_or(words)))
        }
    }
}

/// What a torchpod says that refuses.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Said,
    }
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice::<Refusal>(body).ok()?.error.message;
    Some(plain(&said).chars().take(LONGEST_MESSAGE).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample;

    #[test]
    fn what_is_no_state_says_what_to_do_about_it() {
        let state = serde_json::to_vec(&sample::state("serving")).unwrap();
        assert_eq!(told(StatusCode::OK, &state).unwrap().phase, "serving");
        let refusal = br#"{"error":{"code":"overloaded","message":"the server has as\tmany connections as it takes"}}"#;
        let table: [(u16, &[u8], &str); 6] = [
            (404, b"", "404: no torchpod, or its console is off (--no-console); ask the port of --probe-listen"),
            (415, b"", "415: this is a port for gRPC"),
            (503, refusal, "503: the server has as many connections as it takes"),
            (502, b"<html>", "502: Bad Gateway"),
            (200, b"<html>", "no torchpod, or one of quite another release: expected value"),
            (200, b"{}", "no torchpod, or one of quite another release: missing field"),
        ];
        for (status, body, start) in table {
            let error = told(StatusCode::from_u16(status).unwrap(), body).unwrap_err();
            assert!(error.starts_with(start), "{status}: {error}");
        }
    }
}
