//! One connection, from its accept to its close.

use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::activity::Activity;
use super::arriving::{Arriving, NeverWhole};
use super::moments::{Fault, Patience, SILENCE};
use super::watched::{Answer, Watched};
use super::{Answers, Stage, Stages};

/// A client has this long to send a request's head, from its first byte, or from the accept of its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A client that owes us its reading has this long to read on.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/2 client that has been silent this long is asked whether it lives, and has so long to answer.
const PING: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(20));
/// While closing, a connection without a request in flight has this long to leave.
const LAST_CALL: Duration = Duration::from_secs(2);
/// What it takes at least to tell an HTTP/2 client where its connection ends.
const PARTING: Duration = SILENCE.saturating_mul(2);

/// What a connection may take its time for, and what it may do.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    patience: Patience,
    one_request: bool,
}

impl Terms {
    pub(super) fn full(idle: Duration) -> Self {
        Self { patience: Patience { head: HEAD_TIMEOUT, idle, write: WRITE_TIMEOUT }, one_request: false }
    }

    /// One probe: to come back, its client must connect again.
    pub(super) fn reserve() -> Self {
        // Whoever probes asks at once. At a second each, a hundred silent newcomers a second would keep probes out of
        // the 64 places; so it takes more than two hundred.
        const NEWCOMER: Duration = Duration::from_millis(300);
        const PROBE: Duration = Duration::from_secs(1);
        Self { patience: Patience { head: NEWCOMER, idle: NEWCOMER, write: PROBE }, one_request: true }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // hyper's own time for heads begins where the last answer ends, and so would end idle connections.
        builder.http1().header_read_timeout(None).keep_alive(!self.one_request);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
        builder
    }
}

/// A connection that is about to be served.
pub(super) struct Session<A> {
    front: A,
    terms: Terms,
    stages: Stages,
    activity: Activity,
}

impl<A: Answers> Session<A> {
    pub(super) fn new(front: A, terms: Terms, stages: &Stages) -> Self {
        Self { front, terms, stages: stages.clone(), activity: Activity::new() }
    }

    /// Serves `stream` until either end has had enough, and nothing is in flight on it.
    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let activity = self.activity.clone();
        self.serve(stream).await;
        // Over HTTP/2 requests are tasks of their own, which hear a moment later that their connection is gone.
        let _ = tokio::time::timeout(SILENCE, activity.settled()).await;
    }

    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let io = TokioIo::new(Watched::new(stream, self.activity.clone()));
        let (front, activity, stages) = (self.front.clone(), self.activity.clone(), self.stages.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let in_flight = activity.begin();
            let (request, arrival) = Arriving::request(request);
            let (front, cut, stages) = (front.clone(), activity.cut(), stages.clone());
            async move {
                // An error ends an HTTP/1 connection, and resets only the stream of an HTTP/2 one.
                let answer = arrival.unless_never_whole(pin!(front.answer(request, cut)), stages).await?;
                Ok::<_, NeverWhole>(answer.map(|body| Answer::new(body, in_flight)))
            }
        });
        let builder = self.terms.builder();
        let mut connection = pin!(builder.serve_connection(io, service));
        let patience = self.terms.patience;

        tokio::select! {
            result = connection.as_mut() => return log_end(result),
            fault = self.activity.overdue(&patience) => if fault != Fault::Idle { return self.cut(fault) },
            () = told_to_leave(&self.terms, &self.activity, &mut self.stages) => {}
        }
        // ## Open => Leaving
        let leave = async {
            self.activity.say_farewell();
            // hyper closes an HTTP/1 connection that is between requests at once, with whatever its client has just
            // sent, and soon refuses what comes over HTTP/2.
            let mut silence = Some(Duration::ZERO);
            while let Some(left) = silence {
                tokio::select! {
                    biased; // What has come by now is no silence.
                    result = connection.as_mut() => return result,
                    () = sleep_and_look(left) => {}
                }
                silence = self.activity.silence_left();
            }
            if !self.activity.deserves_a_farewell() {
                return Ok(()); // There is no request to finish, only half a head at most.
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        tokio::select! {
            result = leave => log_end(result),
            fault = overstays(&patience, &self.activity, &mut self.stages) => self.cut(fault),
        }
    }

    /// Said before the connection is dropped.
    fn cut(&self, fault: Fault) {
        self.activity.note_cut();
        tracing::debug!(?fault, "connection dropped");
    }
}

/// Resolves when an HTTP/2 connection that has asked is to be told to leave, and any connection when all are.
async fn told_to_leave(terms: &Terms, activity: &Activity, stages: &mut Stages) {
    if !terms.one_request {
        stages.reach(Stage::SendOff).await;
    }
    tokio::select! {
        () = activity.asked_over_http2() => {}
        () = stages.reach(Stage::Leave) => {}
    }
}

/// Resolves when a connection that was told to leave has been there for too long: for as long as a head may take, until
/// the end comes.
async fn overstays(patience: &Patience, activity: &Activity, stages: &mut Stages) -> Fault {
    tokio::select! {
        fault = activity.overstays(patience, Instant::now() + patience.head.max(PARTING)) => return fault,
        () = stages.reach(Stage::Leave) => {}
    }
    activity.holds_the_end(patience, Instant::now() + LAST_CALL).await
}

/// After it, what the kernel had for us is known: on a busy machine, a timer is late, and a request may be there already.
async fn sleep_and_look(time: Duration) {
    tokio::time::sleep(time).await;
    tokio::task::yield_now().await;
}

fn log_end(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

#[cfg(test)]
mod tests;
