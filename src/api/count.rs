//! What is noted of a request: when it came through each stage, and how it ended. Told when it ends, to the metrics, to
//! the log where it was slow, and to a collector of traces where it is kept.

use std::time::Instant;

use axum::http::StatusCode;
use opentelemetry::KeyValue;
use tonic::Code;

use super::error::Error;
use super::{Ids, Shared};
use crate::batch::{Handle, Passage};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::protocol::Protocol;
use crate::telemetry::trace::{self, Place, Tracer};

/// Between what is noted of a request, in this order.
const STAGES: [&str; 5] = ["receive", "parse", "queue", "compute", "format"];
/// The stage in a batch.
const COMPUTE: usize = 3;

/// Counts a request when it ends, even if its client has left and nobody finishes handling it.
pub struct Count<'a> {
    shared: &'a Shared,
    model: &'a Handle,
    protocol: Protocol,
    ids: &'a Ids,
    course: Course,
    /// 0 before it is known.
    rows: usize,
    outcome: Outcome,
    /// What was ours.
    failure: Option<String>,
    status: StatusCode,
    code: Code,
}

/// When a request came how far.
struct Course {
    began: Instant,
    received: Option<Instant>,
    parsed: Option<Instant>,
    passage: Passage,
}

impl Course {
    /// Each stage that it came to, and when it was there; the last one until it `ended`.
    fn stages(&self, ended: Instant) -> Vec<(&'static str, Instant, Instant)> {
        let Passage { taken, computed, .. } = self.passage;
        let begins = [Some(self.began), self.received, self.parsed, taken, computed];
        let reached = begins.iter().map_while(|begin| *begin);
        let ends = reached.clone().skip(1).chain([ended]);
        STAGES.into_iter().zip(reached.zip(ends)).map(|(stage, (from, to))| (stage, from, to)).collect()
    }
}

impl<'a> Count<'a> {
    /// Of a request to `model` that `began` with its head.
    pub fn new(shared: &'a Shared, model: &'a Handle, protocol: Protocol, ids: &'a Ids, began: Instant) -> Self {
        let course = Course { began, received: None, parsed: None, passage: Passage::default() };
        let (outcome, status, code) = (Outcome::Left, StatusCode::OK, Code::Ok);
        Self { shared, model, protocol, ids, course, rows: 0, outcome, failure: None, status, code }
    }

    /// Its body is whole.
    pub fn received(&mut self) {
        self.course.received = Some(Instant::now());
    }

    /// Its `rows` are waiting.
    pub(super) fn parsed(&mut self, rows: usize) {
        self.course.parsed = Some(Instant::now());
        self.rows = rows;
    }

    /// Its place in a trace that is kept.
    pub(super) fn trace(&self) -> Option<Place> {
        self.ids.kept()
    }

    /// It came through its batch.
    pub(super) fn passed(&mut self, passage: Passage) {
        self.course.passage = passage;
    }

    /// It ended like this; a failure of ours is logged, with the request's ids.
    pub fn end<T>(mut self, result: &Result<T, Error>) {
        self.outcome = outcome(result);
        let Err(error) = result else { return };
        (self.status, self.code) = (error.status(), error.code());
        if self.status.is_server_error() {
            self.failure = Some(error.message().to_owned());
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            let (model, error) = (self.model.version.id(), error.message());
            let trace_id = self.ids.trace().map(tracing::field::display);
            tracing::warn!(model, request_id = self.ids.request(), trace_id, error, "request failed");
        }
    }

    /// One line for some of those that took long, at info level: which it was, and where its time went, in seconds.
    fn tell_slow(&self, ended: Instant, skipped: u64) {
        let mut seconds = self.course.stages(ended).into_iter().map(|(_, from, to)| (to - from).as_secs_f64());
        let mut next = || seconds.next();
        tracing::info!(
            model = self.model.version.id(),
            request_id = self.ids.request(),
            trace_id = self.ids.trace().map(tracing::field::display),
            protocol = self.protocol.name(),
            outcome = self.outcome.name(),
            rows = self.rows,
            batch_rows = self.course.passage.rows,
            seconds = (ended - self.course.began).as_secs_f64(),
            receive = next(),
            parse = next(),
            queue = next(),
            compute = next(),
            format = next(),
            skipped,
            "slow request"
        );
    }

    fn tell_collector(&self, tracer: &Tracer, ended: Instant) {
        let Some(place) = self.trace() else { return };
        let version = &self.model.version;
        let mut attributes = trace::model(&version.name, &version.version);
        attributes.extend([
            KeyValue::new("torchpod.request_id", self.ids.request().to_owned()),
            KeyValue::new("torchpod.outcome", self.outcome.name()),
            KeyValue::new("torchpod.rows", i64::try_from(self.rows).unwrap_or(i64::MAX)),
        ]);
        attributes.extend(self.protocol.attributes(self.status.as_u16(), self.code.into()));
        tracer.request(trace::Request {
            place,
            parent: self.ids.parent(),
            name: self.protocol.span(),
            attributes,
            failure: self.failure.as_deref(),
            began: self.course.began,
            ended,
            stages: self.course.stages(ended),
            batch: self.course.passage.batch.map(|batch| (STAGES[COMPUTE], batch)),
        });
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let ended = Instant::now();
        let Course { began, received, parsed, passage } = &self.course;
        let (metrics, telemetry) = (&self.model.metrics, &self.shared.telemetry);
        metrics.request(self.protocol, self.outcome, self.rows, ended - *began);
        if let Some((received, parsed)) = received.zip(*parsed) {
            metrics.parse_time(parsed - received);
        }
        if let Some(computed) = passage.computed.filter(|_| self.outcome == Outcome::Ok) {
            metrics.format_time(ended - computed);
        }
        if let Some(skipped) = telemetry.slow.tell(ended - *began) {
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
        let mut course = Course { began, received: None, parsed: None, passage: Passage::default() };
        let split = |course: &Course| -> Vec<(&str, u128)> {
            course.stages(at(99)).into_iter().map(|(stage, from, to)| (stage, (to - from).as_micros())).collect()
        };
        assert_eq!(split(&course), [("receive", 99)]);
        course.received = Some(at(1));
        course.parsed = Some(at(3));
        assert_eq!(split(&course), [("receive", 1), ("parse", 2), ("queue", 96)]);
        course.passage = Passage { taken: Some(at(10)), computed: Some(at(60)), ..Passage::default() };
        let whole = [("receive", 1), ("parse", 2), ("queue", 7), ("compute", 50), ("format", 39)];
        assert_eq!(split(&course), whole);
    }
}
