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
    let mut part = [0; 16 << 10];
    // Not every server closes a connection when it is told to.
    while !is_whole(&answer) {
        match stream.read(&mut part)? {
            0 => break,
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// Whether the answer is as long as it says; one that does not say ends with its connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = end_of_head(answer) else { return false };
    let lines = answer[..head].split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= head + length)
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let head = end_of_head(answer)?;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some(Answer { status, body: answer[head..].to_vec() })
}
