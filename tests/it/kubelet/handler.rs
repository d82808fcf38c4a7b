//! How the kubelet asks: over HTTP, TCP, gRPC, or by a command in the container.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tonic_health::pb::health_check_response::ServingStatus;

use crate::grpc::Client;
use crate::support::wait;

#[derive(Clone, Debug)]
pub(crate) enum Handler {
    /// GET; 200 to 399 pass.
    Http(SocketAddr, &'static str),
    /// A connection passes.
    Tcp(SocketAddr),
    /// A command's exit status.
    Exec(Vec<String>),
    /// grpc.health.v1, this service; only SERVING passes.
    Grpc(SocketAddr, &'static str),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Fail(String),
    /// The kubelet throws the result away: a body that stalls after its head has no result.
    Lost(String),
}

impl Handler {
    /// Asks on a new connection, and takes no longer than `timeout`, from connecting to the last byte.
    pub(crate) fn ask(&self, timeout: Duration) -> Outcome {
        let asked = match self {
            Self::Http(address, path) => http(*address, path, Instant::now() + timeout),
            Self::Tcp(address) => TcpStream::connect_timeout(address, timeout).map(|_| Outcome::Pass),
            Self::Exec(command) => exec(command, timeout),
            Self::Grpc(address, service) => Ok(grpc(*address, service, timeout)),
        };
        asked.unwrap_or_else(|error| Outcome::Fail(error.to_string()))
    }
}

fn http(address: SocketAddr, path: &str, deadline: Instant) -> io::Result<Outcome> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.36\r\n");
    stream.write_all(format!("{head}Accept: */*\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let ended = loop {
        let mut chunk = [0; 4096];
        match left(deadline).and_then(|left| stream.set_read_timeout(Some(left))).and_then(|()| stream.read(&mut chunk))
        {
            Ok(0) => break Ok(()),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) => break Err(error),
        }
        if is_whole(&answer) {
            break Ok(());
        }
    };
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(ended.err().unwrap_or_else(|| io::Error::other("no answer")));
    };
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(match ended {
        Err(error) => Outcome::Lost(format!("{status}, then {error}")),
        Ok(()) if (200..400).contains(&status) => Outcome::Pass,
        Ok(()) => Outcome::Fail(format!("{status} {}", body.trim_end())),
    })
}

/// Whether the body is as long as the head says; without a length, it ends with the connection.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// The time until `deadline`, which a socket's timeout must not be without.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn exec(command: &[String], timeout: Duration) -> io::Result<Outcome> {
    let mut child = Command::new(&command[0]);
    let mut child =
        child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    match wait(&mut child, timeout) {
        Some(status) if status.success() => Ok(Outcome::Pass),
        Some(status) => Ok(Outcome::Fail(status.to_string())),
        None => {
            child.kill()?;
            child.wait()?;
            Err(ErrorKind::TimedOut.into())
        }
    }
}

fn grpc(address: SocketAddr, service: &str, timeout: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let check = async {
        let client = Client::try_connect(address).await.map_err(|error| error.to_string())?;
        client.check(service).await.map_err(|status| status.to_string())
    };
    let checked = runtime.block_on(async { tokio::time::timeout(timeout, check).await });
    match checked.unwrap_or_else(|elapsed| Err(elapsed.to_string())) {
        Ok(ServingStatus::Serving) => Outcome::Pass,
        Ok(status) => Outcome::Fail(status.as_str_name().to_owned()),
        Err(error) => Outcome::Fail(error),
    }
}

#[test]
fn a_server_without_manners_is_judged_as_the_kubelet_would() {
    use crate::probe_command::{answer, hold, ill_mannered};
    const TIMEOUT: Duration = Duration::from_millis(300);
    let http = |manners| Handler::Http(ill_mannered(manners), "/health").ask(TIMEOUT);
    assert_eq!(http(|stream| answer(stream, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")), Outcome::Pass);
    assert!(matches!(http(|stream| answer(stream, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")), Outcome::Fail(_)));
    // A body that stalls has no result at all, whatever its head says.
    assert!(matches!(
        http(|stream| answer(stream, b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n{")),
        Outcome::Lost(_)
    ));
    assert!(matches!(http(hold), Outcome::Fail(_)));
    assert!(matches!(http(drop), Outcome::Fail(_)));

    assert_eq!(Handler::Tcp(ill_mannered(drop)).ask(TIMEOUT), Outcome::Pass);
    assert!(matches!(Handler::Grpc(ill_mannered(hold), "").ask(TIMEOUT), Outcome::Fail(_)));
    let exec = |line: &str| Handler::Exec(["/bin/sh", "-c", line].map(str::to_owned).to_vec()).ask(TIMEOUT);
    assert_eq!(exec("exit 0"), Outcome::Pass);
    assert_eq!(exec("exit 3"), Outcome::Fail("exit status: 3".to_owned()));
    assert!(matches!(exec("exec sleep 60"), Outcome::Fail(_)));
}
