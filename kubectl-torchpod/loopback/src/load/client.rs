//! Clients of HTTP, of two kinds. Neither sends a request twice: what was sent and not answered is lost, whether another
//! client might have tried again or not.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use crate::client::{Answer, Connection, JSON, SAMPLE, predict_request};
use crate::cluster::Shared;

/// Why a request was lost, and on which pod.
pub(crate) type Failure = (Option<usize>, String);

pub(crate) trait Client {
    fn ask(&mut self, cluster: &Shared) -> Result<(), Failure>;
}

/// A connection for each request.
pub(crate) struct Fresh {
    chance: fastrand::Rng,
    request: Vec<u8>,
}

impl Fresh {
    pub(crate) fn new(seed: u64) -> Fresh {
        Fresh { chance: fastrand::Rng::with_seed(seed), request: predict_request(JSON, SAMPLE) }
    }
}

impl Client for Fresh {
    fn ask(&mut self, cluster: &Shared) -> Result<(), Failure> {
        let (pod, address) = pick(cluster, &mut self.chance)?;
        let answer = Connection::open(address).and_then(|mut connection| connection.ask(&self.request));
        judged(answer).map(drop).map_err(|why| (Some(pod), why))
    }
}

/// As many connections as a small pool has, in turn, each kept until it is told to close or found closed.
pub(crate) struct Kept {
    chance: fastrand::Rng,
    request: Vec<u8>,
    pool: Vec<Option<Open>>,
    next: usize,
}

struct Open {
    pod: usize,
    connection: Connection,
    /// The same socket.
    stream: TcpStream,
}

impl Kept {
    pub(crate) fn new(seed: u64) -> Kept {
        let pool = (0..8).map(|_| None).collect();
        Kept { chance: fastrand::Rng::with_seed(seed), request: predict_request(JSON, SAMPLE), pool, next: 0 }
    }
}

impl Client for Kept {
    fn ask(&mut self, cluster: &Shared) -> Result<(), Failure> {
        self.next = (self.next + 1) % self.pool.len();
        let kept = self.pool[self.next].take().filter(Open::is_open);
        let mut open = kept.map_or_else(|| Open::new(cluster, &mut self.chance), Ok)?;
        let answer = judged(open.connection.ask(&self.request)).map_err(|why| (Some(open.pod), why))?;
        if !answer.says_close() {
            self.pool[self.next] = Some(open);
        }
        Ok(())
    }
}

impl Open {
    fn new(cluster: &Shared, chance: &mut fastrand::Rng) -> Result<Open, Failure> {
        let (pod, address) = pick(cluster, chance)?;
        let connected = TcpStream::connect(address).and_then(|stream| Ok((stream.try_clone()?, stream)));
        let (own, stream) = connected.map_err(|error| (Some(pod), error.to_string()))?;
        Ok(Open { pod, connection: Connection::over(own), stream })
    }

    /// Whether the server has not closed it yet, as far as one can know before sending.
    fn is_open(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        self.stream.set_nonblocking(false).is_ok() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

pub(super) fn pick(cluster: &Shared, chance: &mut fastrand::Rng) -> Result<(usize, SocketAddr), Failure> {
    cluster.pick(chance).ok_or_else(|| (None, "refused: the Service has no pods".to_owned()))
}

/// The right answer, or what was wrong with it.
fn judged(answer: io::Result<Answer>) -> Result<Answer, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    let is_right = answer.status == 200 && answer.label() == json!("7");
    if is_right { Ok(answer) } else { Err(format!("{} {}", answer.status, answer.text())) }
}
