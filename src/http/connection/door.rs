//! The listener: whom it lets in, who is served by the reserve, and how it closes without resetting anybody.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::session::{Session, Terms};
use super::{Answers, Fronts, Limits, Stage, Stages};

/// Connections above the limit that are still served, so that probes are.
pub(super) const RESERVE: usize = 64;
/// The kernel takes no more than about so many bytes that a client's window has no room for.
const UNSENT: u32 = 128 << 10;
/// The last handshakes finish within this time once no new ones are let in.
const LAST_HANDSHAKES: Duration = Duration::from_millis(50);
/// The pause between two warnings of one kind.
const SELDOM: Duration = Duration::from_secs(10);

pub(super) struct Door<A> {
    fronts: Fronts<A>,
    limits: Limits,
    stages: Stages,
    connections: TaskTracker,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    full: Seldom,
    failed: Seldom,
}

impl<A: Answers> Door<A> {
    pub(super) fn new(fronts: Fronts<A>, limits: Limits, stages: Stages, connections: TaskTracker) -> Self {
        let places = limits.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            fronts,
            limits,
            stages,
            connections,
            places: Arc::new(Semaphore::new(places)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            full: Seldom::default(),
            failed: Seldom::default(),
        }
    }

    pub(super) async fn accept_until_closed(mut self, listener: TcpListener) {
        let mut stages = self.stages.clone();
        self.accept_until(&listener, stages.reach(Stage::Closed)).await;
        self.take_backlog(listener).await;
    }

    async fn accept_until(&mut self, listener: &TcpListener, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => self.wait_out(&error).await,
                },
                () = &mut end => break,
            }
        }
    }

    /// Connections that the kernel has completed are ours: closing the listener over them would reset them.
    async fn take_backlog(&mut self, listener: TcpListener) {
        if let Err(error) = let_no_more_in(&listener) {
            tracing::debug!(%error, "the listener cannot be filtered; a connection made in its last instant may be reset");
        }
        self.accept_until(&listener, tokio::time::sleep(LAST_HANDSHAKES)).await;
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

    /// Serves a newcomer on the terms of the place that is free for it. Where none is, it is closed.
    fn admit(&mut self, stream: TcpStream) {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            let session = Session::new(self.fronts.all.clone(), Terms::full(self.limits.idle_timeout), &self.stages);
            return self.spawn(session, stream, place);
        }
        if let Some(newcomers) = self.full.say() {
            tracing::warn!(
                newcomers,
                open = self.connections.len(),
                max_connections = self.limits.max_connections,
                "too many connections: probes are answered, other newcomers are refused"
            );
        }
        if let Ok(place) = self.reserve.clone().try_acquire_owned() {
            self.spawn(Session::new(self.fronts.reserve.clone(), Terms::reserve(), &self.stages), stream, place);
        }
    }

    fn spawn(&self, session: Session<A>, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Answers are written whole: waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        // Writes are how we see a client read; with the kernel's megabytes between, a slow reader would look like none.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        self.connections.spawn(async move {
            session.run(stream).await;
            drop(place);
        });
    }

    /// Out of descriptors, accepting again at once would spin; other errors concern one connection.
    async fn wait_out(&mut self, error: &io::Error) {
        if let Some(times) = self.failed.say() {
            tracing::warn!(%error, times, "accept failed");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Keeps a warning that comes in a flood to one in [`SELDOM`].
#[derive(Default)]
struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// How often it happened since this was last said, where it is time to say it.
    fn say(&mut self) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| said.elapsed() < SELDOM) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_warnings_is_said_once_in_ten_seconds_with_its_number() {
        let mut warning = Seldom::default();
        let said: Vec<_> = (0..5).map(|_| warning.say()).collect();
        assert_eq!(said, [Some(1), None, None, None, None]);
        tokio::time::advance(SELDOM).await;
        assert_eq!((warning.say(), warning.say()), (Some(5), None));
    }
}
