//! One request on a connection of its own, over a plain socket: quick to make, and timed from its connect to its last
//! byte. wrk makes the load; this asks everything else.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes())
}

pub(crate) fn post(address: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> io::Result<Answer> {
    post_with(address, path, content_type, None, body)
}

/// With one more header.
pub(crate) fn post_with(
    address: SocketAddr,
    path: &str,
    content_type: &str,
    header: Option<(&str, &str)>,
    body: &[u8],
) -> io::Result<Answer> {
    let length = body.len();
    let header = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n{header}\r\n"
    );
    ask(address, &[head.as_bytes(), body].concat())
}

fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some(Answer { status, body: answer[head + 4..].to_vec() })
}
