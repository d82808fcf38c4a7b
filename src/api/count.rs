//! A request, counted: what is noted of it on its way, and told when it ends. To the metrics always, to the log where it
//! was slow, and to a collector of traces where it is kept.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use axum::http::StatusCode;
use opentelemetry::KeyValue;
use tonic::Code;

use super::error::Error;
use super::{Ids, Shared};
use crate::batch::{Handle, Passage};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::protocol::Protocol;
use crate::telemetry::trace::{self, Part, Tracer};

/// Counts a request when it ends, even if its client has left and nobody finishes handling it.
pub struct Count<'a> {
    shared: &'a Shared,
    model: &'a Handle,
    protocol: Protocol,
    ids: &'a Ids,
    course: Course,
    /// 0 before it is known.
    rows: usize,
    /// `None` where nobody was left to be answered.
    answered: Option<(StatusCode, Code)>,
    outcome: Outcome,
    /// Why there are no outputs; `None` where that was for the client to prevent.
    failure: Option<String>,
}

/// When a request came how far.
struct Course {
    began: Instant,
    received: Option<Instant>,
    /// With what the batches have noted since.
    parsed: Option<(Instant, Arc<Passage>)>,
}

/// What a request goes through, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Receive,
    Parse,
    Queue,
    Compute,
    Format,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Receive, Self::Parse, Self::Queue, Self::Compute, Self::Format];

    fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Queue => "queue",
            Self::Compute => "compute",
            Self::Format => "format",
        }
    }
}

impl Course {
    /// Each stage that the request came to, and when it was there; the last one until it `ended`.
    fn stages(&self, ended: Instant) -> Vec<(Stage, Instant, Instant)> {
        let so_far = self.parsed.as_ref().map(|(_, passage)| passage.so_far()).unwrap_or_default();
        let parsed = self.parsed.as_ref().map(|(parsed, _)| *parsed);
        let begins = [Some(self.began), self.received, parsed, so_far.taken, so_far.computed];
        let reached = begins.iter().map_while(|begin| *begin);
        let ends = reached.clone().skip(1).chain([ended]);
        Stage::ALL.into_iter().zip(reached.zip(ends)).map(|(stage, (from, to))| (stage, from, to)).collect()
    }
}

impl<'a> Count<'a> {
    /// Of a request to `model` that `began` with its head.
    pub fn new(shared: &'a Shared, model: &'a Handle, protocol: Protocol, ids: &'a Ids, began: Instant) -> Self {
        let course = Course { began, received: None, parsed: None };
        Self { shared, model, protocol, ids, course, rows: 0, answered: None, outcome: Outcome::Left, failure: None }
    }

    /// Its body is whole.
    pub fn received(&mut self) {
        self.course.received = Some(Instant::now());
    }

    /// Its `rows` are about to wait for a batch, which is to note how they fare.
    pub(super) fn parsed(&mut self, rows: usize) -> Arc<Passage> {
        let passage = Arc::new(Passage::new(self.ids.kept()));
        self.course.parsed = Some((Instant::now(), passage.clone()));
        self.rows = rows;
        passage
    }

    /// It ended like this; a failure of ours is logged, with the request's ids.
    pub fn end<T>(mut self, result: &Result<T, Error>) {
        self.outcome = outcome(result);
        self.answered =
            Some(result.as_ref().map_or_else(|error| (error.status(), error.code()), |_| (StatusCode::OK, Code::Ok)));
        let Err(error) = result else { return };
        if error.status().is_server_error() {
            self.failure = Some(error.message().to_owned());
        }
        if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
            let (model, error) = (self.model.version.id(), error.message());
            let trace_id = self.ids.trace().map(tracing::field::display);
            tracing::warn!(model, request_id = self.ids.request(), trace_id, error, "request failed");
        }
    }

    /// One line for some of those that took long, at info level: which it was, and where its time went, in seconds.
    fn tell_slow(&self, ended: Instant, skipped: u64) {
        let stages = self.course.stages(ended);
        let seconds = |wanted: Stage| {
            let stage = stages.iter().find(|(stage, ..)| *stage == wanted);
            stage.map(|(_, from, to)| (*to - *from).as_secs_f64())
        };
        tracing::info!(
            model = self.model.version.id(),
            request_id = self.ids.request(),
            trace_id = self.ids.trace().map(tracing::field::display),
            protocol = self.protocol.name(),
            outcome = self.outcome.name(),
            rows = self.rows,
            batch_rows = self.course.parsed.as_ref().map_or(0, |(_, passage)| passage.so_far().rows),
            seconds = (ended - self.course.began).as_secs_f64(),
            receive = seconds(Stage::Receive),
            parse = seconds(Stage::Parse),
            queue = seconds(Stage::Queue),
            compute = seconds(Stage::Compute),
            format = seconds(Stage::Format),
            skipped,
            "slow request"
        );
    }

    fn tell_collector(&self, tracer: &Tracer, ended: Instant) {
        let Some(place) = self.ids.kept() else { return };
        let version = &self.model.version;
        let mut attributes = trace::model(&version.name, &version.version);
        attributes.extend([
            KeyValue::new("torchpod.request_id", self.ids.request().to_owned()),
            KeyValue::new("torchpod.outcome", self.outcome.name()),
            KeyValue::new("torchpod.rows", i64::try_from(self.rows).unwrap_or(i64::MAX)),
        ]);
        attributes.extend(self.protocol.attributes(self.answered));
        let batch = self.course.parsed.as_ref().and_then(|(_, passage)| passage.so_far().batch);
        let part = |(stage, from, to): (Stage, Instant, Instant)| {
            let link = batch.filter(|_| stage == Stage::Compute);
            Part { name: stage.name(), from, to, link }
        };
        tracer.request(trace::Request {
            place,
            parent: self.ids.parent(),
            state: self.ids.state(),
            name: self.protocol.span(),
            attributes,
            failure: self.failure.as_deref(),
            from: self.course.began,
            to: ended,
            parts: self.course.stages(ended).into_iter().map(part).collect(),
        });
        self.ids.told();
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        // Whoever handles it panicked: it is answered by whoever catches that.
        if self.answered.is_none() && thread::panicking() {
            self.outcome = Outcome::ServerError;
            self.answered = Some((StatusCode::INTERNAL_SERVER_ERROR, Code::Internal));
            self.failure = Some("its handler panicked".to_owned());
        }
        let ended = Instant::now();
        let Course { began, received, parsed } = &self.course;
        let (metrics, telemetry) = (&self.model.metrics, &self.shared.telemetry);
        metrics.request(self.protocol, self.outcome, self.rows, ended - *began);
        if let Some((parsed, passage)) = parsed {
            if let Some(received) = received {
                metrics.parse_time(*parsed - *received);
            }
            if let Some(computed) = passage.so_far().computed.filter(|_| self.outcome == Outcome::Ok) {
                metrics.format_time(ended - computed);
            }
        }
        if let Some(skipped) = telemetry.slow.tell(ended - *began, ended) {
            self.tell_slow(ended, skipped);
        }
        if let Some(tracer) = &telemetry.tracer {
            self.tell_collector(tracer, ended);
        }
    }
}

fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result.as_ref().map_err(Error::status) {
        Ok(_) => Outcome::Ok,
        Err(status) if status.is_client_error() => Outcome::ClientError,
        Err(StatusCode::SERVICE_UNAVAILABLE) => Outcome::Refused,
        Err(StatusCode::GATEWAY_TIMEOUT) => Outcome::Deadline,
        Err(_) => Outcome::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_stages_of_a_request_follow_one_another_and_the_last_one_lasts_to_its_end() {
        let began = Instant::now();
        let at = |micros| began + Duration::from_micros(micros);
        let mut course = Course { began, received: None, parsed: None };
        let split = |course: &Course| -> Vec<(&str, u128)> {
            let stages = course.stages(at(99)).into_iter();
            stages.map(|(stage, from, to)| (stage.name(), (to - from).as_micros())).collect()
        };
        assert_eq!(split(&course), [("receive", 99)]);
        course.received = Some(at(1));
        let passage = Arc::new(Passage::default());
        course.parsed = Some((at(3), passage.clone()));
        assert_eq!(split(&course), [("receive", 1), ("parse", 2), ("queue", 96)]);
        passage.take(at(10), 1, None);
        assert_eq!(split(&course), [("receive", 1), ("parse", 2), ("queue", 7), ("compute", 89)]);
        passage.end(at(60));
        let whole = [("receive", 1), ("parse", 2), ("queue", 7), ("compute", 50), ("format", 39)];
        assert_eq!(split(&course), whole);
    }
}
