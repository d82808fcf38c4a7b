//! A small HTTP/1.1 client that shows what a library would hide: when a connection broke, and what it was told before.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// One row of a seven, as the README's curl sends it.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../../models/digits/sample.json");
pub(crate) const JSON: &str = "application/json";
pub(crate) const NPY: &str = "application/x-npy";
pub(crate) const RAW: &str = "application/octet-stream";

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    awaits_head_only: bool,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(Self::over)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option of every TCP socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("it is more than no time");
        Self { stream: BufReader::new(stream), awaits_head_only: false }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.awaits_head_only = bytes.starts_with(b"HEAD ");
        self.stream.get_mut().write_all(bytes)
    }

    /// The next answer, whole: an end in its middle is an error.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("{line:?} is no status line")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !self.awaits_head_only {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            answer.body.resize(length.ok_or_else(|| io::Error::other("no Content-Length"))?, 0);
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request)?;
        self.answer()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn says_close(&self) -> bool {
        self.header("connection") == Some("close")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The label of the first row.
    pub(crate) fn label(&self) -> Value {
        self.json()["predictions"][0]["label"].clone()
    }
}

/// A request with a body; `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: torchpod\r\n").into_bytes();
    for line in headers {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn get_request(path: &str) -> Vec<u8> {
    request("GET", path, &[], b"")
}

pub(crate) fn predict_request(content_type: &str, body: &[u8]) -> Vec<u8> {
    let content_type = format!("Content-Type: {content_type}");
    request("POST", "/predict", &[&content_type, &format!("Content-Length: {}", body.len())], body)
}

/// Asks on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    Connection::open(address)?.ask(request)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &get_request(path)).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

pub(crate) fn predict(address: SocketAddr, content_type: &str, body: &[u8]) -> Answer {
    ask(address, &predict_request(content_type, body)).unwrap_or_else(|error| panic!("POST /predict: {error}"))
}

/// The value of a metric's series; `None` where there is none.
pub(crate) fn metric(address: SocketAddr, series: &str) -> Option<f64> {
    let text = get(address, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The same of one that is there and counts something.
pub(crate) fn count(address: SocketAddr, series: &str) -> usize {
    let value = metric(address, series).unwrap_or_else(|| panic!("{series} is there"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Whole, and small enough for a test.
    let count = value as usize;
    count
}

/// What `numpy.save` writes.
pub(crate) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version, length, header and newline end at a multiple of 64.
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap();
    [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], header.as_bytes(), data].concat()
}
