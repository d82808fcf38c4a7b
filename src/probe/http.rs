//! A probe over HTTP/1: the status decides, as for the kubelet, and the body says why.

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::{Ask, Verdict, why};

/// As much as the kubelet reads; what is longer is not ours, and its status decides alone.
const MAX_BODY: usize = 10 << 10;

/// What a probe's body may say. Another server's may say nothing of it.
#[derive(Deserialize)]
struct Body {
    status: String,
    reason: Option<String>,
    stage: Option<String>,
    progress: Option<f64>,
}

pub(super) async fn ask(ask: &Ask, stream: TcpStream) -> Result<Verdict, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
    tokio::spawn(connection);
    let host = ask.url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(ask.url.path())
        .header(HOST, host)
        .header(USER_AGENT, concat!("torchpod-probe/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| why(&error))?;
    let response = sender.send_request(request).await.map_err(|error| why(&error))?;
    let status = response.status();
    match Limited::new(response.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(verdict(status, &body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(verdict(status, b"")),
        Err(error) => Err(format!("{status}, and its body: {}", why(error.as_ref()))),
    }
}

fn verdict(status: StatusCode, body: &[u8]) -> Verdict {
    let pass = (200..400).contains(&status.as_u16());
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Verdict { pass, words: format!("HTTP {status}") };
    };
    let progress = body.progress.map(|share| format!("{:.0} %", share * 100.0));
    let details: Vec<_> = [body.reason, body.stage, progress].into_iter().flatten().collect();
    let words =
        if pass || details.is_empty() { body.status } else { format!("{}: {}", body.status, details.join(", ")) };
    Verdict { pass, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_and_the_body_says_why() {
        let loading =
            r#"{"status":"not_ready","phase":"loading","reason":"loading","stage":"reading digits@1","progress":0.42}"#;
        let table = [
            (200, r#"{"status":"ready","phase":"serving"}"#, true, "ready"),
            (503, loading, false, "not_ready: loading, reading digits@1, 42 %"),
            (503, r#"{"status":"unhealthy","reason":"hung"}"#, false, "unhealthy: hung"),
            (503, "{}", false, "HTTP 503 Service Unavailable"),
            (500, "", false, "HTTP 500 Internal Server Error"),
            (204, "", true, "HTTP 204 No Content"),
            (302, "<html>", true, "HTTP 302 Found"),
            (400, r#"{"status":"ready"}"#, false, "ready"),
            (199, "", false, "HTTP 199 <unknown status code>"),
        ];
        for (status, body, pass, words) in table {
            let verdict = verdict(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!((verdict.pass, verdict.words.as_str()), (pass, words));
        }
    }
}
