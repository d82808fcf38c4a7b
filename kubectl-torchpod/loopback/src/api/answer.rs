//! Answers: JSON with a status.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::Value;

use crate::object::Problem;

pub(super) type Answer = Response<Body>;

pub(super) fn json(status: u16, value: &Value) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    let mut answer = Response::new(Body::from(value.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn problem(problem: &Problem) -> Answer {
    json(problem.code(), &problem.status())
}

pub(super) fn text(text: String) -> Answer {
    let mut answer = Response::new(Body::from(text));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    answer
}
