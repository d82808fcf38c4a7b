//! A span from what was noted of it.

use std::time::{Instant, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Place;

/// The same moment on both clocks: what was noted by one is told by the other.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    steady: Instant,
    wall: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// What time it was then.
    fn wall(self, then: Instant) -> SystemTime {
        self.wall.checked_sub(self.steady.saturating_duration_since(then)).unwrap_or(self.wall)
    }

    /// A span of that name, from one time to another.
    pub(super) fn span(
        self,
        scope: &InstrumentationScope,
        place: Place,
        parent: Option<SpanId>,
        name: &'static str,
        (from, to): (Instant, Instant),
    ) -> SpanData {
        SpanData {
            span_context: context(place, TraceState::NONE),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: self.wall(from),
            end_time: self.wall(to),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope.clone(),
        }
    }
}

pub(super) fn context(Place { trace, span }: Place, state: TraceState) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state)
}

pub(super) fn link(to: Place) -> Link {
    Link::with_context(context(to, TraceState::NONE))
}

pub(super) fn number(name: &'static str, number: usize) -> KeyValue {
    KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX))
}
