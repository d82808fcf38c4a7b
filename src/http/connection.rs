//! Accepts connections, serves HTTP/1 and HTTP/2 on them, and lets go of them without losing a request.

use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Version;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// A client has this long to send its first request's head; in HTTP/1 every later one, too, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// While draining, a connection must have been silent this long before it is closed: a request may be on its way.
const SILENCE: Duration = Duration::from_millis(500);
/// The last handshakes finish within this time once no new ones are let in.
const LAST_HANDSHAKES: Duration = Duration::from_millis(50);

/// A listener that is being served. Dropped, it goes on; `close` ends it.
pub struct Server {
    accepting: JoinHandle<()>,
    stop_accepting: watch::Sender<bool>,
    leave: watch::Sender<bool>,
    connections: TaskTracker,
}

/// Serves `router` on `listener`, which must be non-blocking. Needs a tokio runtime.
pub fn serve(listener: std::net::TcpListener, router: Router) -> io::Result<Server> {
    let listener = TcpListener::from_std(listener)?;
    let (stop_accepting, stop) = watch::channel(false);
    let (leave, leaving) = watch::channel(false);
    let connections = TaskTracker::new();
    let door = Door { router, leaving, connections: connections.clone() };
    let accepting = tokio::spawn(door.accept_until(listener, stop));
    Ok(Server { accepting, stop_accepting, leave, connections })
}

impl Server {
    /// Takes in what has connected, closes the listener, then waits until every connection has had its answers and is
    /// closed. Not bounded in time: the caller has the deadline.
    pub async fn close(self) {
        self.stop_accepting.send_replace(true);
        let _ = self.accepting.await;
        self.leave.send_replace(true);
        self.connections.close();
        self.connections.wait().await;
    }
}

struct Door {
    router: Router,
    leaving: watch::Receiver<bool>,
    connections: TaskTracker,
}

impl Door {
    async fn accept_until(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => wait_out(&error).await,
                },
                () = told(&mut stop) => break,
            }
        }
        self.take_backlog(listener).await;
    }

    /// Connections that the kernel has completed are ours: closing the listener over them would reset them.
    async fn take_backlog(&self, listener: TcpListener) {
        if let Err(error) = let_no_more_in(&listener) {
            tracing::debug!(%error, "the listener cannot be filtered; a connection made in its last instant may be reset");
        }
        let last_call = tokio::time::sleep(LAST_HANDSHAKES);
        let mut last_call = pin!(last_call);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => wait_out(&error).await,
                },
                () = &mut last_call => break,
            }
        }
        // tokio learns of new connections through epoll, a moment late; the kernel itself knows them all.
        let Ok(listener) = listener.into_std() else { return };
        loop {
            let accepted = listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            });
            match accepted {
                Ok(stream) => self.admit(stream),
                // These concern one connection; anything else, nobody waiting first of all, ends the backlog.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => break,
            }
        }
    }

    fn admit(&self, stream: TcpStream) {
        // Answers are written whole: waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        self.connections.spawn(serve_connection(stream, self.router.clone(), self.leaving.clone()));
    }
}

/// Resolves once `word` is true, or its sender is gone.
async fn told(word: &mut watch::Receiver<bool>) {
    let _ = word.wait_for(|said| *said).await;
}

/// Out of descriptors, accepting again at once would spin; other errors concern one connection.
async fn wait_out(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Drops every SYN to the listener. Handshakes under way still finish; a newcomer's kernel tries again a second later
/// and then finds the port closed, instead of being accepted by the kernel and reset by us.
///
/// A socket filter sees a TCP segment from its header on: byte 13 holds the flags, bit 1 of it is SYN.
fn let_no_more_in(listener: &TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

async fn serve_connection(stream: TcpStream, router: Router, mut leaving: watch::Receiver<bool>) {
    let activity = Activity::new();
    let io = TokioIo::new(Watched { stream, activity: activity.clone() });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let router = TowerToHyperService::new(router);
    let asked = activity.clone();
    let service = service_fn(move |request| {
        asked.note_request(request.version());
        router.call(request)
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        result = connection.as_mut() => return log_end(result),
        () = told(&mut leaving) => {}
        // hyper's own timer starts only once it knows which version of HTTP is spoken.
        () = activity.no_request_in(HEAD_TIMEOUT) => return tracing::debug!("connection closed: it never asked"),
    }
    // HTTP/2 says GOAWAY and loses nothing. In HTTP/1, hyper closes a connection that is between requests at once, with
    // whatever its client has just sent.
    while !activity.is_http2()
        && let Some(remaining) = SILENCE.checked_sub(activity.silence()).filter(|time| !time.is_zero())
    {
        tokio::select! {
            result = connection.as_mut() => return log_end(result),
            () = tokio::time::sleep(remaining) => {}
        }
    }
    if !activity.asked.load(Ordering::Relaxed) {
        return; // There is no request to finish, only half a head at most.
    }
    connection.as_mut().graceful_shutdown();
    log_end(connection.await);
}

fn log_end(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

/// When a connection last carried a byte in either direction, and whether it ever carried a request's head.
#[derive(Clone)]
struct Activity {
    born: Instant,
    /// Microseconds from `born`.
    last: Arc<AtomicU64>,
    asked: Arc<AtomicBool>,
    http2: Arc<AtomicBool>,
}

impl Activity {
    fn new() -> Self {
        Self { born: Instant::now(), last: Arc::default(), asked: Arc::default(), http2: Arc::default() }
    }

    fn note_request(&self, version: Version) {
        self.asked.store(true, Ordering::Relaxed);
        self.http2.store(version == Version::HTTP_2, Ordering::Relaxed);
    }

    fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Resolves after `time` where no request has come by then, and never otherwise.
    async fn no_request_in(&self, time: Duration) {
        tokio::time::sleep(time).await;
        if self.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn touch(&self) {
        let micros = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_micros(self.last.load(Ordering::Relaxed)))
    }
}

/// A stream that notes its activity.
struct Watched {
    stream: TcpStream,
    activity: Activity,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.touch();
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        if poll.is_ready() {
            self.activity.touch();
        }
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if poll.is_ready() {
            self.activity.touch();
        }
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
